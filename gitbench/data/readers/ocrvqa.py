"""OCR-VQA in its own file (ocr-vqa.github.io): `dataset.json`, and covers of books in `images/`.

The file is {id: {imageURL, questions, answers, split}}; answer k is that to question k, and splits are 1 (train), 2 (val) and
3 (test). A cover is named after its id; the file has addresses alone, so covers that were never fetched are missing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from gitbench.data.answers import question_of
from gitbench.data.items import Loaded, Part, Place, read_texts_file, split_files, taken_for

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
    with taken_for(path, "OCR-VQA's file", "as many 'answers' as 'questions' and a 'split' of 1, 2 or 3 for every id"):
        for name, book in content.items():
            where, split = f"{path}, image {name}", _SPLITS[book["split"]]
            pairs = enumerate(zip(book["questions"], book["answers"], strict=True))
            asked = tuple(question_of(f"{name}-{k}", question, answer, where) for k, (question, answer) in pairs)
            items.append(place.item(name, where, split, questions=asked))
    return Loaded(items=items)
