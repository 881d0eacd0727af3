"""COCO layout in its three forms, and its faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_data import SPLITS, coco, opened, photo, picture
from helpers_errors import refused


def ids(folder: Path, split: str) -> list[str]:
    source = opened(folder, split)
    return [source.image_id(index) for index in range(len(source))]


def test_coco_in_one_file_is_divided_by_name(tmp_path: Path) -> None:
    names = [f"{k:04d}.png" for k in range(40)]
    folder = coco(tmp_path / "coco", names)
    found = {split: ids(folder, split) for split in SPLITS}
    assert sorted(int(name) for split in found.values() for name in split) == list(range(7, 47))
    assert len(found["train"]) > 25 and found["val"] and found["test"]
    (home,) = [split for split in SPLITS if "10" in found[split]]
    source, index = opened(folder, home), found[home].index("10")
    assert source.example(index).captions == ("caption 0 of 0003.png", "caption 1 of 0003.png")
    assert np.array_equal(source.image(index), picture(3))
    coco(folder, [*names, "new1.png", "new2.png"])
    assert all(set(found[split]) <= set(ids(folder, split)) for split in SPLITS)  # adding images moves none


@pytest.mark.parametrize("pattern", ["{}.json", "captions_{}.json", "annotations/captions_{}2017.json"])
def test_coco_with_a_file_per_split(tmp_path: Path, pattern: str) -> None:
    for split in SPLITS:
        coco(tmp_path, [f"{split}{k}.png" for k in range(2)], pattern.format(split))
    source = opened(tmp_path, "val")
    assert [source.example(k).captions[0] for k in (0, 1)] == ["caption 0 of val0.png", "caption 0 of val1.png"]


def test_coco_split_field_and_karpathy(tmp_path: Path) -> None:
    place = tmp_path / "images" / "val2014"
    place.mkdir(parents=True)
    images = []
    for number, split in enumerate(("train", "restval", "val", "test")):
        (place / f"{number}.png").write_bytes(photo(number))
        said = [{"raw": f"Caption of {split}", "tokens": []}]
        file = {"filepath": "val2014", "filename": f"{number}.png", "cocoid": 900 + number}
        images.append({**file, "split": split, "sentences": said})
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    assert ids(tmp_path, "train") == ["900", "901"]
    assert opened(tmp_path, "test").example(0).captions == ("Caption of test",)
    assert np.array_equal(opened(tmp_path).image(1), picture(1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "image b.png: image .*b.png is missing: add it or remove its row"),
        ('{"images": [', "val.json .*not whole JSON"),
        ("[]", "val.json is not a COCO caption file"),
        ('{"images": [], "annotations": []}', "holds no images with captions"),
        ('{"images": [{"id": 1, "file_name": "a.png"}]}', "image a.png: the image has no caption"),
    ],
)
def test_coco_faults(tmp_path: Path, content: str | None, message: str) -> None:
    folder = coco(tmp_path, ["a.png", "b.png"], "val.json")
    (folder / "images" / "b.png").unlink()
    if content is not None:
        (folder / "val.json").write_text(content)
    with refused(message):
        opened(folder, "val")
