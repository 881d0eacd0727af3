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


def noted(
    folder: Path, images: list[dict[str, object]], notes: list[dict[str, object]], encoding: str = "utf-8"
) -> None:
    (folder / "val.json").write_text(json.dumps({"images": images, "annotations": notes}), encoding=encoding)


def test_captions_that_vizwiz_rejects_or_has_ready_are_left_out(tmp_path: Path) -> None:
    images = [{"id": k, "file_name": f"{k}.png"} for k in (1, 2)]
    for k in (1, 2):
        (tmp_path / f"{k}.png").write_bytes(photo(k))
    kept = {"is_rejected": False, "is_precanned": False}
    notes = [
        {"image_id": 1, "caption": "a can of beans", **kept},
        {
            "image_id": 1,
            "caption": "Quality issues are too severe to recognize visual content.",
            **kept,
            "is_precanned": True,
        },
        {"image_id": 1, "caption": "asdf", **kept, "is_rejected": True},
        {"image_id": 2, "caption": "spam", **kept, "is_rejected": True},
    ]
    noted(tmp_path, images, notes)
    source = opened(tmp_path, "val")
    assert [source.example(k).captions for k in range(len(source))] == [("a can of beans",)]
    said = "val.json: 3 captions marked as rejected or precanned are left out, and 1 images that have no other"
    assert said in source.notes


def test_files_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(photo(0))
    image = {"id": 7, "file_name": "0.png"}
    noted(tmp_path, [image], [{"image_id": "7", "caption": "a dog"}], "utf-8-sig")  # Windows; an id as text
    assert opened(tmp_path, "val").example(0).captions == ("a dog",)
    noted(tmp_path, [image], [{"image_id": 7, "caption": "a dog"}, {"image_id": 8, "caption": "a cat"}])
    source = opened(tmp_path, "val")
    assert "val.json: 1 captions of images that it does not list are left out" in source.notes
    noted(tmp_path, [image], [{"image_id": 8, "caption": "a cat"}])
    with refused(r"val.json: no caption belongs to an image \(first image_id: 8\): match them with the ids"):
        opened(tmp_path, "val")


def test_eight_images_are_divided(tmp_path: Path) -> None:
    folder = coco(tmp_path, [f"{k}.png" for k in range(8)])
    assert sorted(len(ids(folder, split)) for split in SPLITS) == [1, 1, 6]


def test_two_files_of_a_split_are_refused(tmp_path: Path) -> None:
    coco(tmp_path, ["a.png"], "val.json")
    coco(tmp_path, ["a.png"], "annotations/val.json")
    with refused("val.json and annotations/val.json hold captions of the same images: leave one"):
        opened(tmp_path, "val")
