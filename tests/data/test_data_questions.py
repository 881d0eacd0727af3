"""Folders for the tasks: questions, class names and words to be read, in every layout, and what can be wrong there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from helpers_data import (
    CAPTION,
    CLASSIFY,
    READ,
    SPLITS,
    VIDEO,
    VQA,
    coco,
    opened,
    photo,
    picture,
    row,
    texts,
    with_images,
    write_parquet,
)
from helpers_errors import refused

from gitbench.data.splits import divided
from gitbench.data.tasks import Request, Text
from gitbench.spec import TaskSpec

# ---- folders with questions ---------------------------------------------------------------------------------------


def question(number: int, image: str, answers: Any = ("yes",), **more: Any) -> dict[str, Any]:
    said = list(answers) if isinstance(answers, tuple) else answers
    return {"question_id": number, "image": image, "question": f"what is number {number} ?\n", "answers": said, **more}


def asked_folder(folder: Path, content: Any, file: str = "questions.json") -> Path:
    with_images(folder, [f"{number}.png" for number in range(12)])
    (folder / file).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def splits_of(folder: Path, task: TaskSpec) -> dict[str, list[str]]:
    sources = {split: opened(folder, split, task=task) for split in SPLITS}
    return {split: [source.image_id(index) for index in range(len(source))] for split, source in sources.items()}


def test_one_file_of_questions_is_divided_by_image_whatever_its_order(tmp_path: Path) -> None:
    content = [question(number, f"{number % 12}.png") for number in range(30)]
    found = splits_of(asked_folder(tmp_path / "a", content), VQA)
    assert sorted(sum(found.values(), [])) == sorted(f"{k}.png" for k in range(12)) and all(found.values())
    turned = splits_of(asked_folder(tmp_path / "b", content[::-1]), VQA)
    assert {split: sorted(ids) for split, ids in turned.items()} == {split: sorted(ids) for split, ids in found.items()}
    train = opened(tmp_path / "a", task=VQA)
    first = int(found["train"][0].split(".")[0])
    assert [request.request_id for request in train.requests(0)] == [str(k) for k in range(30) if k % 12 == first]
    assert texts(train)[0] == (f"what is number {first} ?", "yes")
    assert train.example(0).captions == () and train.example(0).questions[0].answer == "yes"
    assert np.array_equal(train.image(0), picture(first))


def test_no_split_is_left_empty() -> None:
    keys = [hashlib.sha256(f"{k}.png".encode()).digest() for k in range(200)]
    splits = divided(keys, "here")
    assert divided(keys[::-2], "here").items() <= splits.items()  # enough images: the hash alone decides
    assert 140 < list(splits.values()).count("train") < 180
    for split, expected in (("train", ["test", "train", "val"]), ("test", ["test", "test", "train", "val"])):
        some = [key for key in keys if splits[key] == split][: len(expected)]
        assert sorted(divided(some, "here").values()) == expected
        assert divided(some[::-1], "here") == divided(some, "here")
    with refused("here: 2 images cannot be divided"):
        divided([b"a", b"b", b"a"], "here")


@pytest.mark.parametrize(
    ("answers", "references", "target"),
    [
        (["hole_puncher"], ("hole_puncher",), "hole_puncher"),
        (["1/8/93", "January 8, 1993"], ("1/8/93", "January 8, 1993"), "1/8/93"),
        (["no", *["yes"] * 8], ("no", *["yes"] * 8), "yes"),
        ("yes", ("yes",), "yes"),
        (["b", "a", "a", "b", *"cdefgh"], ("b", "a", "a", "b", *"cdefgh"), "b"),
        ([{"answer": "no"}, {"answer": " yes\n"}, {"answer": "yes"}], ("no", "yes", "yes"), "yes"),
        ([{"answer": "a_b", "answer_confidence": "maybe"}], ("a_b",), "a_b"),
    ],
)
def test_answers_become_references(tmp_path: Path, answers: Any, references: tuple[str, ...], target: str) -> None:
    folder = asked_folder(tmp_path, [question(5, "1.png", answers)], "val_questions.json")
    source = opened(folder, "val", task=VQA)
    assert source.requests(0) == (Request(request_id="5", prefix="what is number 5 ?", references=references),)
    assert source.texts(0) == (Text(prefix="what is number 5 ?", target=target),)
    with refused("has no train split: add one, or say with --split which is; found: files of val"):
        opened(folder, task=VQA)


def test_the_two_files_of_vqa_v2(tmp_path: Path) -> None:
    (tmp_path / "images" / "val2014").mkdir(parents=True)
    for number in (42, 7):
        (tmp_path / "images" / "val2014" / f"COCO_val2014_{number:012d}.png").write_bytes(photo(number))
    asked = [{"question_id": 420, "image_id": 42, "question": "Is it?"}]
    asked += [{"question_id": 70 + k, "image_id": 7, "question": f"What {k}?"} for k in (0, 1)]
    said = [{"answer": word, "answer_id": 1} for word in ("x", "y", "y")]
    notes = [{"question_id": item["question_id"], "answers": said} for item in asked[::-1]]
    place = tmp_path / "annotations"
    place.mkdir()
    (place / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps({"questions": asked}))
    annotations = place / "v2_mscoco_val2014_annotations.json"
    annotations.write_text(json.dumps({"annotations": notes}))
    source = opened(tmp_path, "val", task=VQA)
    assert [source.image_id(k) for k in range(len(source))] == ["42", "7"]
    assert source.requests(1)[1] == Request(request_id="71", prefix="What 1?", references=("x", "y", "y"))
    assert texts(source)[0] == ("Is it?", "y") and np.array_equal(source.image(1), picture(7))
    first = source.source.fingerprint()
    annotations.write_text(json.dumps({"annotations": [{**note, "answers": [{"answer": "z"}]} for note in notes]}))
    assert opened(tmp_path, "val", task=VQA).source.fingerprint() != first  # not the one remembered
    annotations.write_text(json.dumps({"annotations": notes[:1]}))
    with refused("question 420: there are no answers: add them or remove the question"):
        opened(tmp_path, "val", task=VQA)
    annotations.unlink()
    with refused("annotations.json is missing"):
        opened(tmp_path, "val", task=VQA)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([question(1, "0.png", ())], r"question 1: there are no answers: add them or remove the question"),
        ([question(1, "0.png", (" \n",))], r"question 1: empty answer: write one or remove it from the data"),
        ([question(1, "0.png", (3.5,))], r"question 1: answer must be text, not float"),
        ([question(1, "0.png", (True,))], r"question 1: answer must be text, not bool"),
        ([question(1, "0.png", ("a", {"answer": "b"}))], r"question 1: answer must be text, not dict"),
        ([question(1, "0.png", ({"answer": "b"}, "a"))], r"question 1: answer must be text, not NoneType"),
        ([question(1, "0.png", question=" ")], r"question 1: empty question: write one"),
        (
            [question(1, "0.png"), question(1, "2.png")],
            r"image 2.png: question id '1' already used at .*image 0.png: give",
        ),
        ([question(1, "77.png")], r"image 77.png: image .*images/77.png is missing: add it or remove its row"),
        (
            [{"question_id": 1, "question": "a?", "answers": ["b"]}],
            r"val.json: --task vqa needs a column for the image, found: question_id, .*: name it with --columns image=NAME",
        ),
        (["what?"], r"not a file of questions \(TypeError: .*which --task vqa needs: a list of \{question_id"),
        ({"images": [], "annotations": []}, r"not a file of questions \(KeyError: 'questions'\)"),
        ('[{"question_id": 1, ', "val.json .*not whole JSON"),
        ([], r"\(val\) holds no images with questions: fill the split or pass other data"),
    ],
)
def test_faults_of_question_files(tmp_path: Path, content: Any, message: str) -> None:
    with refused(message):
        opened(asked_folder(tmp_path, content, "val.json"), "val", task=VQA)


# ---- folders with labels and words --------------------------------------------------------------------------------


def labelled(folder: Path, column: str, features: Any, **splits: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    start = 0
    for name, values in splits.items():
        rows = {"image": [{"bytes": photo(start + k), "path": None} for k in range(len(values))], column: values}
        kinds = datasets.Features({"image": datasets.Image(), column: features})
        datasets.Dataset.from_dict(rows, features=kinds).to_parquet(str(folder / f"{name}.parquet"))
        start += len(values)
    return folder


def test_one_file_of_words_is_divided_by_picture(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": photo(k), "path": f"{k}.png"}, "text": f" word{k}\n"} for k in range(20)]
    write_parquet(tmp_path / "a" / "words.parquet", [*rows, rows[3] | {"text": "same"}])
    write_parquet(tmp_path / "b" / "words.parquet", [rows[3] | {"text": "same"}, *rows[::-1]])
    said: list[dict[str, set[str]]] = []
    for folder in ("a", "b"):
        sources = {name: opened(tmp_path / folder, name, task=READ) for name in SPLITS}
        said.append({name: {word for _, word in texts(source)} for name, source in sources.items()})
        for source in sources.values():
            for index, (_, word) in enumerate(texts(source)):
                assert np.array_equal(source.image(index), picture(int(word.removeprefix("word").replace("same", "3"))))
    assert said[0] == said[1] and all(said[0].values()) and sum(map(len, said[0].values())) == 21
    assert any({"word3", "same"} <= words for words in said[0].values())
    everything = tuple(sorted({f"word{k}" for k in range(20)} | {"same"}))
    assert opened(tmp_path / "a", "val", 1, READ).vocabulary() == everything
    assert (
        opened(tmp_path / "a").example(0).captions[0].startswith(("word", "same"))
    )  # captions, too, stand in such a column


def test_class_names_and_texts_are_labels(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["golden retriever", "cat ", "never seen"])
    folder = labelled(tmp_path / "n", "label", names, train=[1, 0, 1], validation=[0], test=[1])
    source = opened(folder, task=CLASSIFY)
    assert texts(source) == [("", "cat"), ("", "golden retriever"), ("", "cat")]
    assert source.vocabulary() == ("cat", "golden retriever", "never seen")
    assert source.requests(2) == (Request(request_id="train-2", prefix="", references=("cat",)),)
    kind = datasets.Value("string")
    other = labelled(tmp_path / "t", "label", kind, train=["b", "a"], val=["c"], test=["a"])
    test, val = (opened(other, split, 1, CLASSIFY) for split in ("test", "val"))
    assert test.vocabulary() == ("a", "b", "c") and test.fingerprint() != val.fingerprint()


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([0, -1], "names", r"\(val\), row 1: label -1 names none of the 2 classes: correct the row"),
        ([0, None], "names", r"\(val\), row 1: label None names none"),
        ([4], "int64", r"row 0: label 4 is a number without a name: .* text or as datasets.ClassLabel"),
        (["a", " \n"], "string", r"row 1: empty label: write one or remove it"),
        (["a", None], "string", r"row 1: label must be text, not NoneType"),
    ],
)
def test_faults_of_labels(tmp_path: Path, values: list[Any], kind: str, message: str) -> None:
    feature = datasets.ClassLabel(names=["x", "y"]) if kind == "names" else datasets.Value(kind)
    folder = labelled(tmp_path / "f", "label", feature, val=values)
    with refused(message):
        opened(folder, "val", task=CLASSIFY)
    with refused("--task read needs a column for the text, found: image, label: .*--task classify"):
        opened(folder, "val", task=READ)
    with refused("has no train split: add one"):
        opened(folder, task=CLASSIFY)


def test_captions_and_labels_of_one_file_are_told_apart(tmp_path: Path) -> None:
    for number, split in enumerate(SPLITS):
        write_parquet(tmp_path / f"{split}.parquet", [row(number, label="dog")])
    captions, labels, again = (opened(tmp_path, "val", task=task) for task in (CAPTION, CLASSIFY, CLASSIFY))
    assert labels.source.fingerprint() != captions.source.fingerprint()
    assert again.source.fingerprint() == labels.source.fingerprint()  # remembered
    assert len(captions.texts(0)) == 2 and texts(labels) == [("", "dog")]


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    captions = coco(tmp_path / "c", [f"{k}.png" for k in range(30)])
    asked = asked_folder(tmp_path / "q", [question(k, f"{k}.png") for k in range(12)])
    for folder, task, message in (
        (captions, VQA, "c holds nothing for --task vqa .*--task caption.*: add .*questions.json"),
        (captions, READ, "c holds nothing for --task read .*: add .*train.parquet, .* 'image' and 'text'"),
        (captions, CLASSIFY, "c holds nothing for --task classify .*: add .*train.parquet, .* 'image' and 'label'"),
        (captions, VIDEO, "--task video needs films and .*c holds still images: pass --data scenes-motion"),
        (asked, CAPTION, "q holds nothing for --task caption .*--task vqa.*: add .*captions.json"),
    ):
        with refused(message):
            opened(folder, task=task)
