"""Folders of questions about photographs (VQA): JSON files of questions with answers, and image files.

Files: `questions.json` for all splits, or one file a split: `train_questions.json`, `train.json`, `TextVQA_..._train.json`,
or VQAv2's own names (`v2_..._train2014_questions.json`), also in `annotations/`. In three forms:

1. A list of {question_id, image, question, answers}; `image` is a file name (VizWiz: without question_id).
2. {"data": [...]} of such objects, with `image_id` for the stem of a file's name (TextVQA) or `file_path` (ST-VQA, of
   whose three tasks the third is read where it is there, the one of free answers).
3. VQAv2's pair: {"questions": [{question_id, image_id, question}]}, and beside it, with `annotations` for `questions`
   in its name, {"annotations": [{question_id, answers: [{answer}]}]}. An image is found by the number at the end of
   its file's name (`COCO_train2014_000000000042.jpg` is image 42).

Answers are alternatives, one an annotator where they are objects with `answer`: all are references, the most frequent is
learned (of equals the first). A question with `set_valued: true` has ONE answer, of several parts, as in DAQUAR: joined by
", ", with spaces for underscores. One item is one image with all its questions, in the file's order.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from gitbench.data.answers import references
from gitbench.data.base import Question, clean_caption
from gitbench.data.items import Item, Loaded, Part, Place, is_hidden, read_texts_file, sole, split_files
from gitbench.data.splits import split_of, word_in
from gitbench.errors import GitbenchError

NEEDS = {"vqa": "image files with questions.json, or train_questions.json, val_questions.json and test_questions.json"}
_FORMS = "a list of {question_id, image, question, answers}, TextVQA's 'data', or VQAv2's 'questions'"
_IMAGE_KEYS = ("image", "file_path", "image_id")  # the first that is there


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    found = []
    for split, paths in _files(place).items():
        path = sole(place, paths, "are questions of one split")
        answers = _answer_file(path)
        files = (path, answers) if answers is not None and answers.is_file() else (path,)
        hidden = split_of(split) == "test" and len(files) == 1 and is_hidden(path)
        load = partial(_load, place, path, split)
        found.append(Part(files=files, load=load, split=split, has_texts=not hidden, images=True))
    return found


def _files(place: Place) -> dict[str, list[Path]]:
    """Return split word -> files of questions, those named after questions first; "" for a file of all splits."""
    for pattern in (r"(?:(.+)_)?questions", r"TextVQA_(?:[0-9.]+_)?([a-z]+)|(train|val|test)_task_[123]|([A-Za-z]+)"):
        found = split_files(place, lambda path, pattern=pattern: _split_of_file(path, pattern))  # type: ignore[misc]
        if found:
            return {word: _of_one_task(paths) for word, paths in found.items()}
    return {}


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
    for image, stated, question in _read(path):
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


def _read(path: Path) -> list[tuple[str | int, str, Question]]:
    """Read a file of questions in any form: each with its image, a file's name or VQAv2's number, and its stated split."""
    content = read_texts_file(path)
    try:
        items = content if isinstance(content, list) else content["data" if "data" in content else "questions"]
        noted = items
        if not isinstance(content, list) and not all("answers" in item for item in items):
            beside = _answer_file(path)
            if beside is None:
                raise GitbenchError(f"{path} holds no answers: add 'answers' to its questions")
            noted = read_texts_file(beside)["annotations"]
        answers = {str(note["question_id"]): note["answers"] for note in noted if "question_id" in note}
        questions = []
        for number, item in enumerate(items):
            if not isinstance(item, dict):
                raise TypeError(f"{type(item).__name__} instead of an object")
            own = str(item.get("question_id", number))
            image = next((item[key] for key in _IMAGE_KEYS if key in item), None)
            if image is None:
                raise KeyError("image_id")
            where = f"{path}, question {own}"
            said, answer = references(item.get("answers", answers.get(own)), where, bool(item.get("set_valued")))
            text = clean_caption(item["question"], where, "question")
            question = Question(question_id=own, text=text, answers=said, answer=answer)
            stated = str(item.get("split") or item.get("set_name") or "")
            questions.append((image if isinstance(image, int) else str(image), stated, question))
        return questions
    except (KeyError, TypeError, AttributeError) as error:
        text = f"{path} is not a file of questions ({type(error).__name__}: {error}), which --task vqa needs"
        raise GitbenchError(f"{text}: {_FORMS}") from None
