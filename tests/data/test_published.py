"""Named builders: a folder is read as the published set that was named, and what is not as published is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from helpers_data import CAPTION, READ, VIDEO, VQA, opened, picture
from helpers_errors import refused
from helpers_published import books, coco, karpathy, lists, msrvtt, msvd, nocaps, st_vqa, textcaps, vatex, vqa_v2
from helpers_sets import ids, put, said, write

from gitbench.data import data_label, resolved
from gitbench.data.address import parse
from gitbench.data.published import SETS
from gitbench.data.readers import readers
from gitbench.data.tasks import open_task
from gitbench.spec import TaskSpec

TASKS = {"caption": CAPTION, "vqa": VQA, "video": VIDEO}


def vizwiz(folder: Path, questions: bool) -> Path:
    for start, split in ((0, "train"), (20, "val")):
        images = {start + k: f"VizWiz_{split}_{k}.jpg" for k in range(12)}
        put(folder, {f"{split}/{name}": number for number, name in images.items()})
        asked = [{"image": name, "question": "What?", "answers": [{"answer": "x"}]} for name in images.values()]
        write(folder, f"annotations/{split}.json", asked if questions else said(images))
    return folder


def textvqa(folder: Path) -> Path:
    for split, numbers in (("train", range(12)), ("val", range(20, 22))):
        put(folder, {f"train_images/{number}a.jpg": number for number in numbers})
        rows = [{"question": "what?", "image_id": f"{k}a", "question_id": k, "answers": ["x"] * 10} for k in numbers]
        write(folder, f"TextVQA_0.5.1_{split}.json", {"data": rows})
    return folder


# set -> how a test writes it, and what is counted of each of its stated splits
MAKERS = {
    "coco_karpathy": (karpathy, {"train": 8, "val": 2, "test": 2}),
    "flickr30k": (lambda folder: karpathy(folder, "dataset_flickr30k.json", "f"), {"train": 8, "val": 2, "test": 2}),
    "nocaps": (nocaps, {"val": 6}),
    "nocaps_in": (nocaps, {"val": 2}),
    "nocaps_near": (nocaps, {"val": 2}),
    "nocaps_out": (nocaps, {"val": 2}),
    "textcaps": (textcaps, {"train": 12, "val": 3}),
    "vizwiz_captions": (lambda folder: vizwiz(folder, False), {"train": 12, "val": 12}),
    "vqav2": (lambda folder: vqa_v2(folder, ""), {"train": 24, "val": 6}),
    "textvqa": (textvqa, {"train": 12, "val": 2}),
    "vizwiz_vqa": (lambda folder: vizwiz(folder, True), {"val": 12}),
    "stvqa": (lambda folder: st_vqa(folder, (1, 2, 3)), {"train": 12}),
    "ocrvqa": (books, {"test": 2}),
    "msrvtt": (msrvtt, {"train": 6, "val": 2, "test": 2}),
    "msvd": (lambda folder: lists(msvd(folder)), {"train": 10, "val": 2, "test": 2}),
    "vatex": (vatex, {"train": 6}),
}  # fmt: skip


def test_every_set_is_made_and_read_by_a_reader_of_ours() -> None:
    assert set(MAKERS) == set(SETS)
    for known in SETS.values():
        needs = readers()[known.reader].NEEDS
        assert known.task in needs or (known.task, "caption" in needs) == ("video", True)


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_the_published_size_has_nothing_to_say(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, counts = MAKERS[name]
    data, task = f"{name}:{maker(tmp_path / 'set')}", TASKS[SETS[name].task]
    published = SETS[name].counts
    assert set(counts) == set(published)
    stated = "test" if "test" in counts else "val" if "val" in counts else "train"
    split = "train" if stated == "train" else "test"  # where test is hidden, val stands in for it

    def notes() -> str:
        source: Any = open_task(data, split, None, task)
        source.check()
        return " ".join(source.source.notes)

    expected = f"{counts[stated]} of the {published[stated]:,} {SETS[name].counted} of {name}'s {stated}: a part of it"
    assert expected in notes()
    monkeypatch.setitem(SETS, name, dataclasses.replace(SETS[name], counts=counts))
    assert " of the " not in notes()
    fewer = {split: count - 1 for split, count in counts.items()}
    monkeypatch.setitem(SETS, name, dataclasses.replace(SETS[name], counts=fewer))
    assert ": more than it has" in notes()


def test_karpathys_coco_is_chosen_among_other_files(tmp_path: Path) -> None:
    folder = karpathy(karpathy(tmp_path), "dataset_flickr8k.json", "flickr8k")
    coco(folder, 2017)
    with refused("dataset_coco.json and dataset_flickr8k.json hold captions of the same images"):
        opened(folder)
    assert ids(f"coco_karpathy:{folder}")["test"] == ["510", "511"]
    train = opened(f"coco_karpathy:{folder}")  # type: ignore[arg-type]
    assert len(train) == 8 and (train.image(7) == picture(7)).all()  # restval is train
    assert "8 of the 113,287 images of coco_karpathy's train: a part of it" in train.notes


def test_the_domains_of_nocaps(tmp_path: Path) -> None:
    nocaps(tmp_path)
    found = {name: opened(f"{name}:{tmp_path}", "test") for name in SETS if name.startswith("nocaps")}  # type: ignore[arg-type]
    ids_of = {name: [source.image_id(k) for k in range(len(source))] for name, source in found.items()}
    assert ids_of == {
        "nocaps": list("012345"),
        "nocaps_in": ["0", "3"],
        "nocaps_near": ["1", "4"],
        "nocaps_out": ["2", "5"],
    }
    images = {k: f"{k:016x}.jpg" for k in range(6)}
    write(tmp_path, "nocaps_val_4500_captions.json", said(images))
    with refused("has no in-domain images"):
        opened(f"nocaps_in:{tmp_path}", "test")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "task", "message"),
    [
        ("coco_karpaty:{}", CAPTION, "unknown published data set 'coco_karpaty'.*coco_karpathy"),
        ("flickr30k:{}", CAPTION, "is not flickr30k: it needs dataset_flickr30k.json .*; found: dataset_coco.json"),
        ("coco_karpathy:{}/nowhere", CAPTION, "data folder .*nowhere does not exist"),
        (
            "coco_karpathy:{}/dataset_coco.json",
            CAPTION,
            "dataset_coco.json is not coco_karpathy: it needs .*: no folder",
        ),
        ("coco_karpathy:{}", VQA, "coco_karpathy is for --task caption, not vqa"),
        ("coco_karpathy:{}", READ, "coco_karpathy is for --task caption, not read"),
        ("coco_karpathy:{}", VIDEO, "coco_karpathy is for --task caption, not video"),
        ("msrvtt:{}", CAPTION, "msrvtt is for --task video, not caption"),
        ("coco_karpathy:{}?split=80/10/10", CAPTION, "--split and --columns mean nothing: pass the folder without it"),
    ],
)
def test_what_is_no_such_set(tmp_path: Path, data: str, task: TaskSpec, message: str) -> None:
    karpathy(tmp_path)
    with refused(message):
        open_task(data.format(tmp_path), "train", None, task)


def test_the_name_of_a_set_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    karpathy(tmp_path / "my coco")
    monkeypatch.chdir(tmp_path)
    whole = resolved("coco_karpathy:my coco?images=my coco/val2014")
    assert whole == f"coco_karpathy:{tmp_path}/my coco?images={tmp_path}/my coco/val2014"
    assert str(parse(whole)) == whole and resolved(whole) == whole and data_label(whole) == "coco_karpathy"
    assert ids(whole)["val"] == ["508", "509"]
    plain = opened(Path("my coco"), "val").fingerprint()
    assert opened(whole, "val").fingerprint() == plain  # type: ignore[arg-type]
    (tmp_path / "nocaps:x").mkdir()
    assert parse("nocaps:x").published == "" and parse("hub:a/b").published == ""  # a path that is there, the hub


def test_images_that_are_left_out_belong_to_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads((vizwiz(tmp_path, False) / "annotations" / "val.json").read_text())
    for note in content["annotations"][:2]:
        note["is_rejected"] = True  # both captions of the first image
    write(tmp_path, "annotations/val.json", content)
    monkeypatch.setitem(SETS, "vizwiz_captions", dataclasses.replace(SETS["vizwiz_captions"], counts={"val": 12}))
    source = opened(f"vizwiz_captions:{tmp_path}", "test")  # type: ignore[arg-type]
    assert len(source) == 11 and "1 images that have no other" in " ".join(source.notes)
    assert "a part of it" not in " ".join(source.notes)
