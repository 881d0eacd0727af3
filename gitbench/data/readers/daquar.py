"""DAQUAR in its own files (Malinowski and Fritz 2014): `qa.894.raw.train.txt` and `qa.894.raw.test.txt`, or `qa.37. ...`.

A question and its answer stand on a line each; the question ends in its image (`... in the image3 ?`), which lies in
`nyu_depth_images/image3.png`. What names the image is taken out of the question. An answer of several parts (`lamp, table`) is
ONE answer; see `answers`. The set states train and test.
"""

from __future__ import annotations

import re
from pathlib import Path

from gitbench.data.answers import question_of
from gitbench.data.base import Question
from gitbench.data.items import Loaded, Part, Place, file_parts, read_lines, split_files
from gitbench.errors import GitbenchError

NEEDS = {"vqa": "DAQUAR's qa.894.raw.train.txt and qa.894.raw.test.txt with image files"}
_NAME = re.compile(r"qa\.\d+\.raw\.(train|test)\.txt")
_IMAGE = re.compile(r"\s*(?:\b(?:in|on|of|from)\s+)?(?:\b(?:the|this)\s+)?\b(image\d+)\s*\?\s*$", re.IGNORECASE)


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    return file_parts(place, _files(place), _load, "ask about the same images")


def _files(place: Place) -> dict[str, list[Path]]:
    return split_files(place, lambda path: named[1] if (named := _NAME.fullmatch(path.name)) else None)


def _load(place: Place, path: Path, split: str) -> Loaded:
    numbered = [(number, line) for number, line in enumerate(read_lines(path), 1) if line]
    groups: dict[str, list[Question]] = {}
    for (number, asked), (_, answer) in zip(numbered[::2], [*numbered[1::2], (0, "")], strict=False):
        where = f"{path}, line {number}"
        named = _IMAGE.search(asked)
        if named is None or not answer:
            fix = "a question that ends in 'in the imageN ?', and its answer on the next line"
            raise GitbenchError(f"{where}: '{asked}' is not a question of DAQUAR with an answer: it needs {fix}")
        answers = [part.strip() for part in answer.split(",")]
        question = question_of(f"{split}-{number}", f"{asked[: named.start()]} ?", answers, where, "set")
        groups.setdefault(named[1].lower(), []).append(question)
    items = [place.item(name, f"{path}, {name}", split, questions=tuple(asked)) for name, asked in groups.items()]
    return Loaded(items=items)
