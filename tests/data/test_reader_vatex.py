"""VATEX in the layout in which it is published."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_data import VIDEO, opened
from helpers_errors import refused
from helpers_published import vatex
from helpers_sets import ids, shown, write


def test_vatex_in_its_own_files(tmp_path: Path) -> None:
    expected = {"train": range(6), "val": (6, 7), "test": (8, 9)}
    found = ids(vatex(tmp_path), VIDEO)
    assert found == {split: [f"-x_Y{k}_000010_000020" for k in ks] for split, ks in expected.items()}
    source = opened(tmp_path, "test", task=VIDEO)
    assert source.requests(1)[0].references == tuple(f"Caption {j} of 9." for j in range(10))
    assert [shown(frame) for frame in source.image(1)] == [1, 5, 8] and not source.source.notes


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vatex_validation_v1.0.json", [{"videoID": "x"}], "is not a file of VATEX .KeyError: 'enCap'"),
        ("vatex_validation_v2.0.json", [], "vatex_validation_v1.0.json and vatex_validation_v2.0.json hold captions"),
    ],
)
def test_faults_of_vatex(tmp_path: Path, name: str, content: list[dict[str, str]], message: str) -> None:
    write(vatex(tmp_path), name, content)
    with refused(message):
        opened(tmp_path, "val", task=VIDEO)
