"""Data that is not quite as it should be: each is read rightly, or refused in one line that says what to do."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers_data import CLASSIFY, READ, VQA, coco, opened, photo, texts
from helpers_errors import refused
from helpers_sets import ids, put, write

from gitbench.data import open_source
from gitbench.data.describe import splits_by_task
from gitbench.data.items import beside_images

TEN = {f"{k}.png": k for k in range(10)}
TABLE = "file_name,caption\n" + "".join(f"{k}.png,dog {k}\n" for k in range(10))


def listed(*names: str, start: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Return ten objects with a file's name, a question and an answer under other names."""
    image, question, answer = names
    return [{image: f"{k}.png", question: f"what is {k}?", answer: f"dog {k}"} | more for k in range(start, start + 10)]


def test_lists_of_questions_under_names_of_their_own(tmp_path: Path) -> None:
    """As VQA-RAD is published: answers that are numbers, ids of both kinds, and a file of any name."""
    rows = listed("image_name", "question", "answer")
    rows = [row | {"qid": f"{k}" if k % 2 else k, "answer": k, "image_organ": "HEAD"} for k, row in enumerate(rows)]
    write(
        put(tmp_path / "rad", {f"VQA_RAD Image Folder/{name}": k for name, k in TEN.items()}),
        "VQA_RAD Public.json",
        rows,
    )
    found = ids(tmp_path / "rad", VQA)
    assert sorted(sum(found.values(), [])) == sorted(TEN) and min(map(len, found.values())) >= 1
    source = opened(tmp_path / "rad", "test", task=VQA)
    number = found["test"][0].removesuffix(".png")
    assert texts(source)[0] == (f"what is {number}?", number) and source.requests(0)[0].request_id == number
    # LAVIS
    for split, start in (("train", 0), ("val", 10), ("test", 20)):
        put(tmp_path / "lavis", {f"{k}.png": k for k in range(start, start + 10)})
        write(tmp_path / "lavis", f"vqa_{split}.json", listed("image", "question", "answer", start=start))
    assert ids(tmp_path / "lavis", VQA)["val"] == [f"{k}.png" for k in range(10, 20)]


def test_keys_of_questions_are_named_with_columns(tmp_path: Path) -> None:
    put(tmp_path, {f"{k}.png": k for k in range(20)})
    write(tmp_path, "train.json", listed("picture", "asked", "truth"))
    write(tmp_path, "test.json", listed("picture", "asked", "truth", start=10))
    with refused(
        "train.json: --task vqa needs a column for the question, found: picture, asked, truth: name it with --col"
    ):
        opened(tmp_path, task=VQA)
    asked: Any = f"{tmp_path}?columns=question=asked,answers=truth"
    assert ids(asked, VQA)["test"] == [f"{k}.png" for k in range(10, 20)]  # whose answers are not hidden


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([["what is it?", "dog", 0]], r"questions.json is not a file of questions \(TypeError: list instead of an object\)"),
        ('{"a": 1}\n{"a": 2}\n', r"questions.json is no JSON but an object a line: call it .jsonl"),
        ("[" * 100_000, "questions.json is not whole JSON: write"),
    ],
)  # fmt: skip
def test_what_is_said_is_of_the_task_for_which_there_is_something(tmp_path: Path, content: Any, message: str) -> None:
    put(tmp_path, TEN)
    (tmp_path / "questions.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with refused(message):
        splits_by_task(str(tmp_path))


def test_lists_of_captions(tmp_path: Path) -> None:
    """LAVIS's coco_karpathy_train.json, and one list of words for all splits."""
    for split, start in (("train", 0), ("val", 10), ("test", 20)):
        put(tmp_path / "lavis", {f"val2014/{k}.png": k for k in range(start, start + 10)})
        rows = [{"caption": ["a dog", "two"], "image": f"val2014/{k}.png", "image_id": f"coco_{k}"}
                for k in range(start, start + 10)]  # fmt: skip
        write(tmp_path / "lavis", f"coco_karpathy_{split}.json", rows)
    assert ids(tmp_path / "lavis")["test"] == [f"coco_{k}" for k in range(20, 30)]
    assert opened(tmp_path / "lavis").example(3).captions == ("a dog", "two")
    write(put(tmp_path / "b", TEN), "captions.json", [{"image": name, "word": "x"} for name in TEN])
    assert len(opened(tmp_path / "b", task=READ)) > 4
    with refused(r"holds nothing for --task caption \(what is there may suit --task read\)"):
        opened(tmp_path / "b")
    write(tmp_path / "b", "captions.json", [*({"image": name, "caption": "x"} for name in TEN), 3])
    with refused("captions.json, row 10: not a JSON object"):
        opened(tmp_path / "b")
    write(tmp_path / "b", "captions.json", [{"image": "0.png", "captoin": "x"}])
    with refused("captions.json: --task caption needs a column for the captions, found: image, captoin"):
        opened(tmp_path / "b")
    write(coco(tmp_path / "c", list(TEN)), "more.json", [{"image": "0.png", "caption": "x"}])
    with refused(r"can be read in several ways \(coco, lists\)"):
        opened(tmp_path / "c")


def test_tables_with_little_in_them(tmp_path: Path) -> None:
    put(tmp_path, {f"images/{name}": number for name, number in TEN.items()})
    lines = "".join(json.dumps({"file_name": name, "text": "a dog"}) + "\n" for name in TEN)
    (tmp_path / "images" / "metadata.jsonl").write_text(lines)
    assert sum(map(len, ids(tmp_path).values())) == 10
    (tmp_path / "images" / "metadata.jsonl").unlink()
    (tmp_path / "captions.csv").write_text(TABLE.replace("\n", "\n\n") + "   \n")
    assert sum(map(len, ids(tmp_path).values())) == 10
    (tmp_path / "captions.csv").write_text("file_name,caption\n")
    with refused("captions.csv has no rows: fill or remove it"):
        opened(tmp_path)
    (tmp_path / "captions.csv").write_text(TABLE)
    for name in TEN:
        (tmp_path / "images" / name).unlink()
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("0.png", photo(0))
    with refused("there is no image file below .*: unpack images.zip, or name their folder with --images"):
        opened(tmp_path)


def shards(folder: Path, **columns: Any) -> Path:
    folder.mkdir()
    table = pa.table({"image": [photo(k) for k in range(12)], "caption": ["a dog"] * 12, **columns})
    pq.write_table(table, folder / "test.parquet")
    return folder


def test_tables_without_rows_and_images_that_are_lists(tmp_path: Path) -> None:
    folder = shards(tmp_path / "a")
    pq.write_table(pq.read_table(folder / "test.parquet").slice(0, 0), folder / "train.parquet")
    with refused(r"a \(train\) has no rows: fill or remove its Parquet files"):
        opened(folder)
    lists = pa.table({"images": [[{"bytes": photo(k), "path": None}] for k in range(12)], "caption": ["a dog"] * 12})
    pq.write_table(lists, folder / "test.parquet")
    with refused("test.*, row 0: the image is a list, not one image or a file's name: store one a row"):
        opened(folder, "test")
    rows = datasets.Dataset.from_dict({"caption": ["a dog"] * 12})
    datasets.DatasetDict({"train": rows, "test": rows.select(range(0))}).save_to_disk(str(tmp_path / "b"))
    with refused("b/test has no rows: save the data set again, without this split"):
        opened(tmp_path / "b", "test")


def test_folders_that_are_none_of_the_data(tmp_path: Path) -> None:
    put(tmp_path, {f"{name}/{k}.png": k for k, name in enumerate(["cat", "dog", ".ipynb_checkpoints", "__MACOSX"] * 3)})
    (tmp_path / "cat" / "._0.png").write_bytes(b"Mac OS X")
    sources = [opened(tmp_path, split, task=CLASSIFY) for split in ("train", "val", "test")]
    assert sum(map(len, sources)) == 6 and sources[0].source.labels() == {"cat", "dog"}
    (tmp_path / "cat" / "captions.csv").write_text("file_name,caption\n0.png,a cat\n")  # says what an image is
    with refused("holds nothing for --task classify"):
        opened(tmp_path, task=CLASSIFY)


def test_text_files_that_are_not_utf_8(tmp_path: Path) -> None:
    for name, task in (("qa.894.raw.train.txt", "vqa"), ("AllVideoDescriptions.txt", "video")):
        (tmp_path / task).mkdir()
        (tmp_path / task / name).write_bytes(b"caf\xe9 in the image1 ?\nlamp\n")
        with refused(f"{name} cannot be read .not UTF-8.: check the file"):
            splits_by_task(str(tmp_path / task))


def test_damaged_shards_are_told_in_one_line(tmp_path: Path) -> None:
    folder = shards(tmp_path / "a")
    (folder / "test.parquet").rename(folder / "train-0.parquet")
    (folder / "train-1.parquet").write_bytes(b"PAR1" + b"x" * 40 + b"PAR1")
    command = [sys.executable, "-m", "gitbench", "data", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "check that the 2 files" in done.stderr


def test_images_are_not_among_the_files_that_readers_look_at(tmp_path: Path) -> None:
    put(tmp_path, {"b.JPG": 0, "a.png": 1})
    (tmp_path / "c.csv").write_text("")
    assert beside_images(tmp_path) == [tmp_path / "c.csv"]


def test_links_to_nothing(tmp_path: Path) -> None:
    put(tmp_path, TEN)
    (tmp_path / "captions.csv").write_text(TABLE)
    (tmp_path / "10.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert opened(tmp_path).fingerprint()
    (tmp_path / "captions.csv").unlink()
    (tmp_path / "train.parquet").symlink_to(tmp_path / "gone.parquet")
    with refused("train.parquet cannot be read: check its permissions, or where it links to"):
        opened(tmp_path)


@pytest.mark.parametrize("place", ["", "annotations", "images"])
def test_folders_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    folder = tmp_path / place

    def closed(listed: Any, path: Any) -> Any:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    coco(tmp_path, list(TEN), "annotations/captions_train.json")
    for name in ("listdir", "scandir"):  # which root may read
        monkeypatch.setattr(os, name, partial(closed, getattr(os, name)))
    with refused(rf"{folder} cannot be read \(Permission denied\): change its permissions"):
        opened(tmp_path)


def test_names_that_are_no_paths(tmp_path: Path) -> None:
    put(tmp_path, TEN)
    (tmp_path / "captions.csv").write_text(TABLE)
    long = "x" * 300
    with refused("unknown data set 'xxx"):
        open_source(long, "train")
    with refused("there is no column 'xxx"):
        open_source(f"{tmp_path}?columns=captions={long}", "train").check()
    with refused("data folder https://a.b/c does not exist"):
        open_source("https://a.b/c", "train")
    with refused("captions names a column twice: caption, caption: name it once"):
        open_source(f"{tmp_path}?columns=captions=caption+caption", "train").check()
