"""How train, val and test are made of what data state, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers_data import SPLITS, row, with_images, write_parquet
from helpers_errors import refused

from gitbench.data import open_source
from gitbench.data.splits import split_in, split_of, word_in


def coco_split(folder: Path, words: list[str]) -> Path:
    """Write one caption file whose images state these splits; image 7 is called 7 and so on."""
    with_images(folder, [f"{k}.png" for k in range(len(words))])
    images = [{"id": k, "file_name": f"{k}.png", **({"split": word} if word else {})} for k, word in enumerate(words)]
    notes = [{"image_id": k, "caption": f"caption {k}"} for k in range(len(words))]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return folder


def used(folder: Path | str) -> dict[str, set[int]]:
    """Return which images each split has; a split that cannot be made is left out."""
    found: dict[str, set[int]] = {}
    for split in SPLITS:
        source: Any = open_source(str(folder), split)
        if split in source.collection.division.takes:
            found[split] = {int(source.image_id(index)) for index in range(len(source))}
    return found


def notes(folder: Path | str, split: str = "test") -> tuple[str, ...]:
    source: Any = open_source(str(folder), split)
    return source.notes


TRAIN, VAL, TEST = set(range(30)), set(range(30, 35)), set(range(35, 40))


@pytest.mark.parametrize("words", [("train", "val", "test"), ("TRAIN", "VAL", "TEST"), ("restval", "dev", "test2015")])
def test_stated_splits_are_honoured_however_they_are_written(tmp_path: Path, words: tuple[str, str, str]) -> None:
    folder = coco_split(tmp_path, [words[0]] * 30 + [words[1]] * 5 + [words[2]] * 5)
    assert used(folder) == {"train": TRAIN, "val": VAL, "test": TEST} and notes(folder) == ()


def test_a_column_of_splits_in_parquet_is_honoured(tmp_path: Path) -> None:
    words = ["train"] * 30 + ["val"] * 5 + ["test"] * 5
    rows = [row(k, split=word) | {"image_id": str(k)} for k, word in enumerate(words)]
    write_parquet(tmp_path / "flickr.parquet", rows)
    assert used(tmp_path) == {"train": TRAIN, "val": VAL, "test": TEST}


def test_a_file_that_is_named_after_one_of_the_splits_that_its_images_state(tmp_path: Path) -> None:
    """nlphuji/flickr30k: all lies in a file called test, with a column `split`."""
    words = ["train"] * 30 + ["val"] * 5 + ["test"] * 5
    rows = [row(k, split=word) | {"image_id": str(k)} for k, word in enumerate(words)]
    write_parquet(tmp_path / "data" / "TEST-00000-of-00001.parquet", rows)
    source: Any = open_source(str(tmp_path), "test")
    for _ in range(2):
        with refused(
            "row 0 states the split train, and its file is named after test: pass --split test=test,.* or --c"
        ):
            len(source)
    assert used(f"{tmp_path}?columns=split=split") == {"train": TRAIN, "val": VAL, "test": TEST}
    assert used(f"{tmp_path}?split=test=test") == {"test": TRAIN | VAL | TEST}
    assert sum(map(len, used(f"{tmp_path}?split=80/10/10").values())) == 40


@pytest.mark.parametrize("kind", ["coco", "questions", "csv"])
def test_a_split_within_a_file_of_another_is_no_guess(tmp_path: Path, kind: str) -> None:
    folder = coco_split(tmp_path, ["train"] * 20 + ["val"] * 5)
    (folder / "captions.json").rename(folder / "train.json")
    task = "vqa" if kind == "questions" else "caption"
    if kind == "questions":
        asked = {"question": "what ?", "answers": ["yes"], "image": "0.png"}
        (folder / "train.json").write_text(json.dumps([{**asked, "split": "val", "question_id": 3}]))
    elif kind == "csv":
        (folder / "train.json").unlink()
        (folder / "train.csv").write_text("file_name,caption,split\n0.png,a dog,train\n1.png,a cat,val\n")
    with refused("states the split val, and its file is named after train"):
        len(open_source(str(folder), "train", task=task))


def test_train_and_val_alone_test_on_val_and_hold_out_a_tenth_of_train(tmp_path: Path) -> None:
    found = used(coco_split(tmp_path, ["train"] * 30 + ["val"] * 10))
    assert found["test"] == VAL | TEST  # no image of val is trained on
    assert found["train"] | found["val"] == TRAIN and not found["train"] & found["val"] and len(found["train"]) > 20
    assert notes(tmp_path) == ("states no test: tested on all of val; a tenth of train is held out as val",)


def test_train_and_test_alone_hold_out_a_tenth_of_train(tmp_path: Path) -> None:
    found = used(coco_split(tmp_path, ["train"] * 35 + ["test"] * 5))
    assert found["test"] == TEST and found["train"] | found["val"] == TRAIN | VAL and found["val"]
    assert notes(tmp_path) == ("states no val: a tenth of train is held out as val",)


@pytest.mark.parametrize(("word", "said"), [("train", "states train alone"), ("", "states no splits")])
def test_one_split_or_none_is_divided(tmp_path: Path, word: str, said: str) -> None:
    found = used(coco_split(tmp_path, [word] * 40))
    assert found["train"] | found["val"] | found["test"] == TRAIN | VAL | TEST and all(found.values())
    assert sum(map(len, found.values())) == 40
    assert notes(tmp_path) == (f"{said}: divided 80/10/10 by image",)


def test_without_train_there_is_evaluation_alone(tmp_path: Path) -> None:
    folder = coco_split(tmp_path, ["validation"] * 10)
    assert used(folder) == {"val": set(range(10)), "test": set(range(10))}
    assert notes(folder) == ("states no train: for evaluation alone",)
    with refused("has no train split: add one, or say with --split which is"):
        len(open_source(str(folder), "train"))


def test_a_test_set_without_answers_leaves_val_for_the_test(tmp_path: Path) -> None:
    with_images(tmp_path, [f"{k}.png" for k in range(40)])
    for split, numbers in (("train", range(30)), ("val", range(30, 35)), ("test", range(35, 40))):
        images = [{"id": k, "file_name": f"{k}.png"} for k in numbers]
        said = [{"image_id": k, "caption": "a dog"} for k in numbers] if split != "test" else []
        (tmp_path / f"{split}.json").write_text(json.dumps({"images": images, "annotations": said}))
    assert used(tmp_path)["test"] == VAL and not used(tmp_path)["train"] & VAL
    assert notes(tmp_path)[0].startswith("its test has no answers, tested on all of val; a tenth of train")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train"] * 9 + ["gold"],
            r"the split 'gold' is none of train, val and test \(found: gold, train\): .*--split train=",
        ),
        (["train"] * 9 + [""], r"some images state a split \(train\) and others none: give all one, or none"),
        (["train2014", "train2017"] * 5, "train2014 and train2017 are of two years: say which is meant with --split"),
    ],
)
def test_splits_with_two_readings_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    with refused(message):
        used(coco_split(tmp_path, words))


def test_files_of_both_kinds_are_refused(tmp_path: Path) -> None:
    for name in ("train.parquet", "more.parquet"):
        write_parquet(tmp_path / name, [row(1)])
    with refused("train.parquet is named after a split and more.parquet is not: leave files of one kind"):
        used(tmp_path)


def test_splits_are_chosen_by_name_or_made_anew(tmp_path: Path) -> None:
    folder = coco_split(tmp_path, ["train2014"] * 15 + ["train2017"] * 15 + ["gold"] * 10)
    chosen = used(f"{folder}?split=train=train2014+train2017,test=gold")
    assert chosen == {"train": TRAIN, "test": VAL | TEST}
    anew = used(f"{folder}?split=50/25/25")
    assert sum(map(len, anew.values())) == 40 and 10 < len(anew["train"]) < 30 and len(anew["test"]) > 3
    assert notes(f"{folder}?split=50/25/25") == ("divided 50/25/25 by image, as asked",)
    for asked, message in (
        ("train=train2015", "there is no split train2015: known: gold, train2014, train2017"),
        ("trai=gold", "write 80/10/10, or train=NAME"),
        ("100/0/0", "--split 100/0/0 leaves a split empty"),
        ("a/b/c", "write 80/10/10, or train=NAME"),
    ):
        with refused(message):
            used(f"{folder}?split={asked}")


def test_words_for_splits() -> None:
    assert [split_of(word) for word in ("Validation", "test-dev2015", "minival", "restval", "trainval", "gold")] == [
        "val", "test", "val", "train", None, None,
    ]  # fmt: skip
    names = ("captions_train2017", "test_images", "train-val", "latest", "v2_OpenEnded_mscoco_test-dev2015_questions")
    assert [word_in(name) for name in names] == ["train2017", "test", None, None, "testdev2015"]
    assert split_in("valImages") == "val"
