"""Folders of `datasets.save_to_disk`: with splits or without, for each task, and what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from helpers_data import CLASSIFY, SPLITS, VQA, opened, photo, picture, texts
from helpers_errors import refused


def table(numbers: range, **columns: list[Any]) -> datasets.Dataset:
    images = [{"bytes": photo(number), "path": None} for number in numbers]
    return datasets.Dataset.from_dict({"image": images, **columns}).cast_column("image", datasets.Image())


def test_a_dict_with_splits(tmp_path: Path) -> None:
    splits = {
        split: table(range(4 * at, 4 * at + 4), captions=[[f"{split} {k}", "b"] for k in range(4)])
        for at, split in enumerate(("train", "validation", "test"))
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    for at, split in enumerate(SPLITS):
        source = opened(tmp_path / "saved", split)
        assert len(source) == 4 and source.image_id(2) == f"{split}-2"
        assert source.example(2).captions == ("validation 2" if split == "val" else f"{split} 2", "b")
        assert np.array_equal(source.image(2), picture(4 * at + 2))
        assert source.notes == ()
    before = opened(tmp_path / "saved", "test").fingerprint()
    assert before != opened(tmp_path / "saved", "val").fingerprint()
    shutil.copytree(tmp_path / "saved", tmp_path / "copy")
    assert opened(tmp_path / "copy", "test").fingerprint() == before


def test_one_table_is_divided_by_image(tmp_path: Path) -> None:
    table(range(20), text=[f"number {number}" for number in range(20)]).save_to_disk(tmp_path)
    sources = [opened(tmp_path, split) for split in SPLITS]
    assert sum(map(len, sources)) == 20 and all(map(len, sources))
    assert "states no splits: divided 80/10/10 by image" in " ".join(sources[0].notes)
    for source in sources:
        number = int(source.example(0).captions[0].removeprefix("number "))
        assert np.array_equal(source.image(0), picture(number))


def test_files_that_were_named_are_stored_with_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(photo(1))
    named = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.png")], "caption": ["x"]})
    datasets.DatasetDict(train=named.cast_column("image", datasets.Image()), test=table(range(1), caption=["y"]),
                         val=table(range(1), caption=["z"])).save_to_disk(tmp_path / "saved")  # fmt: skip
    (tmp_path / "a.png").unlink()
    assert np.array_equal(opened(tmp_path / "saved").image(0), picture(1))


def test_classes_by_their_names(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["cat", "dog", "cow"])
    whole = table(range(12), label=[k % 2 for k in range(12)]).cast_column("label", kind)
    whole.save_to_disk(tmp_path)
    source = opened(tmp_path, task=CLASSIFY)
    assert source.vocabulary() == ("cat", "cow", "dog") and {source.label(k) for k in range(len(source))} == {
        "cat",
        "dog",
    }


def test_a_test_set_whose_answers_are_withheld(tmp_path: Path) -> None:
    def asked(numbers: range, answers: list[Any]) -> datasets.Dataset:
        return table(numbers, question=["Who?"] * len(numbers), answers=answers)

    splits = datasets.DatasetDict(
        train=asked(range(20), [["me", "you", "me"]] * 20), validation=asked(range(20, 24), [["me"]] * 4),
        test=asked(range(24, 27), [[], [""], [""]]),
    )  # fmt: skip
    splits.save_to_disk(tmp_path)
    test = opened(tmp_path, "test", task=VQA)
    assert len(test) == 4 and texts(test) == [("Who?", "me")] * 4
    assert "its test has no texts, tested on all of val" in " ".join(test.source.notes)


def test_answers_as_datasets_once_stored_lists_of_objects(tmp_path: Path) -> None:
    answers = [{"answer": ["me", "you", "you"], "answer_id": [1, 2, 3]}] * 20
    table(range(20), question=["Who?"] * 20, answers=answers).save_to_disk(tmp_path)
    assert set(texts(opened(tmp_path, task=VQA))) == {("Who?", "you")}


def test_faults(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    datasets.DatasetDict({split: table(range(3), captions=["x"] * 3) for split in SPLITS}).save_to_disk(folder)
    with refused("--task vqa needs a column for the question, found: image, captions.*or --task caption"):
        opened(folder, task=VQA)
    arrow = next((folder / "val").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:100])
    with refused(r"val: not readable as a data set on disk \(\w+\): save it again with datasets.save_to_disk"):
        opened(folder, "val")
    shutil.rmtree(folder / "val")
    with refused("the split val has no folder: save the data set again"):
        opened(folder)
