"""VQAv2, TextVQA, VizWiz-VQA and ST-VQA in the layouts in which they are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import VQA, opened, picture, texts
from helpers_errors import refused
from helpers_published import st_vqa, ten, vqa_v2
from helpers_sets import ids, put, write

from gitbench.data.tasks import Request


@pytest.mark.parametrize("place", ["", "annotations/", "Annotations/", "v2 of 2017/"])
def test_vqa_v2_as_downloaded(tmp_path: Path, place: str) -> None:
    folder = vqa_v2(tmp_path, place)
    if place == "v2 of 2017/":
        with refused("holds nothing for --task vqa"):
            opened(folder, task=VQA)
        return
    found = ids(folder, VQA)
    assert found["test"] == ["13", "14", "15"]
    assert sorted(map(int, found["train"] + found["val"])) == list(range(1, 13)) and found["val"]
    source = opened(folder, "test", task=VQA)
    said = tuple(item["answer"] for item in ten("yes", "no", "yes"))
    assert source.requests(1)[1] == Request(
        request_id="14001", prefix="What 1 of 14?", references=said, answers_are="votes"
    )
    assert texts(source)[0] == ("What 0 of 13?", "yes") and np.array_equal(source.image(1), picture(14))
    assert "test2015, testdev2015 has no texts" in source.source.notes[0]


def test_the_answers_of_vqa_v2_are_missed(tmp_path: Path) -> None:
    folder = vqa_v2(tmp_path, "")
    (folder / "v2_mscoco_val2014_annotations.json").unlink()
    with refused("v2_mscoco_val2014_annotations.json is missing"):
        opened(folder, "test", task=VQA)


def test_textvqa_in_its_own_files(tmp_path: Path) -> None:
    for start, split, place in ((0, "train", "train_images"), (20, "val", "train_images"), (30, "test", "test_images")):
        rows = []
        for number in range(start, start + (12 if split == "train" else 3)):
            put(tmp_path, {f"{place}/{number:016x}.jpg": number})
            row = {"question": f"what is {number}?", "image_id": f"{number:016x}", "image_classes": ["Tree"],
                   "flickr_original_url": "https://x", "image_width": 24, "image_height": 18, "set_name": split,
                   "question_id": 34000 + number, "question_tokens": ["what"]}  # fmt: skip
            rows.append(row if split == "test" else {**row, "answers": ["nokia", "nokia", "phone"] + ["nokia"] * 7})
        head = {"dataset_type": split, "dataset_name": "textvqa", "dataset_version": "0.5.1"}
        write(tmp_path, f"TextVQA_0.5.1_{split}.json", {**head, "data": rows})
        ocr = {"data": [{"image_id": row["image_id"], "ocr_tokens": [], "ocr_info": []} for row in rows]}
        write(tmp_path, f"TextVQA_Rosetta_OCR_v0.2_{split}.json", ocr)
    found = ids(tmp_path, VQA)
    assert found["test"] == [f"{number:016x}" for number in (20, 21, 22)]  # of val
    assert len(found["train"]) + len(found["val"]) == 12
    source = opened(tmp_path, "test", task=VQA)
    said = ("nokia", "nokia", "phone", *["nokia"] * 7)
    asked = Request(request_id="34020", prefix="what is 20?", references=said, answers_are="votes")
    assert source.requests(0) == (asked,)
    assert np.array_equal(source.image(2), picture(22))


def test_vizwiz_vqa_in_its_own_files(tmp_path: Path) -> None:
    for start, split in ((0, "train"), (20, "val"), (30, "test")):
        rows = []
        for number in range(start, start + 12):
            name = f"VizWiz_{split}_{number:08d}.jpg"
            put(tmp_path, {f"{split}/{name}": number})
            row = {"image": name, "question": f"What is {number}?"}
            told = {"answers": ten("unanswerable", "cup"), "answer_type": "other", "answerable": 0}
            rows.append(row if split == "test" else {**row, **told})
        write(tmp_path, f"Annotations/{split}.json", rows)
    found = ids(tmp_path, VQA)
    assert found["test"][0] == "VizWiz_val_00000020.jpg" and len(found["test"]) == 12
    source = opened(tmp_path, "test", task=VQA)
    (request,) = source.requests(3)
    assert (
        request.prefix == "What is 23?"
        and request.references == ("unanswerable", "cup") * 5
        and request.answers_are == "votes"
    )
    assert texts(source)[3] == ("What is 23?", "unanswerable") and np.array_equal(source.image(3), picture(23))


def test_st_vqa_in_its_own_files(tmp_path: Path) -> None:
    found = ids(st_vqa(tmp_path), VQA)
    assert sorted(sum(found.values(), [])) == sorted(f"imageNet/n0{number}.jpg" for number in range(12))
    source = opened(tmp_path, task=VQA)
    number = int(found["train"][0].split("n0")[1].split(".")[0])
    references = ("Café 7", "cafe")
    expected = Request(request_id=str(70000 + number), prefix=f"Which text {number}?", references=references)
    assert source.requests(0) == (expected,) and np.array_equal(source.image(0), picture(number))
    assert "its test has no texts, states train alone" in source.source.notes[0]


def test_the_third_task_of_st_vqa_is_the_one_of_free_answers(tmp_path: Path) -> None:
    source = opened(st_vqa(tmp_path, (1, 2, 3)), task=VQA)
    assert sum(len(source.requests(index)) for index in range(len(source))) == len(source)
    assert {part.files[0].name for part in source.source.collection.parts} == {"train_task_3.json", "test_task_3.json"}
    (tmp_path / "train_task_3.json").unlink()
    (tmp_path / "test_task_3.json").unlink()
    with refused("test_task_1.json and test_task_2.json are of two tasks of ST-VQA: leave one"):
        opened(tmp_path, task=VQA)


def test_layouts_that_are_refused_say_what_to_do(tmp_path: Path) -> None:
    """easy-VQA's lists of lists, NLVR's JSON lines called .json, both in the folders of splits."""
    easy, nlvr = tmp_path / "easy", tmp_path / "nlvr"
    for split in ("train", "test"):
        put(easy, {f"{split}/images/{number}.png": number for number in range(3)})
        write(easy, f"{split}/questions.json", [["what is the red shape?", "triangle", 0]])
        put(nlvr, {f"{split}/images/0/{split}-1-0-0.png": 1})
        (nlvr / split / f"{split}.json").write_text('{"sentence": "a", "label": "true"}\n{"sentence": "b"}\n')
    for folder, files in (
        (easy, "test/questions.json, train/questions.json"),
        (nlvr, "test/test.json, train/train.json"),
    ):
        with refused(
            r"questions.json .a list of .question_id, image, question, answers.*found: test/, train/; not looked into: "
            rf"{files} .where texts are meant, move them up, named after their splits"
        ):
            opened(folder, task=VQA)
    for split in ("train", "test"):
        (easy / split / "questions.json").rename(easy / f"{split}_questions.json")
        (nlvr / split / f"{split}.json").rename(nlvr / f"{split}.json")
    with refused(
        "train_questions.json is not a file of questions .*list instead of an object.*: a list of .question_id"
    ):
        opened(easy, task=VQA)
    with refused("train.json is no JSON but an object a line: call it .jsonl, or write a list of these"):
        opened(nlvr, task=VQA)
    for split in ("train", "test"):
        (nlvr / f"{split}.json").rename(nlvr / f"{split}.jsonl")
    with refused("needs a column for the image, found: sentence, label: name it with --columns image=NAME"):
        opened(nlvr, task=VQA)
