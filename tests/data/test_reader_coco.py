"""COCO, Karpathy's splits of it, VizWiz-Captions and nocaps in the layouts in which they are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import opened, picture
from helpers_errors import refused
from helpers_sets import ids, put, said, write


def coco(folder: Path, year: int, counts: tuple[int, int] = (20, 3)) -> Path:
    """Write COCO as it is downloaded: images of train and val are numbered from 1 on."""
    start = 1
    for split, count in zip(("train", "val"), counts, strict=True):
        stem = f"COCO_{split}{year}_" if year == 2014 else ""
        images = {number: f"{stem}{number:012d}.jpg" for number in range(start, start + count)}
        put(folder, {f"{split}{year}/{name}": number for number, name in images.items()})
        write(folder, f"annotations/captions_{split}{year}.json", said(images, captions=5))
        boxes = {"images": said(images)["images"], "annotations": [{"id": 1, "image_id": start, "bbox": [1, 2, 3, 4]}]}
        for kind in ("instances", "person_keypoints"):
            write(folder, f"annotations/{kind}_{split}{year}.json", boxes)
        start += count
    return folder


@pytest.mark.parametrize("year", [2014, 2017])
def test_coco_as_downloaded(tmp_path: Path, year: int) -> None:
    folder = coco(tmp_path, year)
    found = ids(folder)
    assert found["test"] == ["21", "22", "23"] and found["val"]
    assert sorted(map(int, found["train"] + found["val"])) == list(range(1, 21))
    source = opened(folder, "test")
    assert source.example(1).captions == tuple(f"caption {k} of 22" for k in range(5))
    assert np.array_equal(source.image(1), picture(22))
    assert source.notes == ("states no test: tested on all of val; a tenth of train is held out as val",)


def test_coco_with_its_hidden_test(tmp_path: Path) -> None:
    folder = coco(tmp_path, 2017)
    put(folder, {f"test2017/{number:012d}.jpg": number for number in (90, 91)})
    listed = {"images": [{"id": number, "file_name": f"{number:012d}.jpg"} for number in (90, 91)], "categories": []}
    for name in ("test2017", "test-dev2017"):
        write(folder, f"annotations/image_info_{name}.json", listed)
    assert ids(folder)["test"] == ["21", "22", "23"]
    assert "its test2017, testdev2017 has no answers, tested on all of val" in opened(folder).notes[0]


def test_coco_of_two_years_asks_which(tmp_path: Path) -> None:
    coco(coco(tmp_path, 2014), 2017)
    with refused("train2014 and train2017 are of two years: say which is meant with --split"):
        opened(tmp_path)
    chosen = f"{tmp_path}?split=train=train2014,val=val2014,test=val2017"
    assert [len(opened(chosen, split)) for split in ("train", "val", "test")] == [20, 3, 3]  # type: ignore[arg-type]
    assert np.array_equal(opened(chosen, "test").image(0), picture(21))  # type: ignore[arg-type]


def karpathy(folder: Path, name: str = "dataset_coco.json", images: str = "") -> Path:
    """Write Karpathy's file: of COCO with `filepath`, of the Flickr sets with bare names; 6 train, 2 restval, 2 val, 2 test."""
    listed = []
    for number, split in enumerate(("train",) * 6 + ("restval",) * 2 + ("val",) * 2 + ("test",) * 2):
        place = "train2014" if split == "train" else "val2014"
        file = f"{number % 7}.jpg" if not images else f"{number}.jpg"  # of COCO some names are in both folders
        raw = [{"tokens": ["a"], "raw": f"Caption {k} of {number}.", "imgid": number, "sentid": k} for k in range(5)]
        entry: dict[str, Any] = {"filename": file, "imgid": number, "split": split, "sentences": raw, "sentids": [0]}
        if not images:
            entry |= {"filepath": place, "cocoid": 500 + number}
        listed.append(entry)
        put(folder, {f"{images or place}/{file}": number})
    write(folder, name, {"images": listed, "dataset": "x"})
    return folder


def test_karpathys_coco_beside_its_folders(tmp_path: Path) -> None:
    folder = karpathy(tmp_path)
    expected = {"train": range(500, 508), "val": (508, 509), "test": (510, 511)}
    assert ids(folder) == {split: [str(k) for k in numbers] for split, numbers in expected.items()}
    train, test = opened(folder), opened(folder, "test")
    assert np.array_equal(train.image(7), picture(7)) and np.array_equal(test.image(1), picture(11))
    assert train.example(7).captions[0] == "Caption 0 of 7." and len(train.example(7).captions) == 5


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("dataset_flickr30k.json", "flickr30k-images"),
        ("dataset_flickr8k.json", "Flicker8k_Dataset"),
        ("dataset_flickr8k.json", "my photos/all of them"),
    ],
)
def test_karpathys_flickr_with_images_anywhere(tmp_path: Path, name: str, images: str) -> None:
    folder = karpathy(tmp_path, name, images)
    assert {split: len(found) for split, found in ids(folder).items()} == {"train": 8, "val": 2, "test": 2}
    assert np.array_equal(opened(folder, "val").image(0), picture(8))
    (folder / images / "9.jpg").unlink()
    with refused("9.jpg is missing"):
        opened(folder, "val")


def test_vizwiz_captions(tmp_path: Path) -> None:
    for start, split in ((0, "train"), (20, "val"), (40, "test")):
        images = {start + k: f"VizWiz_{split}_{k:08d}.jpg" for k in range(12)}
        put(tmp_path, {f"{split}/{name}": number for number, name in images.items()})
        content = said(images, vizwiz_url="https://x", text_detected=True)
        for number, note in enumerate(content["annotations"]):
            note |= {"is_precanned": number == 0, "is_rejected": number in (0, 3), "text_detected": True}
        if split == "test":
            del content["annotations"]
        write(tmp_path, f"annotations/{split}.json", content)
    found = ids(tmp_path)
    assert found["test"] == [str(20 + k) for k in range(12)]  # of val: test's captions are hidden
    assert len(found["train"]) + len(found["val"]) == 12
    assert opened(tmp_path, "test").example(0).captions == ("caption 1 of 20",)
    notes = " ".join(opened(tmp_path, "test").notes)
    assert "2 captions marked as rejected or precanned" in notes and "test has no answers" in notes


def nocaps(folder: Path) -> Path:
    """Write nocaps: six images of val with captions and a domain each, and the image infos of both splits."""
    images = [{"id": k, "file_name": f"{k:016x}.jpg", "open_images_id": f"{k:016x}", "coco_url": "https://x",
               "domain": ("in-domain", "near-domain", "out-domain")[k % 3]} for k in range(6)]  # fmt: skip
    notes = [{"id": 10 * k + j, "image_id": k, "caption": f"caption {j} of {k}"} for k in range(6) for j in range(10)]
    put(folder, {f"images/{image['file_name']}": number for number, image in enumerate(images)})
    write(folder, "nocaps_val_4500_captions.json", {"images": images, "annotations": notes})
    bare = [{name: value for name, value in image.items() if name != "domain"} for image in images]
    write(folder, "nocaps_val_image_info.json", {"images": bare})
    hidden = [{"id": 7, "file_name": "7.jpg", "open_images_id": "7"}]
    write(folder, "nocaps_test_image_info.json", {"images": hidden})
    return folder


def test_nocaps_is_for_evaluation_alone(tmp_path: Path) -> None:
    source = opened(nocaps(tmp_path), "test")
    assert [source.image_id(index) for index in range(len(source))] == list("012345")
    assert source.example(4).captions == tuple(f"caption {j} of 4" for j in range(10))
    assert np.array_equal(source.image(4), picture(4)) and "for evaluation alone" in source.notes[0]
    assert [item.domain for item in source.rows][:3] == ["in-domain", "near-domain", "out-domain"]
    with refused("has no train split"):
        opened(tmp_path)
