"""Data sets on the hub: what is fetched and kept, of which revision, without a network, and what is said when it fails.

Four processes open them, one after the other: with a file that is lost, with the hub, and then twice without.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers_data import photo, printed_by
from helpers_errors import refused
from helpers_hub import Hub, hub

from gitbench.data import data_label, open_source, resolved
from gitbench.data.hub import Copy

# opens each data set that it is given and prints what it finds
OPEN = """
import json, sys
from gitbench.data import open_source
from gitbench.data.hub import Copy
from gitbench.errors import GitbenchError
sources = []  # which stay open together
for name, split, limit, task in json.loads(sys.argv[1]):
    try:
        source = open_source(name, split, limit, task)
        sources.append(source)
        source.check()
        count = len(source)
        examples = [source.example(index) for index in range(count)]
        found = {"size": count, "ids": [source.image_id(index) for index in range(count)], "name": source.name,
                 "captions": [list(each.captions) for each in examples], "fingerprint": source.fingerprint(),
                 "pixels": list(source.image(count - 1).shape), "notes": source.notes}
        if task == "classify":
            found["labels"] = sorted(source.labels())
    except GitbenchError as error:
        found = {"error": str(error)}
    print(json.dumps(found))
"""
DESCRIBE = "import sys; from gitbench.cli import main; main(['data', sys.argv[1], '--out', sys.argv[2]])"
TEXT = datasets.Value("string")
PETS = datasets.ClassLabel(names=["cat", "dog", "cow"])
CONFIGS = "---\nconfigs:\n" + "".join(f"- config_name: {c}\n  data_files: {c}/*.parquet\n" for c in "ab") + "---\n"


def parquet(numbers: list[int], name: str, kind: Any, values: list[Any], **more: list[str]) -> bytes:
    """Return a file of photographs, in row groups of ten, with a column of texts or classes and further ones."""
    images = [{"bytes": photo(number), "path": None} for number in numbers]
    kinds = datasets.Features({"image": datasets.Image(), name: kind, **dict.fromkeys(more, TEXT)})
    buffer = io.BytesIO()
    datasets.Dataset.from_dict({"image": images, name: values, **more}, features=kinds).to_parquet(
        buffer, batch_size=10
    )
    return buffer.getvalue()


def captioned(numbers: range) -> bytes:
    return parquet(list(numbers), "caption", TEXT, [f"number {number}" for number in numbers])


def with_readme(**splits: range) -> dict[str, bytes]:
    """Return a repository whose README names its splits, each a file."""
    files = "".join(f"  - split: {split}\n    path: files/{split}.parquet\n" for split in splits)
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n".encode()
    return {"README.md": card, **{f"files/{split}.parquet": captioned(numbers) for split, numbers in splits.items()}}


def repositories() -> dict[str, dict[str, bytes]]:
    in_files = {f"data/train-0000{at}-of-00003.parquet": captioned(range(50 * at, 50 * at + 50)) for at in range(3)}
    large = {f"data/train-0000{at}-of-00002.parquet": captioned(range(600 * at, 600 * at + 600)) for at in range(2)}
    of_rows = [number // 30 for number in range(300)]
    rows = parquet(
        of_rows, "caption", TEXT, [f"{k}" for k in range(300)], image_id=[f"i{number}" for number in of_rows]
    )
    lines = "\n".join(json.dumps({"file_name": f"{k}.png", "text": f"number {k}"}) for k in range(12))
    large |= {f"data/{split}-00000-of-00001.parquet": captioned(range(2000, 2005)) for split in ("val", "test")}
    return {
        "owner/large": large,
        "owner/shown": large,
        "owner/whole": in_files,
        "owner/copy": in_files,
        "owner/rows": {"data/test-0.parquet": rows},
        "owner/coco": with_readme(train=range(3), restval=range(3, 5), dev=range(5, 7), test=range(7, 9)),
        "owner/two": {"README.md": CONFIGS.encode(), "a/0.parquet": captioned(range(10)), "b/0.parquet": captioned(range(5))},
        "owner/pets": {
            "data/train-0.parquet": parquet(list(range(400)), "label", PETS, [k % 2 for k in range(400)]),
            "data/test-0.parquet": parquet([1, 2], "label", PETS, [-1, -1]),
        },
        "owner/folder": {"train/metadata.jsonl": lines.encode(), **{f"train/{k}.png": photo(k) for k in range(12)}},
        "owner/unasked": {"data/train-0.parquet": captioned(range(300, 310))},
        "owner/script": {"script.py": b"raise SystemExit('it was run')"},
        "owner/gated": with_readme(train=range(3)),
        "owner/empty": {"README.md": b"nothing"},
    }  # fmt: skip


ASKED: dict[str, tuple[str, str, int | None, str]] = {
    "first": ("hub:owner/large", "train", 20, "caption"),
    "more": ("hub:owner/large", "train", 150, "caption"),
    "few": ("hub:owner/large", "val", 3, "caption"),
    **{f"whole {split}": ("hub:owner/whole", split, None, "caption") for split in ("train", "val", "test")},
    "four of the whole": ("hub:owner/whole", "val", 4, "caption"),
    "four alone": ("hub:owner/copy", "val", 4, "caption"),
    "rows": ("hub:owner/rows", "test", 4, "caption"),
    **{f"coco {split}": ("hub:owner/coco", split, None, "caption") for split in ("train", "val", "test")},
    "of b": ("hub:owner/two?config=b&split=20/40/40", "test", None, "caption"),
    "pets": ("hub:owner/pets", "train", 10, "classify"),
    "folder": ("hub:owner/folder", "train", None, "caption"),
}
WRONG = {
    "hub:owner/two": "has several configurations: say which with ?config=NAME: a, b",
    "hub:owner/two?config=c": "has no configuration 'c': say which with ?config=NAME: a, b",
    "hub:owner/two@v9?config=a": "has no such revision: check what follows the @",
    "hub:owner/script": "needs a script, which is not run: try its copy in Parquet, hub:owner/script@refs/convert/parquet",
    "hub:owner/gated": "is gated: accept its terms at https://huggingface.co/datasets/owner/gated and log in",
    "hub:owner/nothing": "is not on the hub, or private: check the name",
    "hub:owner/empty": "cannot be read (EmptyDatasetError",
    "hub:owner/unasked?columns=captions=x": "there is no column 'x' for captions: found: image, caption",
    "hub:owner": "name a data set on the hub as hub:OWNER/NAME",
}


@dataclass
class Opened:
    """What the processes found, by the names of `ASKED`, and what was asked of the hub."""

    hub: Hub
    cache: Path
    broken: dict[str, Any]
    found: dict[str, dict[str, Any]]
    errors: dict[str, str]
    kept: dict[str, int]  # file in the cache -> when it was written, before the file that was lost is back
    sent: dict[str, int]
    described: str  # what `gitbench data` says
    later: list[Any] = field(default_factory=list)  # what two processes found without the hub
    asked_later: list[str] = field(default_factory=list)


def variables(cache: Path, url: str) -> dict[str, str]:
    return {"HF_ENDPOINT": url, "HF_HOME": str(cache / "hf"), "HF_HUB_OFFLINE": "0", "GITBENCH_CACHE": str(cache)}


def in_a_process(cache: Path, url: str, asked: list[tuple[Any, ...]], **environment: str) -> list[dict[str, Any]]:
    said = printed_by(OPEN, json.dumps(asked), **(variables(cache, url) | environment))
    return [json.loads(line) for line in said.splitlines()]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    datasets.disable_progress_bars()
    cache = tmp_path_factory.mktemp("cache")
    wrong: list[tuple[Any, ...]] = [(name, "train", None, "caption") for name in WRONG]
    with hub() as served:
        served.repositories, served.gated = repositories(), {"owner/gated"}
        served.lost = {"data/train-00001-of-00003.parquet"}
        (broken,) = in_a_process(cache, served.url, [ASKED["whole train"]])
        kept = {path.name: path.stat().st_mtime_ns for path in cache.rglob("train-*.parquet")}
        served.lost = set()
        found = in_a_process(cache, served.url, [*ASKED.values(), *wrong])
        errors = {name: each["error"] for name, each in zip(WRONG, found[len(ASKED) :], strict=True)}
        said = printed_by(DESCRIBE, "hub:owner/shown", str(cache / "shown.png"), **variables(cache, served.url))
        opened = dict(zip(ASKED, found, strict=False))
        result = Opened(served, cache, broken, opened, errors, kept, dict(served.sent), said)
        served.asked.clear()
        served.repositories["owner/large"] = {}  # as if all its files were others by now
        result.later.append(in_a_process(cache, served.url, [*ASKED.values()]))
        result.asked_later = list(served.asked)
    new = ("hub:owner/new", "train", None, "caption")
    result.later.append(in_a_process(cache, served.url, [ASKED["first"], ASKED["pets"], new], HF_HUB_OFFLINE="1"))
    return result


def test_a_limit_fetches_the_first_rows_alone(opened: Opened) -> None:
    first, few = opened.found["first"], opened.found["few"]
    assert (first["size"], first["name"], first["pixels"]) == (20, "large", [18, 24, 3])
    assert first["captions"] == [[f"number {number}"] for number in range(20)]
    assert opened.found["more"]["captions"] == [[f"number {number}"] for number in range(150)]
    assert few["captions"] == [["number 2000"], ["number 2001"], ["number 2002"]]
    revision, said = first["notes"]
    assert revision.startswith("hub:owner/large is at revision ")
    assert said == "of its rows the first 100 were read, for 20 images of train"
    kept = sorted(path.name for path in (opened.cache / "hub" / "owner--large").rglob("*.parquet"))
    assert kept == [
        f"{name}.parquet" for name in ("test-first-100", "train-first-100", "train-first-151", "val-first-100")
    ]
    assert "data/train-00001-of-00002.parquet" not in opened.sent


def test_what_is_described_is_the_first_rows_alone(opened: Opened) -> None:
    assert "hub:owner/shown: taken for hub, task caption\n  train 200 images, 200 captions" in opened.described
    assert "mind: of its rows the first 201 were read, for 200 images of train" in opened.described
    assert "data/train-00001-of-00002.parquet" not in opened.sent and "samples: " in opened.described
    with refused("films are read from a folder alone: download them"):
        open_source("hub:owner/shown", "train", task="video")


def test_what_is_kept_is_not_asked_for_again(opened: Opened) -> None:
    """By another process, after the hub has changed, and in its offline mode."""
    assert opened.later[0] == list(opened.found.values()) and opened.asked_later == []
    assert opened.later[1][:2] == [opened.found["first"], opened.found["pets"]]
    assert opened.later[1][2]["error"].startswith(
        "hub:owner/new cannot be reached, and is not kept here: connect to the hub"
    )


def test_a_whole_split_is_fetched_file_by_file(opened: Opened) -> None:
    assert opened.broken["error"].startswith("hub:owner/whole cannot be read (")
    assert "run this again" in opened.broken["error"]
    assert list(opened.kept) == ["train-00000-of-00003.parquet"]
    (after,) = (opened.cache / "hub" / "owner--whole").rglob("train-00000-of-00003.parquet")
    assert after.stat().st_mtime_ns == opened.kept[after.name]
    parts = [opened.found[f"whole {split}"] for split in ("train", "val", "test")]
    numbers = [text for each in parts for (text,) in each["captions"]]
    assert sorted(numbers) == sorted(f"number {number}" for number in range(150))
    assert parts[0]["notes"][1:] == ["states train alone: divided 80/10/10 by image"]


def test_the_first_images_are_the_same_from_a_part_and_from_the_whole(opened: Opened) -> None:
    some, alone = opened.found["four of the whole"], opened.found["four alone"]
    assert some["captions"] == opened.found["whole val"]["captions"][:4] == alone["captions"]
    assert some["fingerprint"] == alone["fingerprint"] != opened.found["whole val"]["fingerprint"]


def test_an_image_whose_rows_go_on_beyond_those_fetched_has_them_all(opened: Opened) -> None:
    rows = opened.found["rows"]
    assert rows["ids"] == ["i0", "i1", "i2", "i3"] and [len(each) for each in rows["captions"]] == [30] * 4
    assert "of its rows the first 200 were read, for 4 images of test" in rows["notes"]


@pytest.mark.parametrize(("name", "count"), [("train-first-100", 20), ("train-00000-of-00001", None)])
@pytest.mark.parametrize("left", [0, 60])
def test_a_damaged_file_that_is_kept_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, count: int | None, left: int
) -> None:
    about, made = tmp_path / "main--default.json", []
    about.write_text(json.dumps({"revision": "abc", "config": "default", "splits": {"train": 1}, "features": {}}))
    table = pa.table({"caption": [f"number {number}" for number in range(100)]})

    def fetch(self: Copy, split: str, count: int | None, shard: int, to: Path) -> None:
        made.append(count)
        pq.write_table(table, to)

    monkeypatch.setattr(Copy, "_fetch", fetch)
    path = tmp_path / "abc" / "default" / f"{name}.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)
    path.write_bytes(path.read_bytes()[:left])
    assert len(Copy("owner/x", about).rows("train", count and 100)) == 100
    assert made == [count and 100] and pq.read_metadata(path).num_rows == 100
    assert len(Copy("owner/x", about).rows("train", count)) == (count or 100) and len(made) == 1


def test_splits_and_configurations_by_the_hubs_names(opened: Opened) -> None:
    assert [opened.found[f"coco {split}"]["size"] for split in ("train", "val", "test")] == [5, 2, 2]
    assert opened.found["coco val"]["captions"] == [["number 5"], ["number 6"]]
    assert opened.found["of b"]["size"] == 2


def test_classes_are_told_by_the_first_rows(opened: Opened) -> None:
    pets = opened.found["pets"]
    assert (pets["size"], pets["labels"]) == (10, ["cat", "cow", "dog"])
    assert "its test has no texts, states train alone: divided 80/10/10 by image" in " ".join(pets["notes"])
    kept = (opened.cache / "hub" / "owner--pets").rglob("train-*.parquet")
    assert [pq.read_metadata(path).num_rows for path in kept] == [100]


def test_images_that_are_files_of_the_repository(opened: Opened) -> None:
    folder = opened.found["folder"]
    assert 8 <= folder["size"] <= 11 and folder["pixels"] == [18, 24, 3]
    assert all(len(each) == 1 and each[0].startswith("number ") for each in folder["captions"])


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_says_so_in_one_line(opened: Opened, name: str) -> None:
    assert WRONG[name] in opened.errors[name] and "\n" not in opened.errors[name]
    assert not list((opened.cache / "hub" / "owner--unasked").rglob("*.parquet"))
    assert opened.errors[name].startswith(name.partition("?")[0].partition("@")[0])


def test_how_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_label("hub:lmms-lab/COCO-Caption?split=80/10/10") == "COCO-Caption"
    assert resolved("hub:a/b@v1?config=c&split=80/10/10") == "hub:a/b@v1?split=80/10/10&config=c"
    assert resolved("hub:a/b?images=coco") == f"hub:a/b?images={tmp_path / 'coco'}"
