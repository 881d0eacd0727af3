"""DAQUAR in the layout in which it is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import VQA, opened, picture, texts
from helpers_errors import refused
from helpers_sets import ids, put

from gitbench.data.tasks import Request

LINES = {
    "what is on the right side of the black telephone in the image3 ?": "desk",
    "what are on the table in this image3 ?": "table_lamp, book",
    "how many chairs are there in image7 ?": "3",
    "what colour is the image on the wall in the image7?": "blue",
}


def daquar(folder: Path, kind: str = "894", train: str = "", test: str = "") -> Path:
    def pairs(images: range) -> str:
        return "".join(f"what is in the image{number} ?\nbed\n" for number in images)

    put(folder, {f"nyu_depth_images/image{number}.png": number for number in range(1, 40)})
    (folder / f"qa.{kind}.raw.train.txt").write_text(train or pairs(range(10, 40)))
    (folder / f"qa.{kind}.raw.test.txt").write_text(test or "".join(f"{q}\n{a}\n" for q, a in LINES.items()))
    return folder


@pytest.mark.parametrize("kind", ["894", "37"])
def test_daquar_in_its_own_files(tmp_path: Path, kind: str) -> None:
    found = ids(daquar(tmp_path, kind), VQA)
    assert found["test"] == ["image3", "image7"]
    assert sorted(found["train"] + found["val"]) == sorted(f"image{number}" for number in range(10, 40))
    source = opened(tmp_path, "test", task=VQA)
    assert texts(source) == [
        ("what is on the right side of the black telephone ?", "desk"),
        ("what are on the table ?", "table lamp, book"),
        ("how many chairs are there ?", "3"),
        ("what colour is the image on the wall ?", "blue"),
    ]
    said = ("table lamp, book",)
    asked = Request(request_id="test-3", prefix="what are on the table ?", references=said, answers_are="set")
    assert source.requests(0)[1] == asked and np.array_equal(source.image(1), picture(7))
    assert source.source.notes == ("states no val: a tenth of train is held out as val",)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("what is this ?\nbed\n", "test.txt, line 1: 'what is this .' is not a question of DAQUAR"),
        ("what is in the image3 ?\n", "line 1: .* its answer on the next line"),
        ("what is in the image3 ?\nbed\nlamp\nwhat is in the image7 ?\n", "line 3: 'lamp' is not a question"),
        ("what is in the image3 ?\nbed,\n", "line 1: empty answer"),
        ("what is in the image999 ?\nbed\n", "image999 is missing"),
    ],
)
def test_faults_of_daquar(tmp_path: Path, test: str, message: str) -> None:
    with refused(message):
        opened(daquar(tmp_path, test=test), "test", task=VQA)


def test_both_kinds_of_daquar_ask_which(tmp_path: Path) -> None:
    daquar(daquar(tmp_path, "894"), "37")
    with refused("qa.37.raw.test.txt and qa.894.raw.test.txt ask about the same images: leave one"):
        opened(tmp_path, "test", task=VQA)
