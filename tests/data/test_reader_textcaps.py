"""TextCaps in the layout in which it is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import VQA, opened, picture
from helpers_errors import refused
from helpers_published import textcaps
from helpers_sets import ids, write


@pytest.mark.parametrize("repeated", [True, False])
def test_textcaps_in_its_own_files(tmp_path: Path, repeated: bool) -> None:
    found = ids(textcaps(tmp_path, repeated))
    assert sorted(found["test"]) == [f"{number:016x}" for number in (20, 21, 22)]  # of val: test's captions are hidden
    assert len(found["train"]) + len(found["val"]) == 12
    source = opened(tmp_path, "test")
    index = found["test"].index(f"{21:016x}")
    assert sorted(source.example(index).captions) == [f"Sign {k} of 21." for k in range(5)]
    assert np.array_equal(source.image(index), picture(21))
    assert "its test has no texts, tested on all of val" in source.notes[0]


def test_faults_of_textcaps(tmp_path: Path) -> None:
    textcaps(tmp_path)
    with refused("holds nothing for --task vqa"):
        opened(tmp_path, task=VQA)
    write(tmp_path, "TextCaps_0.1_val.json", [{"image_id": "1", "caption_str": "x"}])
    with refused("TextCaps_0.1_val.json is not a file of TextCaps .TypeError"):
        opened(tmp_path, "test")
