"""COCO layout in its three forms, and its faults."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers_data import coco, opened, photo
from PIL import Image

from gitbench.data.readers.coco import hashed_split
from gitbench.errors import GitbenchError


def test_coco_in_one_file_is_divided_by_name(tmp_path: Path) -> None:
    names = [f"{k:04d}.png" for k in range(40)]
    folder = coco(tmp_path / "coco", names)
    ids = {
        split: [opened(folder, split).image_id(k) for k in range(len(opened(folder, split)))]
        for split in ("train", "val", "test")
    }
    assert sorted(int(name) for split in ids.values() for name in split) == list(range(7, 47))
    assert len(ids["train"]) > 25 and ids["val"] and ids["test"]
    # adding images moves none
    coco(folder, [*names, "new1.png", "new2.png"])
    assert set(ids["val"]) <= {opened(folder, "val").image_id(k) for k in range(len(opened(folder, "val")))}
    source = opened(folder, hashed_split("0003.png"))
    (index,) = [k for k in range(len(source)) if source.image_id(k) == "10"]
    assert source.example(index).captions == ("caption 0 of 0003.png", "caption 1 of 0003.png")
    assert np.array_equal(source.image(index), np.asarray(Image.open(io.BytesIO(photo(3)))))


@pytest.mark.parametrize("pattern", ["{}.json", "captions_{}.json", "annotations/captions_{}2017.json"])
def test_coco_with_a_file_per_split(tmp_path: Path, pattern: str) -> None:
    for split in ("train", "val", "test"):
        coco(tmp_path, [f"{split}{k}.png" for k in range(2)], pattern.format(split))
    assert [opened(tmp_path, "val").example(k).captions[0] for k in (0, 1)] == [
        "caption 0 of val0.png",
        "caption 0 of val1.png",
    ]


def test_coco_split_field_and_karpathy(tmp_path: Path) -> None:
    folder = tmp_path / "k"
    (folder / "images" / "val2014").mkdir(parents=True)
    images = []
    for number, split in enumerate(("train", "restval", "val", "test")):
        (folder / "images" / "val2014" / f"{number}.png").write_bytes(photo(number))
        said = [{"raw": f"Caption of {split}", "tokens": []}]
        images.append(
            {
                "filepath": "val2014",
                "filename": f"{number}.png",
                "cocoid": 900 + number,
                "split": split,
                "sentences": said,
            }
        )
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images}))
    train = opened(folder)
    assert [train.image_id(k) for k in range(len(train))] == ["900", "901"]
    assert opened(folder, "test").example(0).captions == ("Caption of test",)
    assert train.image(1).shape == (18, 24, 3)


def test_coco_faults(tmp_path: Path) -> None:
    folder = coco(tmp_path / "m", ["a.png", "b.png"], "train.json")
    (folder / "images" / "b.png").unlink()
    with pytest.raises(
        GitbenchError, match=r"train.json, image b.png: image .*b.png is missing: add it or remove its row"
    ):
        opened(folder)
    (folder / "train.json").write_text('{"images": [')
    with pytest.raises(GitbenchError, match="train.json is not whole JSON"):
        opened(folder)
    (folder / "train.json").write_text("[]")
    with pytest.raises(GitbenchError, match="is not a COCO caption file"):
        opened(folder)
    (folder / "train.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(GitbenchError, match="holds no images with captions"):
        opened(folder)
    coco(folder, ["a.png"], "train.json")
    content = json.loads((folder / "train.json").read_text())
    (folder / "train.json").write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(GitbenchError, match="image a.png: the image has no caption"):
        opened(folder)
