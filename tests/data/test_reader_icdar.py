"""ICDAR's word recognition in the layouts in which it is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import READ, opened, picture, texts
from helpers_errors import refused
from helpers_sets import ids, put

WORDS = ["JOINT", "a, b", '\\"SCAN\\"', "50%", "Ca\u00f1on"]


def words(path: Path, count: int) -> None:
    lines = (f'word_{number}.png, "{WORDS[(number - 1) % 5]}"\r\n' for number in range(1, count + 1))
    path.write_text("\ufeff" + "".join(lines), encoding="utf-8", newline="")


def icdar(folder: Path, train: str = "TrainingSet", test: str = "TestSet", inside: bool = False) -> Path:
    put(folder, {f"{train}/word_{number}.png": number for number in range(1, 21)})
    put(folder, {f"{test}/word_{number}.png": 40 + number for number in range(1, 6)})
    words(folder / train / "gt.txt", 20)
    words(folder / test / "gt.txt" if inside else folder / "Challenge4_Test_Task3_GT.txt", 5)
    (folder / train / "coords.txt").write_text("\ufeffword_1.png,0,0,113,2,112,33,0,33\r\n")
    return folder


@pytest.mark.parametrize(
    ("train", "test", "inside"),
    [
        ("TrainingSet", "TestSet", False),
        ("ch4_training_word_images_gt", "ch4_test_word_images_gt", False),
        ("train", "test", True),
    ],
)
def test_icdar_in_its_own_files(tmp_path: Path, train: str, test: str, inside: bool) -> None:
    found = ids(icdar(tmp_path, train, test, inside), READ)
    assert found["test"] == [f"word_{number}.png" for number in range(1, 6)]
    assert sorted(found["train"] + found["val"]) == sorted(f"word_{number}.png" for number in range(1, 21))
    source = opened(tmp_path, "test", task=READ)
    assert texts(source) == [("", word) for word in ("JOINT", "a, b", '"SCAN"', "50%", "Ca\u00f1on")]
    assert np.array_equal(source.image(1), picture(42))  # the same name as in train
    first = int(found["train"][0].removeprefix("word_").removesuffix(".png"))
    assert np.array_equal(opened(tmp_path, task=READ).image(0), picture(first))


def test_the_folder_of_one_split_is_divided(tmp_path: Path) -> None:
    found = ids(icdar(tmp_path) / "TrainingSet", READ)
    assert sorted(sum(found.values(), [])) == sorted(f"word_{number}.png" for number in range(1, 21))


def test_faults_of_icdar(tmp_path: Path) -> None:
    path = icdar(tmp_path) / "Challenge4_Test_Task3_GT.txt"
    words(tmp_path / "TestSet" / "gt.txt", 5)
    with refused("Challenge4_Test_Task3_GT.txt and TestSet/gt.txt hold words of the same images: leave one"):
        opened(tmp_path, "test", task=READ)
    (tmp_path / "TestSet" / "gt.txt").unlink()
    path.write_text('word_1.png, "x"\nword_2.png x\n')
    with refused("Task3_GT.txt, line 2: 'word_2.png x' is no word of ICDAR: write NAME.png, \"TEXT\""):
        opened(tmp_path, "test", task=READ)
    path.write_text('word_9.png, "x"\n')
    with refused("line 1: image .*word_9.png is missing"):
        opened(tmp_path, "test", task=READ)
    path.write_text('word_1.png, ""\n')
    with refused("line 1: empty text"):
        opened(tmp_path, "test", task=READ)


def test_the_boxes_of_other_tasks_are_none_of_it(tmp_path: Path) -> None:
    put(tmp_path, {"img_1.png": 1})
    (tmp_path / "gt.txt").write_text("\ufeff377,117,463,117,465,130,378,130,Genaxis Theatre\r\n")
    with refused("holds nothing for --task read"):
        opened(tmp_path, task=READ)
