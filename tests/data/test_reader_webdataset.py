"""WebDataset: tar shards of samples, read where they lie; and what is wrong with them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers_data import CLASSIFY, SPLITS, VQA, opened, photo, picture, texts
from helpers_errors import refused


def shard(path: Path, members: dict[str, bytes | str]) -> Path:
    """Write an uncompressed archive of files: name -> content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def captioned(numbers: range, start: int = 0) -> dict[str, bytes | str]:
    """Return samples as img2dataset writes them: image, txt, and a json that repeats the caption."""
    members: dict[str, bytes | str] = {}
    for number in numbers:
        told = {"caption": f"number {number}", "url": "http://x/y.jpg", "key": f"{number:09}", "status": "success"}
        stem = f"{start + number:09}"
        members |= {f"{stem}.jpg": photo(number, kind="JPEG"), f"{stem}.json": json.dumps(told)}
        members[f"{stem}.txt"] = told["caption"]
    return members


@pytest.mark.parametrize("name", ["{split}-{shard:06}.tar", "{split}/{shard:05}.tar", "data/{split}-{shard}.tar"])
def test_shards_of_splits(tmp_path: Path, name: str) -> None:
    for at, split in enumerate(SPLITS):
        for number in range(2):
            first = 10 * at + 3 * number
            shard(tmp_path / name.format(split=split, shard=number), captioned(range(first, first + 3)))
    for at, split in enumerate(SPLITS):
        source = opened(tmp_path, split)
        assert len(source) == 6 and source.notes == ()
        assert source.image_id(4) == f"{10 * at + 4:09}" and source.example(4).captions == (f"number {10 * at + 4}",)
        assert source.raw_image(4) == photo(10 * at + 4, kind="JPEG")


def test_shards_without_splits_are_divided_and_nothing_is_unpacked(tmp_path: Path) -> None:
    for number in range(2):
        members = {}
        for k in range(10 * number, 10 * number + 10):
            members |= {f"set/{k}.PNG": photo(k), f"set/{k}.txt": f"number {k}\n"}
            members |= {f"set/{k}.seg.txt": "no caption", f"set/._{k}.txt": "of a Mac"}
        shard(tmp_path / f"{number:05}.tar", members)
    before = sorted(tmp_path.rglob("*"))
    sources = [opened(tmp_path, split) for split in SPLITS]
    assert sum(map(len, sources)) == 20 and all(map(len, sources))
    for source in sources:
        number = int(source.image_id(0).removeprefix("set/"))
        assert source.example(0).captions == (f"number {number}",) and np.array_equal(source.image(0), picture(number))
        assert len(source.fingerprint()) == 32
    assert sorted(tmp_path.rglob("*")) == before


def test_captions_questions_and_classes_in_json_and_cls(tmp_path: Path) -> None:
    for split in SPLITS:
        members: dict[str, bytes | str] = {}
        for k in range(2):
            told = {"captions": ["one", f"two {k}"], "question": "Who?", "answers": ["me", "you", "you"]}
            members |= {f"{k}.webp": photo(k, kind="WEBP"), f"{k}.json": json.dumps(told), f"{k}.cls": str(k)}
        shard(tmp_path / f"{split}-0000.tar", members)
    assert opened(tmp_path, "val").example(1).captions == ("one", "two 1")
    assert texts(opened(tmp_path, task=VQA)) == [("Who?", "you")] * 2
    with refused("train-0000.tar, sample 0: label 0 is a number without a name"):
        opened(tmp_path, task=CLASSIFY)
    (tmp_path / "classnames.txt").write_text("cat\nblue dog\n")
    source = opened(tmp_path, task=CLASSIFY)
    assert source.vocabulary() == ("blue dog", "cat") and [source.label(k) for k in range(2)] == ["cat", "blue dog"]


def test_txt_and_json_that_differ(tmp_path: Path) -> None:
    members = captioned(range(4))
    members["000000002.txt"] = "something else"
    shard(tmp_path / "0000.tar", members)
    with refused("0000.tar, sample 000000002: its txt and its caption differ: say which with --columns"):
        opened(tmp_path)
    for name, said in (("txt", "something else"), ("caption", "number 2")):
        found = [opened(Path(f"{tmp_path}?columns=captions={name}"), split) for split in SPLITS]
        texts = [source.example(k).captions[0] for source in found for k in range(len(source))]
        assert said in texts and len(texts) == 4


def test_faults(tmp_path: Path) -> None:
    path = shard(tmp_path / "train-0000.tar", captioned(range(3)))
    other = shard(tmp_path / "train-0001.tar", captioned(range(2, 4)))
    with refused("train-0000.tar and train-0001.tar both have a sample 000000002: name one anew"):
        opened(tmp_path)
    shard(other, captioned(range(3, 5)) | {"9.txt": "x"})
    with refused("train-0001.tar, sample 9: there is no image: add it or remove the sample"):
        opened(tmp_path)
    shard(other, captioned(range(3, 5)) | {"9.jpg": photo(9)})
    with refused("train-0001.tar, sample 9: there is no txt, json or cls"):
        opened(tmp_path)
    shard(other, captioned(range(3, 5)) | {"000000003.png": photo(9)})
    with refused("train-0001.tar, sample 000000003: it has image twice: leave one"):
        opened(tmp_path)
    shard(other, captioned(range(3, 5)) | {"9.jpg": photo(9), "9.json": "[1]"})
    with refused("train-0001.tar, sample 9: its json is not a JSON object: correct it"):
        opened(tmp_path)
    shard(other, captioned(range(3, 5)) | {"9.jpg": photo(9), "9.txt": b"\xff\xfe"})
    with refused("train-0001.tar, sample 9: its txt is not in UTF-8: correct it"):
        opened(tmp_path)
    for damaged in (path.read_bytes()[:-12000], b"no archive at all"):
        other.write_bytes(damaged)
        with refused(r"train-0001.tar is no whole tar archive \(.*\): write or copy it again"):
            opened(tmp_path)
    other.unlink()
    (tmp_path / "train-0001.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    with refused("train-0001.tar.gz is compressed, so that no image can be read on its own: unpack it"):
        opened(tmp_path)


def test_archives_that_are_no_shards(tmp_path: Path) -> None:
    shard(tmp_path / "images2014.tar", {f"{k}.jpg": photo(k) for k in range(20)})
    with refused("holds nothing for --task caption.*found: images2014.tar"):
        opened(tmp_path)
