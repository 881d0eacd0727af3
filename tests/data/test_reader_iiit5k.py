"""IIIT5K-Words in the layout in which it is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from helpers_data import READ, opened, picture, texts
from helpers_errors import refused
from helpers_sets import ids, put


def table(names: list[str], words: list[str], field: str) -> np.ndarray:
    """Return a table of MATLAB: structs with the name of an image, its word, and what else stands there."""
    kinds = [("ImgName", object), (field, object), ("smallLexi", object)]
    rows = [(name, word, np.array(["A", word], dtype=object)) for name, word in zip(names, words, strict=True)]
    return np.array([rows], dtype=kinds)


def iiit5k(folder: Path, kind: str = "data", field: str = "GroundTruth", test: int = 3) -> Path:
    for split, count in (("train", 20), ("test", test)):
        names = [f"{split}/{number}_1.png" for number in range(count)]
        put(folder, {name: number + (40 if split == "test" else 0) for number, name in enumerate(names)})
        words = ["10", "CAFE", "LOVE", *["WORD"] * count][:count]
        scipy.io.savemat(folder / f"{split}{kind}.mat", {f"{split}{kind}": table(names, words, field)})
    return folder


@pytest.mark.parametrize(
    ("kind", "field"), [("data", "GroundTruth"), ("CharBound", "chars"), ("dataCharBound", "chars")]
)
def test_iiit5k_in_its_own_files(tmp_path: Path, kind: str, field: str) -> None:
    found = ids(iiit5k(tmp_path, kind, field), READ)
    assert found["test"] == ["test/0_1.png", "test/1_1.png", "test/2_1.png"]
    assert len(found["train"]) + len(found["val"]) == 20
    source = opened(tmp_path, "test", task=READ)
    assert texts(source) == [("", "10"), ("", "CAFE"), ("", "LOVE")]
    assert np.array_equal(source.image(1), picture(41))  # the same name as in train
    assert source.vocabulary() == ("10", "CAFE", "LOVE", "WORD")


def test_the_words_count_where_the_letters_are_there_too(tmp_path: Path) -> None:
    iiit5k(tmp_path, test=1)
    scipy.io.savemat(tmp_path / "testCharBound.mat", {"testCharBound": table(["test/0_1.png"], ["OTHER"], "chars")})
    assert texts(opened(tmp_path, "test", task=READ)) == [("", "10")]


def test_faults_of_iiit5k(tmp_path: Path) -> None:
    iiit5k(tmp_path)
    (tmp_path / "test" / "1_1.png").unlink()
    with refused("image test/1_1.png: image .* is missing"):  # not that of train
        opened(tmp_path, "test", task=READ)
    iiit5k(tmp_path, "data", "Word")
    with refused("testdata.mat is not a file of IIIT5K .AttributeError.*one table with ImgName and GroundTruth"):
        opened(tmp_path, "test", task=READ)
    (tmp_path / "testdata.mat").write_bytes(b"no file of MATLAB")
    with refused("testdata.mat is not a file of IIIT5K"):
        opened(tmp_path, "test", task=READ)
