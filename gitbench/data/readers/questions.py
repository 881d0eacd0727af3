"""Folders of questions about photographs (VQA): JSON files of questions with answers, and image files.

Files: `questions.json` for all splits, or one file a split: `train_questions.json`, `train.json`, `TextVQA_..._train.json`,
or VQAv2's own names (`v2_..._train2014_questions.json`), also in `annotations/` or `data/`; without any of these a list of the
first form, whatever it is called (`VQA_RAD Dataset Public.json`). In three forms:

1. A list of {question_id, image, question, answers}; `image` is a file name (VizWiz: without question_id). Other names of
   these columns: see `gitbench.data.columns`.
2. {"data": [...]} of such objects, with `image_id` for the stem of a file's name (TextVQA) or `file_path` (ST-VQA, of
   whose three tasks the third is read where it is there, the one of free answers).
3. VQAv2's pair: {"questions": [{question_id, image_id, question}]}, and beside it, with `annotations` for `questions`
   in its name, {"annotations": [{question_id, answers: [{answer}]}]}. An image is found by the number at the end of
   its file's name (`COCO_train2014_000000000042.jpg` is image 42).

All answers are references, the most frequent is learned (of equals the first); whether they are alternatives, annotators'
votes or parts of one answer (`set_valued: true`) see `gitbench.data.answers`. One item is one image with all its questions, in
the file's order.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from gitbench.data.answers import in_tens
from gitbench.data.base import Question
from gitbench.data.columns import Columns, columns_of
from gitbench.data.items import Item, Loaded, Part, Place, first_of_list, is_hidden, read_texts_file, sole, split_files
from gitbench.data.splits import split_of, word_in
from gitbench.data.tables import image_name, question_in
from gitbench.errors import GitbenchError

NEEDS = {
    "vqa": "image files with questions.json (a list of {question_id, image, question, answers}), or train_questions.json, "
    "val_questions.json and test_questions.json"
}
COLUMNS = True
_FORMS = "a list of {question_id, image, question, answers}, TextVQA's 'data', or VQAv2's 'questions'"
# role -> keys, of which the first that is there is taken; others are known by their names, see `columns`
_KEYS = {"image": ("image", "file_path", "image_id"), "answers": ("answers",), "split": ("split", "set_name")}


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    found = []
    for split, paths in _files(place).items():
        path = sole(place, paths, "are questions of one split")
        answers = _answer_file(path)
        files = (path, answers) if answers is not None and answers.is_file() else (path,)
        named = place.address.columns.get("answers", ())
        hidden = split_of(split) == "test" and len(files) == 1 and is_hidden(path, named)
        load = partial(_load, place, path, split)
        found.append(Part(files=files, load=load, split=split, has_texts=not hidden, images=True))
    return found


def _files(place: Place) -> dict[str, list[Path]]:
    """Return split word -> files of questions, those named after questions first; "" for a file of all splits."""
    for pattern in (r"(?:(.+)_)?questions", r"TextVQA_(?:[0-9.]+_)?([a-z]+)|(train|val|test)_task_[123]|([A-Za-z]+)"):
        found = split_files(place, lambda path, pattern=pattern: _split_of_file(path, pattern))  # type: ignore[misc]
        if found:
            return {word: _of_one_task(paths) for word, paths in found.items()}
    return split_files(place, lambda path: (word_in(path.stem) or "") if _asks(place, path) else None)


def _asks(place: Place, path: Path) -> bool:
    """Tell whether a file, however it is called, is a list of questions with their images and answers."""
    first = first_of_list(path)
    try:
        return first is not None and bool(_columns(place, list(first), ""))
    except GitbenchError:
        return False


def _of_one_task(paths: list[Path]) -> list[Path]:
    """Return the files of one of ST-VQA's tasks, which ask about the same images; other files as they are."""
    tasks = [path for path in paths if "_task_" in path.name]
    third = [path for path in tasks if path.stem.endswith("_3")]
    if len(tasks) > 1 and not third:
        names = " and ".join(path.name for path in tasks)
        raise GitbenchError(f"{names} are of two tasks of ST-VQA: leave one, or add {paths[0].stem[:-1]}3.json")
    return third or paths


def _split_of_file(path: Path, pattern: str) -> str | None:
    named = re.fullmatch(pattern, path.stem) if path.suffix == ".json" else None
    if named is None:
        return None
    word = next(filter(None, named.groups()), "")
    return word_in(word) if word else ""


def _load(place: Place, path: Path, split: str) -> Loaded:
    groups: dict[tuple[str | int, str], list[Question]] = {}
    for image, stated, question in _read(place, path):
        groups.setdefault((image, stated or split), []).append(question)
    items = [
        Item(
            image_id=str(image),
            questions=tuple(group),
            where=f"{path}, image {image}",
            picture=place.picture(image, split or stated),
            key=Path(str(image)).name.encode(),
            split=stated,
        )
        for (image, stated), group in groups.items()
    ]
    return Loaded(items=items)


def _answer_file(path: Path) -> Path | None:
    """Return where VQAv2 keeps the answers to a file of questions."""
    if "questions" not in path.name:
        return None
    name = path.name.replace("questions", "annotations")
    plain = name.replace("OpenEnded_", "")  # v2_OpenEnded_mscoco_x_questions, v2_mscoco_x_annotations
    return path.with_name(name if path.with_name(name).is_file() else plain)


def _read(place: Place, path: Path) -> list[tuple[str | int, str, Question]]:
    """Read a file of questions in any form: each with its image, a file's name or VQAv2's number, and its stated split."""
    content = read_texts_file(path)
    try:
        rows = content if isinstance(content, list) else content["data" if "data" in content else "questions"]
        beside = None if isinstance(content, list) else _answer_file(path)
        if other := next((row for row in rows if not isinstance(row, dict)), None):
            raise TypeError(f"{type(other).__name__} instead of an object")
        if beside is not None and not all("answers" in row for row in rows):
            answers = {str(note["question_id"]): note["answers"] for note in read_texts_file(beside)["annotations"]}
            rows = [{"answers": answers.get(str(row["question_id"])), **row} for row in rows]
        chosen = _columns(place, [name for row in rows for name in row], str(path)) if rows else None
        tens = chosen is not None and in_tens(row.get(chosen.answers) for row in rows)
        return [_question(row, number, chosen, path, tens) for number, row in enumerate(rows) if chosen]
    except (KeyError, TypeError, AttributeError) as error:
        text = f"{path} is not a file of questions ({type(error).__name__}: {error}), which --task vqa needs"
        raise GitbenchError(f"{text}: {_FORMS}") from None


def _columns(place: Place, names: list[str], where: str) -> Columns:
    """Choose what says the image, the question and the answers; where there are several, what published sets go by."""
    names = list(dict.fromkeys(names))
    known = {role: next((key for key in keys if key in names), None) for role, keys in _KEYS.items()}
    asked = {**{role: (key,) for role, key in known.items() if key}, **place.address.columns}
    return columns_of(names, "vqa", asked, where)


def _question(
    row: dict[str, Any], number: int, chosen: Columns, path: Path, tens: bool
) -> tuple[str | int, str, Question]:
    named = row.get(chosen.question_id or "")
    own = str(number if named is None else named)
    where = f"{path}, question {own}"
    image = image_name(row.get(chosen.image), where)
    stated = str(row.get(chosen.split or "") or "")
    return image, stated, question_in(row, chosen, own, where, tens)
