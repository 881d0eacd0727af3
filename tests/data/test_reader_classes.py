"""Folders of classes, divided and in splits, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import CLASSIFY, coco, opened, picture, texts
from helpers_errors import refused
from helpers_sets import ids, put


def test_classes_in_folders_of_splits(tmp_path: Path) -> None:
    names = [(split, label) for split in ("train", "validation", "test") for label in ("cat", "old dog")]
    put(tmp_path, {f"{split}/{label}/1.jpg": number for number, (split, label) in enumerate(names)})
    put(tmp_path, {"train/zebra/Z.PNG": 9})
    assert ids(tmp_path, CLASSIFY) == {
        "train": ["cat/1.jpg", "old dog/1.jpg", "zebra/Z.PNG"],
        "val": ["cat/1.jpg", "old dog/1.jpg"],
        "test": ["cat/1.jpg", "old dog/1.jpg"],
    }
    source = opened(tmp_path, "test", task=CLASSIFY)
    assert texts(source) == [("", "cat"), ("", "old dog")] and source.vocabulary() == ("cat", "old dog", "zebra")
    assert np.array_equal(source.image(1), picture(5)) and not source.source.notes


@pytest.mark.parametrize("labels", [("cat", "dog", "emu"), ("bus", "train", "car"), ("fruit train", "test tubes", "x")])
def test_classes_alone_are_divided(tmp_path: Path, labels: tuple[str, ...]) -> None:
    put(tmp_path, {f"{label}/{k}.jpg": k for k in range(10) for label in labels})
    found = ids(tmp_path, CLASSIFY)
    assert sorted(sum(found.values(), [])) == sorted(f"{label}/{k}.jpg" for k in range(10) for label in labels)
    assert len(found["train"]) > 18 and all(found.values())
    source = opened(tmp_path, task=CLASSIFY)
    assert source.source.notes == ("states no splits: divided 80/10/10 by image",)
    assert source.vocabulary() == tuple(sorted(labels))
    for index in range(len(source)):
        label, name = source.image_id(index).split("/")
        assert source.texts(index)[0].target == label
        assert np.array_equal(source.image(index), picture(int(name.split(".")[0])))


def test_a_limit_takes_images_of_all_classes_and_a_larger_one_more(tmp_path: Path) -> None:
    put(tmp_path, {f"train/{label}/{k}.jpg": k for k in range(40) for label in ("cat", "dog", "emu")})
    put(tmp_path, {f"test/{label}/{k}.jpg": k + 50 for k in range(2) for label in ("cat", "dog", "emu")})
    few, more, again = (opened(tmp_path, limit=limit, task=CLASSIFY) for limit in (12, 24, 12))
    names = [[source.image_id(index) for index in range(len(source))] for source in (few, more, again)]
    assert {name.split("/")[0] for name in names[0]} == {"cat", "dog", "emu"}
    assert names[0] == names[2] == names[1][:12] and len(names[1]) == 24


@pytest.mark.parametrize(
    ("stray", "message"),
    [
        ("cat/young/1.jpg", "cat/young/1.jpg lies deeper than the folders of classes, CLASS/FILE: move it"),
        ("1.jpg", "1.jpg lies less deep than the folders of classes, CLASS/FILE"),
    ],
)
def test_mixed_depth_is_refused(tmp_path: Path, stray: str, message: str) -> None:
    put(tmp_path, {"cat/1.jpg": 1, "dog/1.jpg": 2, stray: 3})
    with refused(message):
        opened(tmp_path, task=CLASSIFY)


def test_mixed_depth_below_splits_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {"train/cat/1.jpg": 1, "train/dog/1.jpg": 2, "test/1.jpg": 3})
    with refused("test/1.jpg lies less deep than the folders of classes, SPLIT/CLASS/FILE"):
        opened(tmp_path, task=CLASSIFY)


def test_other_folders_are_none_of_classes(tmp_path: Path) -> None:
    one = put(tmp_path / "one", {"images/1.jpg": 1, "images/2.jpg": 2})
    splits = put(tmp_path / "splits", {"train/1.jpg": 1, "test/2.jpg": 2})
    for folder in (one, splits, coco(tmp_path / "coco", ["a.png"])):
        with refused("holds nothing for --task classify.*a folder of images for every class"):
            opened(folder, task=CLASSIFY)


def test_a_table_of_labels_counts_where_there_is_one(tmp_path: Path) -> None:
    put(tmp_path, {f"train/{label}/{k}.jpg": k for k in range(12) for label in ("cat", "dog")})
    rows = [f"{label}/{k}.jpg,emu {k}" for k in range(12) for label in ("cat", "dog")]
    (tmp_path / "train" / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    source = opened(tmp_path, task=CLASSIFY)
    assert all(source.texts(index)[0].target.startswith("emu ") for index in range(len(source)))
