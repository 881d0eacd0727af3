"""Folders of questions about photographs (VQA): `images/` and JSON files of questions with answers.

Files: `questions.json` for all splits (see `photos.divided`), or one file a split: `train_questions.json`,
`train.json`, or VQAv2's own names (`v2_..._train2014_questions.json`), also in `annotations/`. In two forms:

1. A list of {question_id, image, question, answers}; `image` is a file name.
2. VQAv2's pair: {"questions": [{question_id, image_id, question}]}, and beside it, with `annotations` for `questions`
   in its name, {"annotations": [{question_id, answers: [{answer}]}]}. An image is found by the number at the end of
   its file's name (`COCO_train2014_000000000042.jpg` is image 42).

Answers that are objects with `answer`, or exactly ten texts, are those of ten annotators: all of them are references,
the most frequent is learned (of equals the first). Fewer plain texts are the parts of ONE answer, as in DAQUAR: joined
by ", ", with spaces for DAQUAR's underscores. One item is one image with all its questions, in the file's order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from gitbench.data.base import SPLITS, Example, Question, clean_caption
from gitbench.data.photos import PhotoFileSource, Row, divided, read_texts_file, refuse_repeats, shared_file, split_file
from gitbench.errors import GitbenchError

NEEDS = {"vqa": "images/ with questions.json or train_questions.json, val_questions.json and test_questions.json"}
ANNOTATORS = 10  # of a question in VQAv2, VizWiz, TextVQA
_FORMS = "a list of {question_id, image, question, answers}, or VQAv2's 'questions'"


def fits(folder: Path, task: str) -> bool:
    return any(_question_file(folder, split) for split in SPLITS)


def open_split(folder: Path, split: str, limit: int | None, task: str) -> QuestionSource:
    return QuestionSource(folder, split, limit, _question_file(folder, split))


def _question_file(folder: Path, split: str) -> Path | None:
    """Return the file with the questions of a split: its own, or the one of all splits."""
    named = ("{}_questions.json", "*_{}[0-9]*_questions.json")
    if any(split_file(folder, name, named) for name in SPLITS):
        return split_file(folder, split, named)
    return shared_file(folder, ("questions.json",)) or split_file(folder, split, ("{}.json",))


class QuestionSource(PhotoFileSource):
    """One split of a folder of questions."""

    holds = "questions"
    ending = "_questions.json"

    def files(self) -> Iterable[Path]:
        answers = _answer_file(self.text_file)
        return [*super().files(), *([answers] if answers is not None and answers.is_file() else [])]

    def load_rows(self) -> list[Row]:
        path = self.text_file
        groups: dict[str | int, list[Question]] = {}
        for image, question in _read(path):
            groups.setdefault(image, []).append(question)
        splits = divided(map(_key, groups), str(path)) if path.name == "questions.json" else {}
        return [
            Row(image_id=str(image), texts=tuple(group), where=f"{path}, image {image}", file=self._file(image))
            for image, group in groups.items()
            if splits.get(_key(image), self.split) == self.split
        ]

    def example(self, index: int) -> Example:
        """Return an item's questions; there are no captions."""
        return Example(image_id=self.image_id(index), captions=(), questions=self.rows[index].texts)

    def texts_to_hash(self, index: int) -> Iterable[str]:
        for question in self.example(index).questions:
            yield from (question.question_id, question.text, question.answer, *question.answers)

    def _file(self, image: str | int) -> str:
        """Return the name of an image's file, or its path where only a number is known."""
        return image if isinstance(image, str) else str(self._by_number.get(image, f"{image:012d}.jpg"))

    @cached_property
    def _by_number(self) -> dict[int, Path]:
        """The absolute paths of image files by the number that their names end in."""
        found: dict[int, Path] = {}
        for place in self.image_folders:
            for path in sorted(place.iterdir()) if place.is_dir() else ():
                number = re.search(r"([0-9]+)\.[A-Za-z]+$", path.name)
                if number and path.suffix != ".json":
                    found.setdefault(int(number[1]), path.absolute())
        return found

    def check(self) -> None:
        """Check questions, answers and ids, and that every image file is there."""
        super().check()
        ids = ((question.question_id, row.where) for row in self.rows for question in row.texts)
        refuse_repeats(ids, "question id", "give every question its own")


def _key(image: str | int) -> bytes:
    return Path(str(image)).name.encode()


def _answer_file(path: Path) -> Path | None:
    """Return where VQAv2 keeps the answers to a file of questions."""
    if "questions" not in path.name:
        return None
    name = path.name.replace("questions", "annotations")
    plain = name.replace("OpenEnded_", "")  # v2_OpenEnded_mscoco_x_questions, v2_mscoco_x_annotations
    return path.with_name(plain if path.with_name(plain).is_file() else name)


def _read(path: Path) -> list[tuple[str | int, Question]]:
    """Read a file of questions in either form: each with its image, a file's name or VQAv2's number."""
    content = read_texts_file(path)
    try:
        items = content if isinstance(content, list) else content["questions"]
        noted = items
        if not isinstance(content, list) and not all("answers" in item for item in items):
            beside = _answer_file(path)
            if beside is None:
                raise GitbenchError(f"{path} holds no answers: add 'answers' to its questions")
            noted = read_texts_file(beside)["annotations"]
        answers = {str(note["question_id"]): note["answers"] for note in noted}
        questions = []
        for item in items:
            own, image = str(item["question_id"]), item["image"] if "image" in item else item["image_id"]
            where = f"{path}, question {own}"
            said, answer = _references(item.get("answers", answers.get(own)), where)
            text = clean_caption(item["question"], where, "question")
            question = Question(question_id=own, text=text, answers=said, answer=answer)
            questions.append((image if isinstance(image, int) else str(image), question))
        return questions
    except (KeyError, TypeError, AttributeError) as error:
        text = f"{path} is not a file of questions ({type(error).__name__}: {error}), which --task vqa needs"
        raise GitbenchError(f"{text}: {_FORMS}") from None


def _references(given: object, where: str) -> tuple[tuple[str, ...], str]:
    """Return all references of a question and the answer that is learned."""
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        raise GitbenchError(f"{where}: there are no answers: add them or remove the question")
    objects = [item.get("answer") if isinstance(item, dict) else None for item in given]
    if isinstance(given[0], dict) or len(given) == ANNOTATORS:
        said = objects if isinstance(given[0], dict) else given
        texts = tuple(clean_caption(text, where, "answer") for text in said)
        return texts, Counter(texts).most_common(1)[0][0]
    parts = [clean_caption(part, where, "answer") for part in given]
    joined = clean_caption(", ".join(parts).replace("_", " "), where, "answer")
    return (joined,), joined
