"""OCR-VQA in the layout in which it is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_data import CAPTION, VQA, opened, picture, texts
from helpers_errors import refused
from helpers_published import books
from helpers_sets import ids

from gitbench.data.tasks import Request


def test_ocr_vqa_in_its_own_file(tmp_path: Path) -> None:
    found = ids(books(tmp_path), VQA)
    assert {split: [int(name) for name in names] for split, names in found.items()} == {
        "train": list(range(6)), "val": [6, 7], "test": [8, 9]}  # fmt: skip
    source = opened(tmp_path, "test", task=VQA)
    asked = Request(request_id="0000000009-1", prefix="What is the title?", references=("Book 9",))
    assert source.requests(1)[1] == asked and texts(source)[0] == ("Who wrote book 8?", "A. Nonymous")
    assert np.array_equal(source.image(1), picture(9))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"split": 4}, "dataset.json is not OCR-VQA's file .KeyError: 4.: it needs"),
        ({"answers": ["one alone"]}, "it needs as many 'answers' as 'questions'"),
        ({"answers": ["x", ""]}, "image 0000000009: empty answer"),
    ],
)
def test_faults_of_ocr_vqa(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with refused(message):
        opened(books(tmp_path, **more), "test", task=VQA)


def test_a_cover_that_was_not_fetched(tmp_path: Path) -> None:
    (books(tmp_path) / "images" / "0000000009.jpg").unlink()
    with refused("0000000009 is missing: add it or remove its row"):
        opened(tmp_path, "test", task=VQA)
    with refused("not a COCO caption file"):
        opened(tmp_path, "test", task=CAPTION)
