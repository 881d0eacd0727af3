"""Data sets as the hub has them, in Parquet with exactly their columns: each is read rightly, for the tasks that it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from helpers_data import CAPTION, VQA, opened, photo, picture, texts
from helpers_errors import refused

from gitbench.data.tasks import open_task

TEXT, LONG, INT = Value("string"), Value("int64"), Value("int32")


def jpg(number: int) -> dict[str, Any]:
    return {"bytes": photo(number), "path": f"{number}.jpg"}


def write(folder: Path, split: str, features: dict[str, Any], rows: list[dict[str, Any]], files: int = 1) -> None:
    """Write a split as the hub has it: `data/SPLIT-00000-of-0000N-HASH.parquet`."""
    (folder / "data").mkdir(exist_ok=True)
    for at in range(files):
        table = Dataset.from_list(rows[at::files], features=Features(features))
        table.to_parquet(str(folder / "data" / f"{split}-{at:05}-of-{files:05}-8bb04d0d8c47d4ab.parquet"))


def evaluated_alone(folder: Path, split: str, task: Any = CAPTION) -> Any:
    """Open the one split that has texts, which is all there is: as val, as test, and never to train on."""
    with refused(f"has no train split: add one, or say with --split which is; found: files of .*{split}"):
        len(open_task(str(folder), "train", None, task))
    source, test = opened(folder, "val", task=task), opened(folder, "test", task=task)
    assert "states no train: for evaluation alone" in " ".join(source.source.notes)
    said = [
        [(row.captions, row.questions) for row in (each.example(k) for k in range(len(each)))]
        for each in (source, test)
    ]
    assert said[0] == said[1]
    return source


def test_coco_caption_keeps_its_captions_in_answer(tmp_path: Path) -> None:
    """lmms-lab/COCO-Caption: its `question` is a prompt, the same for all; its test has no captions."""
    features = {
        "question_id": TEXT, "image": Image(), "question": TEXT, "answer": [TEXT], "id": LONG, "license": LONG,
        "file_name": TEXT, "coco_url": TEXT, "height": LONG, "width": LONG, "date_captured": TEXT,
    }  # fmt: skip

    def row(number: int, answer: Any) -> dict[str, Any]:
        name = f"COCO_val2014_{number:012}.jpg"
        return {
            "question_id": name, "image": jpg(number), "question": "Please carefully observe the image",
            "answer": answer, "id": number + 500, "license": 3, "file_name": name, "coco_url": f"http://x/{name}",
            "height": 18, "width": 24, "date_captured": "2013-11-18 02:53:27",
        }  # fmt: skip

    write(tmp_path, "val", features, [row(k, [f"A dog {k}.", "Two cats", "x"]) for k in range(3)], files=2)
    write(tmp_path, "test", features, [row(9, None)])
    source = evaluated_alone(tmp_path, "val")
    assert [source.image_id(k) for k in range(3)] == ["500", "502", "501"]  # in the order of the files
    assert source.example(1).captions == ("A dog 2.", "Two cats", "x") and np.array_equal(source.image(1), picture(2))
    with refused("is for --task caption, not vqa: pass that"):
        opened(tmp_path, "val", task=VQA)


def test_m4_coco_has_a_row_a_caption(tmp_path: Path) -> None:
    """HuggingFaceM4/COCO: the rows of an image belong together; Karpathy's restval lies in the files of train."""
    sentence = {"tokens": [TEXT], "raw": TEXT, "imgid": INT, "sentid": INT}
    features = {
        "image": Image(), "filepath": TEXT, "sentids": [INT], "filename": TEXT, "imgid": INT, "split": TEXT,
        "sentences": sentence, "cocoid": INT,
    }  # fmt: skip

    def rows(numbers: range, split: str) -> list[dict[str, Any]]:
        return [
            {
                "image": jpg(n), "filepath": f"COCO_val2014_{n:012}.jpg", "sentids": [5 * n + k for k in range(5)],
                "filename": f"COCO_val2014_{n:012}.jpg", "imgid": n, "split": split, "cocoid": n + 300,
                "sentences": {"tokens": ["a", "dog"], "raw": f"A dog, {n} {k}.", "imgid": n, "sentid": 5 * n + k},
            }
            for n in numbers
            for k in range(5)
        ]  # fmt: skip

    write(tmp_path, "train", features, rows(range(3), "train") + rows(range(3, 5), "restval"))
    write(tmp_path, "validation", features, rows(range(5, 7), "val"))
    write(tmp_path, "test", features, rows(range(7, 9), "test"))
    for split, count, first in (("train", 5, 0), ("val", 2, 5), ("test", 2, 7)):
        source = opened(tmp_path, split)
        assert (len(source), source.image_id(1)) == (count, str(first + 301))
        assert source.example(1).captions == tuple(f"A dog, {first + 1} {k}." for k in range(5))
        assert np.array_equal(source.image(1), picture(first + 1))
    assert "10 rows are 2 images: rows of one image are put together" in " ".join(source.notes)


def test_coco_karpathy_names_files_of_images(tmp_path: Path) -> None:
    """yerevann/coco-karpathy: no pixels, which lie in COCO's own folders; restval is trained on."""
    features = {"url": TEXT, "filename": TEXT, "sentids": [LONG], "split": TEXT, "sentences": [TEXT], "cocoid": LONG}
    rows: dict[str, list[dict[str, Any]]] = {}
    for at, split in enumerate(("train", "restval", "validation", "test")):
        year = "train2014" if split == "train" else "val2014"
        (tmp_path / "coco" / year).mkdir(parents=True, exist_ok=True)
        for number in (2 * at, 2 * at + 1):
            name = f"COCO_{year}_{number:012}.jpg"
            (tmp_path / "coco" / year / name).write_bytes(photo(number))
            said = [f"sentence {k} of {number}" for k in range(5)]
            row = {"url": f"http://x/{name}", "filename": name, "sentids": [1, 2], "split": split, "sentences": said}
            rows.setdefault(split, []).append({**row, "cocoid": number})
        write(tmp_path, split, features, rows[split])
    found = {split: opened(tmp_path, split) for split in ("train", "val", "test")}
    assert {split: [source.image_id(k) for k in range(len(source))] for split, source in found.items()} == {
        "train": ["2", "3", "0", "1"], "val": ["4", "5"], "test": ["6", "7"],
    }  # fmt: skip
    for source in found.values():
        number = int(source.image_id(1))
        assert source.example(1).captions == tuple(f"sentence {k} of {number}" for k in range(5))
        assert np.array_equal(source.image(1), picture(number))
    name = "COCO_val2014_000000000005.jpg"
    before = found["val"].fingerprint()
    (tmp_path / "coco" / "val2014" / name).write_bytes(photo(77))  # its content is part of the fingerprint
    assert opened(tmp_path, "val").fingerprint() != before
    del found, source  # open data do not look for their files a second time
    (tmp_path / "coco").rename(tmp_path.parent / f"{tmp_path.name}-coco")
    with refused("there is no image file below .*put the images there, or name their folder with --images"):
        opened(tmp_path, "val")
    moved = opened(Path(f"{tmp_path}?images={tmp_path.parent / (tmp_path.name + '-coco')}"), "test")
    assert np.array_equal(moved.image(0), picture(6))


def test_flickr30k_is_all_under_test(tmp_path: Path) -> None:
    """lmms-lab/flickr30k: 31,783 images under `test`; divided where that is asked for."""
    features = {"image": Image(), "caption": [TEXT], "sentids": [TEXT], "img_id": TEXT, "filename": TEXT}
    rows = [
        {"image": jpg(k), "caption": [f"man {k}", "b"], "sentids": ["0", "1"], "img_id": str(k + 70), "filename": f"{k}.jpg"}
        for k in range(20)
    ]  # fmt: skip
    write(tmp_path, "test", features, rows)
    source = opened(tmp_path, "test")
    assert (len(source), source.image_id(3), source.example(3).captions) == (20, "73", ("man 3", "b"))
    assert np.array_equal(source.image(3), picture(3))
    sizes = [len(opened(Path(f"{tmp_path}?split=80/10/10"), split)) for split in ("train", "val", "test")]
    assert sum(sizes) == 20 and min(sizes) > 0


def test_nocaps(tmp_path: Path) -> None:
    """lmms-lab/NoCaps: two ids, captions under a name of their own, a test set without."""
    features = {
        "image": Image(), "image_coco_url": TEXT, "image_date_captured": TEXT, "image_file_name": TEXT, "image_height": INT,
        "image_width": INT, "image_id": INT, "image_license": Value("int8"), "image_open_images_id": TEXT,
        "annotations_ids": [INT], "annotations_captions": [TEXT],
    }  # fmt: skip

    def row(number: int, captions: Any) -> dict[str, Any]:
        return {
            "image": jpg(number), "image_coco_url": "http://x", "image_date_captured": "2018", "image_height": 18,
            "image_file_name": f"00{number}.jpg", "image_width": 24, "image_id": number + 8, "image_license": 0,
            "image_open_images_id": f"0013ea{number}", "annotations_ids": [1, 2], "annotations_captions": captions,
        }  # fmt: skip

    write(tmp_path, "validation", features, [row(k, [f"a baby {k}", "x"]) for k in range(3)])
    write(tmp_path, "test", features, [row(k, hidden) for k, hidden in enumerate(([], None), 3)])
    source = evaluated_alone(tmp_path, "validation")
    assert (len(source), source.image_id(2), source.example(2).captions) == (3, "10", ("a baby 2", "x"))


def test_textcaps_repeats_its_captions_as_references(tmp_path: Path) -> None:
    """lmms-lab/TextCaps: `caption_str` and `reference_strs`; its test has neither."""
    strings = ("flickr_original_url", "flickr_300k_url", "set_name", "image_name", "image_path")
    features = {
        "question_id": TEXT, "question": TEXT, "image": Image(), "image_id": TEXT, "image_classes": [TEXT],
        **dict.fromkeys(strings, TEXT), "image_width": LONG, "image_height": LONG, "caption_id": [LONG],
        "caption_str": [TEXT], "reference_strs": [TEXT],
    }  # fmt: skip

    def row(number: int, split: str, captions: Any) -> dict[str, Any]:
        return {
            "question_id": f"q{number}", "question": "Please carefully observe the image", "image": jpg(number),
            "image_id": f"i{number}", "image_classes": ["Sign"], **dict.fromkeys(strings, "http://x"), "set_name": split,
            "image_width": 24, "image_height": 18, "caption_id": [1], "caption_str": captions, "reference_strs": captions,
        }  # fmt: skip

    for at, split in enumerate(("train", "val", "test")):
        said = [None if split == "test" else [f"STOP {k}", "b"] for k in (2 * at, 2 * at + 1)]
        write(tmp_path, split, features, [row(2 * at + k, split, said[k]) for k in range(2)])
    source = opened(tmp_path, "test")
    assert "its test has no texts, tested on all of val; a tenth of train is held out" in " ".join(source.notes)
    assert (source.image_id(1), source.example(1).captions) == ("i3", ("STOP 3", "b"))
    with refused("--task vqa needs a column for the answers"):
        opened(tmp_path, "test", task=VQA)


def test_vqav2(tmp_path: Path) -> None:
    """lmms-lab/VQAv2: answers of annotators as objects; no train; testdev and test without answers."""
    answer = {"answer": TEXT, "answer_confidence": TEXT, "answer_id": LONG}
    features = {
        "question_type": TEXT, "multiple_choice_answer": TEXT, "answers": [answer], "image_id": LONG, "answer_type": TEXT,
        "question_id": LONG, "question": TEXT, "image": Image(),
    }  # fmt: skip

    def row(image: int, number: int, said: list[str] | None) -> dict[str, Any]:
        given = said and [
            {"answer": text, "answer_confidence": "yes", "answer_id": k} for k, text in enumerate(said, 1)
        ]
        return {
            "question_type": "what", "multiple_choice_answer": said and said[0], "answers": given, "image_id": image,
            "answer_type": "other", "question_id": 1000 * image + number, "question": f"Who? {number}", "image": jpg(image),
        }  # fmt: skip

    ten = ["me"] + ["you"] * 7 + ["them"] * 2
    write(tmp_path, "validation", features, [row(image, k, ten) for image in (4, 5) for k in range(3)], files=2)
    write(tmp_path, "testdev", features, [row(6, 0, None)])
    write(tmp_path, "test", features, [row(7, 0, None)])
    source = evaluated_alone(tmp_path, "validation", VQA)
    assert [source.image_id(k) for k in range(2)] == ["4", "5"] and np.array_equal(source.image(1), picture(5))
    asked = {request.request_id: (request.prefix, request.references) for request in source.requests(1)}
    assert asked == {f"500{k}": (f"Who? {k}", tuple(ten)) for k in range(3)}
    assert set(texts(source)) == {(f"Who? {k}", "you") for k in range(3)}
    with refused("--task caption needs a column for the captions.*or --task vqa"):
        opened(tmp_path, "val")


@pytest.mark.parametrize("hidden", [None, [], [""] * 10])
def test_textvqa(tmp_path: Path, hidden: Any) -> None:
    """lmms-lab/textvqa: ten answers as texts, which the test has empty."""
    features = {
        "image_id": TEXT, "question_id": INT, "question": TEXT, "question_tokens": [TEXT], "image": Image(),
        "image_width": INT, "image_height": INT, "flickr_original_url": TEXT, "flickr_300k_url": TEXT, "answers": [TEXT],
        "image_classes": [TEXT], "set_name": TEXT, "ocr_tokens": [TEXT],
    }  # fmt: skip

    def row(number: int, split: str, answers: Any) -> dict[str, Any]:
        return {
            "image_id": f"i{number}", "question_id": number + 30, "question": "What brand?", "question_tokens": ["what"],
            "image": jpg(number), "image_width": 24, "image_height": 18, "flickr_original_url": "", "flickr_300k_url": "",
            "answers": answers, "image_classes": ["Phone"], "set_name": split, "ocr_tokens": ["NOKIA"],
        }  # fmt: skip

    ten = ["nokia"] * 6 + ["toyota"] * 4
    write(tmp_path, "train", features, [row(k, "train", ten) for k in range(20)])
    write(tmp_path, "validation", features, [row(k, "val", ten) for k in (20, 21)])
    write(tmp_path, "test", features, [row(k, "test", hidden) for k in (22, 23)])
    source = opened(tmp_path, "test", task=VQA)
    assert [source.image_id(k) for k in range(len(source))] == ["i20", "i21"] and texts(source)[0] == (
        "What brand?",
        "nokia",
    )
    assert source.requests(1)[0].request_id == "51" and source.requests(1)[0].references == tuple(ten)
    train, val = (opened(tmp_path, split, task=VQA) for split in ("train", "val"))
    assert len(train) + len(val) == 20 and len(val) > 0


def test_vizwiz_vqa(tmp_path: Path) -> None:
    """lmms-lab/VizWiz-VQA: no id of the image; its test without answers."""
    features = {"question_id": TEXT, "image": Image(), "question": TEXT, "answers": [TEXT], "category": TEXT}

    def row(number: int, answers: Any) -> dict[str, Any]:
        return {
            "question_id": f"VizWiz_{number}.jpg", "image": jpg(number), "question": "What is this?", "answers": answers,
            "category": "other",
        }  # fmt: skip

    ten = ["unanswerable"] * 3 + ["beans"] * 7
    write(tmp_path, "val", features, [row(k, ten) for k in range(3)])
    write(tmp_path, "test", features, [row(k, None) for k in (3, 4)])
    source = evaluated_alone(tmp_path, "val", VQA)
    assert len(source) == 3 and texts(source) == [("What is this?", "beans")] * 3
    assert source.requests(2)[0].request_id == "VizWiz_2.jpg" and np.array_equal(source.image(2), picture(2))
