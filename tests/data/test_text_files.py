"""Text files of data sets, whatever reader wants them: their encoding, and two of one split."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_data import CAPTION, CLASSIFY, VIDEO, VQA, opened, photo
from helpers_errors import refused
from helpers_published import lists, msvd
from helpers_sets import put, write
from test_reader_webdataset import shard

from gitbench.data.items import read_lines
from gitbench.spec import TaskSpec


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("qa.894.raw.train.txt", VQA),
        ("Flickr8k.token.txt", CAPTION),
        ("AllVideoDescriptions.txt", VIDEO),
        ("test_list.txt", VIDEO),
        ("classnames.txt", CLASSIFY),
    ],
)
def test_what_is_not_in_utf_8_is_refused(tmp_path: Path, name: str, task: TaskSpec) -> None:
    if task is VIDEO:
        lists(msvd(tmp_path))
    if task is CLASSIFY:
        shard(tmp_path / "train-0.tar", {"a.png": photo(1), "a.cls": "0"})
    (tmp_path / name).write_bytes("caf\u00e9".encode("latin-1"))
    with refused(rf"{name} cannot be read \(not UTF-8\): check the file"):
        opened(tmp_path, task=task)


def test_lines_end_in_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffa dog\u2028runs\r\n\r\n cat \r\n\n".encode())
    assert read_lines(path) == ["a dog\u2028runs", "", "cat"]


def test_two_files_of_one_split_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "asked", {f"{number}.png": number for number in range(12)})
    for number, name in enumerate(("one_train_questions.json", "two_train_questions.json")):
        asked = {"question_id": number, "image": f"{number}.png", "question": "what ?", "answers": ["yes"]}
        write(tmp_path / "asked", name, [asked])
    with refused("one_train_questions.json and two_train_questions.json are questions of one split: leave one"):
        opened(tmp_path / "asked", task=VQA)
    folder = lists(msvd(tmp_path / "films"))
    (folder / "data").mkdir()
    (folder / "data" / "AllVideoDescriptions.txt").write_text("a A dog.\n")
    with refused("AllVideoDescriptions.txt and data/AllVideoDescriptions.txt describe the same films: leave one"):
        opened(folder, task=VIDEO)
