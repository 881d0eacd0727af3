"""TextCaps in the layout in which it is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import VQA, opened, picture
from helpers_errors import refused
from helpers_sets import ids, put, write


def textcaps(folder: Path, repeated: bool = True) -> Path:
    """Write 12 images of train, 3 of val, 2 of test, five rows each; `repeated`: every row has all captions too."""
    for start, split, count in ((0, "train", 12), (20, "val", 3), (30, "test", 2)):
        rows, place = [], "test_images" if split == "test" else "train_images"
        for number in range(start, start + count):
            put(folder, {f"{place}/{number:016x}.jpg": number})
            said = [f"Sign {k} of {number}." for k in range(5)]
            for k in range(5 if split != "test" else 1):
                row = {"image_id": f"{number:016x}", "image_name": f"{number:016x}", "image_classes": ["Sign"],
                       "image_path": f"{split}/{number:016x}.jpg", "set_name": split, "caption_id": 10 * number + k}  # fmt: skip
                told = {"caption_str": said[k], "caption_tokens": [], "reference_tokens": []}
                every = {"reference_strs": said} if repeated else {}
                rows.append(row if split == "test" else {**row, **told, **every})
        rows = rows[::2] + rows[1::2]  # rows of one image are not neighbours
        head = {"dataset_type": split, "dataset_name": "textcaps", "dataset_version": "0.1"}
        write(folder, f"TextCaps_0.1_{split}.json", {**head, "data": rows})
    return folder


@pytest.mark.parametrize("repeated", [True, False])
def test_textcaps_in_its_own_files(tmp_path: Path, repeated: bool) -> None:
    found = ids(textcaps(tmp_path, repeated))
    assert sorted(found["test"]) == [f"{number:016x}" for number in (20, 21, 22)]  # of val: test's captions are hidden
    assert len(found["train"]) + len(found["val"]) == 12
    source = opened(tmp_path, "test")
    index = found["test"].index(f"{21:016x}")
    assert sorted(source.example(index).captions) == [f"Sign {k} of 21." for k in range(5)]
    assert np.array_equal(source.image(index), picture(21))
    assert "its test has no answers, tested on all of val" in source.notes[0]


def test_faults_of_textcaps(tmp_path: Path) -> None:
    textcaps(tmp_path)
    with refused("holds nothing for --task vqa"):
        opened(tmp_path, task=VQA)
    write(tmp_path, "TextCaps_0.1_val.json", [{"image_id": "1", "caption_str": "x"}])
    with refused("TextCaps_0.1_val.json is not a file of TextCaps .TypeError"):
        opened(tmp_path, "test")
