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

from gitbench.data.base import AnswersAre
from gitbench.data.splits import divided
from gitbench.data.tasks import Request, Text
from gitbench.metrics import CaptionScorer
from gitbench.spec import TaskSpec
from gitbench.study.scoring import TaskScorer
from gitbench.training.run import prediction

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
    ("answers", "references", "target", "are"),
    [
        (["hole_puncher"], ("hole_puncher",), "hole_puncher", "alternatives"),
        (["1/8/93", "January 8, 1993"], ("1/8/93", "January 8, 1993"), "1/8/93", "alternatives"),
        (["no", *["yes"] * 8], ("no", *["yes"] * 8), "yes", "alternatives"),
        ("yes", ("yes",), "yes", "alternatives"),
        (["b", "a", "a", "b", *"cdefgh"], ("b", "a", "a", "b", *"cdefgh"), "b", "votes"),
        ([{"answer": "no"}, {"answer": " yes\n"}, {"answer": "yes"}], ("no", "yes", "yes"), "yes", "alternatives"),
        ([{"answer": "no"}, {"answer": "yes"}] * 2, ("no", "yes") * 2, "no", "votes"),
        ({"answer": ["a", "b", "b", "b"], "answer_id": [1, 2, 3, 4]}, ("a", *"bbb"), "b", "votes"),
        (["yes"] * 11, ("yes",) * 11, "yes", "alternatives"),
        (list("abcdefghij"), tuple("abcdefghij"), "a", "alternatives"),
        ([{"answer": "a_b", "answer_confidence": "maybe"}], ("a_b",), "a_b", "alternatives"),
    ],
)
def test_answers_become_references(
    tmp_path: Path, answers: Any, references: tuple[str, ...], target: str, are: AnswersAre
) -> None:
    folder = asked_folder(tmp_path, [question(5, "1.png", answers)], "val_questions.json")
    source = opened(folder, "val", task=VQA)
    expected = Request(request_id="5", prefix="what is number 5 ?", references=references, answers_are=are)
    assert source.requests(0) == (expected,)
    assert source.texts(0) == (Text(prefix="what is number 5 ?", target=target),)
    with refused("has no train split: add one, or say with --split which is; found: files of val"):
        opened(folder, task=VQA)


@pytest.mark.parametrize("layout", ["questions", "lists", "parquet"])
def test_ten_texts_are_votes_where_some_of_a_table_are_repeated(tmp_path: Path, layout: str) -> None:
    several = {1: ["cat"] * 9 + ["dog"], 2: list("abcdefghij"), 3: ["yes"] * 3, 4: ["x"], 5: ["no"] * 11}
    rows = [question(number, f"{number}.png", answers) for number, answers in several.items()]
    if layout == "questions":
        asked_folder(tmp_path, rows, "test_questions.json")
    elif layout == "lists":
        asked_folder(tmp_path, "\n".join(map(json.dumps, rows)), "test.jsonl")
    else:
        write_parquet(tmp_path / "test.parquet", [{**each, **row(each["question_id"])} for each in rows])
    source = opened(tmp_path, "test", task=VQA)
    (asked,) = zip(*(source.requests(index) for index in range(len(source))), strict=True)
    assert [each.answers_are for each in asked] == ["votes", "votes", *["alternatives"] * 3]
    with CaptionScorer(meteor=False, spice=False) as scorer:
        scores = TaskScorer.of(source, scorer).scores(
            [{"image_id": each.request_id, "caption": each.references[0]} for each in asked]
        )
    assert [round(value) for value in scores.columns["VQA"]] == [100, 30, 100, 100, 100]


def test_data_say_themselves_what_answers_are(tmp_path: Path) -> None:
    told = {1: {"answers_are": "votes"}, 2: {"answers_are": "set"}, 3: {"set_valued": True}, 4: {"set_valued": "false"},
            5: {"set_valued": False}, 6: {"answers_are": "alternatives"}}  # fmt: skip
    said = ["a_b", "c", "a_b", "a_b", "a_b"]
    rows = [question(number, f"{number}.png", said, **more) for number, more in told.items()]
    source = opened(asked_folder(tmp_path, rows, "test_questions.json"), "test", task=VQA)
    (asked,) = zip(*(source.requests(index) for index in range(len(source))), strict=True)
    sets, others = ("a b, c, a b, a b, a b",), tuple(said)
    expected = [others, sets, sets, others, others, others]
    assert [each.references for each in asked] == expected
    kinds = ["votes", "set", "set", "alternatives", "alternatives", "alternatives"]
    assert [each.answers_are for each in asked] == kinds
    with refused("question 1: answers_are is 'vote', which is none of alternatives, votes, set: correct or remove it"):
        asked_folder(tmp_path, [question(1, "1.png", said, answers_are="vote")], "test_questions.json")
        opened(tmp_path, "test", task=VQA)


def test_predictions_are_scored_again_as_the_data_had_them(tmp_path: Path) -> None:
    class Words:
        def decode(self, ids: list[str]) -> str:
            return " ".join(ids)

    votes = [{"answer": word} for word in ("yes", "yes", "no", "no", "no")]
    rows = [question(1, "1.png", votes), question(2, "2.png", ["a", "b"], set_valued=True), question(3, "3.png", "cd")]
    source = opened(asked_folder(tmp_path, rows, "test_questions.json"), "test", task=VQA)
    output = {"ids": ["yes"], "score": 0.0, "nll": 1.0, "tokens": 1}
    given: list[dict[str, Any]] = [
        prediction(source.requests(index)[0], output, str(index), Words())  # type: ignore[arg-type]
        for index in range(len(source))
    ]
    assert [each.get("answers_are") for each in given] == ["votes", "set", None]
    given[1]["caption"] = "b, a"
    with CaptionScorer(meteor=False, spice=False) as scorer:
        here, again = TaskScorer.of(source, scorer), TaskScorer.of_rows("vqa", scorer, given)
        assert list(here.scores(given).columns["VQA"]) == pytest.approx([(2 * 1 / 3 + 3 * 2 / 3) / 5 * 100, 100, 0])
        assert again.scores(given).values == here.scores(given).values and again.ceiling() == here.ceiling()


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
