"""COCO, Karpathy's splits of it, VizWiz-Captions and nocaps in the layouts in which they are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import opened, picture
from helpers_errors import refused
from helpers_published import coco, karpathy, nocaps
from helpers_sets import ids, put, said, write


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
    assert "its test2017, testdev2017 has no texts, tested on all of val" in opened(folder).notes[0]


def test_coco_of_two_years_asks_which(tmp_path: Path) -> None:
    coco(coco(tmp_path, 2014), 2017)
    with refused("train2014 and train2017 are of two years: say which is meant with --split"):
        opened(tmp_path)
    chosen = f"{tmp_path}?split=train=train2014,val=val2014,test=val2017"
    assert [len(opened(chosen, split)) for split in ("train", "val", "test")] == [20, 3, 3]  # type: ignore[arg-type]
    assert np.array_equal(opened(chosen, "test").image(0), picture(21))  # type: ignore[arg-type]


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
    assert "2 captions marked as rejected or precanned" in notes and "test has no texts" in notes


def test_nocaps_is_for_evaluation_alone(tmp_path: Path) -> None:
    source = opened(nocaps(tmp_path), "test")
    assert [source.image_id(index) for index in range(len(source))] == list("012345")
    assert source.example(4).captions == tuple(f"caption {j} of 4" for j in range(10))
    assert np.array_equal(source.image(4), picture(4)) and "for evaluation alone" in source.notes[0]
    assert [item.domain for item in source.rows][:3] == ["in-domain", "near-domain", "out-domain"]
    with refused("has no train split"):
        opened(tmp_path)
