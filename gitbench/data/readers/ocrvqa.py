"""OCR-VQA in its own file (ocr-vqa.github.io): `dataset.json`, and covers of books in `images/`.

The file is {id: {imageURL, questions, answers, split}}; answer k is that to question k, and splits are 1 (train), 2 (val) and
3 (test). A cover is named after its id; the file has addresses alone, so covers that were never fetched are missing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from gitbench.data.answers import references
from gitbench.data.base import Question, clean_caption
from gitbench.data.items import Item, Loaded, Part, Place, read_texts_file, split_files
from gitbench.errors import GitbenchError

NEEDS = {"vqa": "OCR-VQA's dataset.json with image files"}
_SPLITS = {1: "train", 2: "val", 3: "test"}
_PEEK = 4096  # characters; the file is large


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    paths = _files(place)
    return [Part(files=(path,), load=partial(_load, place, path), images=True) for path in paths]


def _files(place: Place) -> list[Path]:
    return split_files(place, lambda path: "" if path.name == "dataset.json" and _is_ours(path) else None).get("", [])


def _is_ours(path: Path) -> bool:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return '"imageURL"' in file.read(_PEEK)


def _load(place: Place, path: Path) -> Loaded:
    content = read_texts_file(path)
    items = []
    try:
        for name, book in content.items():
            where, split = f"{path}, image {name}", _SPLITS[book["split"]]
            pairs = list(zip(book["questions"], book["answers"], strict=True))
            items.append(
                Item(
                    image_id=name,
                    questions=tuple(_question(f"{name}-{k}", *pair, where) for k, pair in enumerate(pairs)),
                    where=where,
                    picture=place.picture(name, split),
                    key=name.encode(),
                    split=split,
                )
            )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        fix = "it needs as many 'answers' as 'questions' and a 'split' of 1, 2 or 3 for every id"
        raise GitbenchError(f"{path} is not OCR-VQA's file ({type(error).__name__}: {error}): {fix}") from None
    return Loaded(items=items)


def _question(own: str, asked: object, answer: object, where: str) -> Question:
    said, learned = references(answer, where)
    return Question(question_id=own, text=clean_caption(asked, where, "question"), answers=said, answer=learned)
