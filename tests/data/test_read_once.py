"""Data that are opened several times in a block are read once, and again after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_data import SPLITS, coco, photo, write_parquet
from helpers_study import make_study, write_configs

from gitbench.data import open_source, read_once
from gitbench.data.items import read_texts_file
from gitbench.data.readers import coco as reader
from gitbench.launch.scheduling import prepare_images
from gitbench.training.run import execute


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of the files of captions that are read from here on."""
    found: list[Path] = []
    monkeypatch.setattr(reader, "read_texts_file", lambda path: found.append(path) or read_texts_file(path))
    return found


def test_what_a_study_needs_of_its_data_is_read_once_by_each_who_needs_it(tmp_path: Path, read: list[Path]) -> None:
    folder = coco(tmp_path / "dogs", [f"{k}.png" for k in range(40)])
    study = make_study(tmp_path, data=str(folder))  # opens three splits, and train again
    assert read == [folder / "captions.json"]
    prepare_images(study.plan)
    assert len(read) == 2
    execute(write_configs(study)[0].folder)
    assert len(read) == 3


def test_files_that_change_are_read_again_after_the_block(tmp_path: Path, read: list[Path]) -> None:
    folder = coco(tmp_path, [f"{k}.png" for k in range(20)])
    with read_once():
        first = open_source(str(folder), "train", 3)
        with read_once():
            assert open_source(str(folder), "train", 3) is first and len(first) == 3
        others = [len(open_source(str(folder), split)) for split in SPLITS]
        assert sum(others) == 20 and len(read) == 1
    assert open_source(str(folder), "train", 3) is not first
    content = json.loads((folder / "captions.json").read_text())
    content["annotations"] = [{**note, "caption": "a cat"} for note in content["annotations"]]
    (folder / "captions.json").write_text(json.dumps(content))
    with read_once():
        assert open_source(str(folder), "train", 3).example(0).captions == ("a cat", "a cat")


def test_tasks_are_kept_apart(tmp_path: Path) -> None:
    coco(tmp_path, [f"{k}.png" for k in range(20)])
    (tmp_path / "questions.json").write_text(
        json.dumps([{"question_id": k, "image": f"{k}.png", "question": "what?", "answers": ["x"]} for k in range(20)])
    )
    with read_once():
        assert open_source(str(tmp_path), "train").example(0).captions
        assert open_source(str(tmp_path), "train", task="vqa").example(0).questions


def test_images_that_a_table_names_are_minded(tmp_path: Path) -> None:
    """Structs as `datasets.Image` has them may hold paths alone."""
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / "images" / f"{number}.png").write_bytes(photo(number))
    rows = [{"image": {"bytes": None, "path": f"{number}.png"}, "captions": ["a dog"]} for number in range(3)]
    write_parquet(tmp_path / "val.parquet", rows)
    first = open_source(str(tmp_path), "val").fingerprint()
    (tmp_path / "images" / "1.png").write_bytes(photo(7, (30, 20)))
    assert open_source(str(tmp_path), "val").fingerprint() != first
