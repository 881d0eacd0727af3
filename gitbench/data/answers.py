"""Questions and their answers, as data sets write them, and what the answers are.

Answers that are objects with `answer` are votes, one an annotator (VQAv2, VizWiz). Texts are alternatives, unless they come as
TextVQA's in Parquet: ten for a question, repeated where annotators agree. Fewer than four votes are alternatives: the formula of
VQA accuracy needs four that agree. A question of the data's own field `set_valued` has one answer of several parts, and
`answers_are` ("alternatives", "votes" or "set") says it outright.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast, get_args

from gitbench.data.base import AnswersAre, Question, clean_caption
from gitbench.errors import GitbenchError

ANNOTATORS = 10  # of a question in VQAv2, VizWiz, TextVQA
FEWEST = 4  # votes: with four that agree an answer is fully right, whichever annotator is left out


def question_of(
    own: object, asked: object, answers: Any, where: str, answers_are: AnswersAre | None = None
) -> Question:
    """Return a question with its answers, all cleaned. Errors: an empty question; answers that are none, empty, no text.

    answers_are: what they are; None: what their form says. The one that is learned is the most frequent (of equals the
    first); of a set all parts, joined by ", " with spaces for underscores.
    """
    given, objects = _listed(answers, where)
    counted = (str(text) if isinstance(text, int) and not isinstance(text, bool) else text for text in given)
    texts = tuple(clean_caption(text, where, "answer") for text in counted)
    if answers_are == "set":
        texts = (clean_caption(", ".join(texts).replace("_", " "), where, "answer"),)
    return Question(
        question_id=str(own),
        text=clean_caption(asked, where, "question"),
        answers=texts,
        answer=Counter(texts).most_common(1)[0][0],
        answers_are=fitting(answers_are or ("votes" if objects else "alternatives"), texts),
    )


def _listed(answers: Any, where: str) -> tuple[Sequence[Any], bool]:
    """Return the texts of all answers, and whether each was in an object."""
    objects = isinstance(answers, dict)  # as `datasets` once stored lists of objects
    given = answers.get("answer") if objects else answers
    if isinstance(given, (str, int)):
        given = [given]
    if not isinstance(given, Sequence) or not given:
        raise GitbenchError(f"{where}: there are no answers: add them or remove the question")
    if isinstance(given[0], dict):
        return [item.get("answer") if isinstance(item, dict) else None for item in given], True
    return given, objects


def answers_are_in(row: Mapping[str, Any], where: str) -> AnswersAre | None:
    """Return what the answers of a row are, where it says so itself. Errors: a word that is none of ours."""
    said = row.get("answers_are")
    if said is None or said == "":
        return "set" if str(row.get("set_valued")).casefold() in ("true", "1") else None
    if said not in get_args(AnswersAre):
        known = ", ".join(get_args(AnswersAre))
        raise GitbenchError(f"{where}: answers_are is '{said}', which is none of {known}: correct or remove it")
    return cast(AnswersAre, said)


def in_tens(answers: Iterable[Any]) -> bool:
    """Tell whether texts of a whole table are annotators': there are ten for a question, and some are repeated."""
    return any(is_ten(texts) and len(set(texts)) < ANNOTATORS for texts in answers)


def is_ten(answers: Any) -> bool:
    """Tell whether the answers of a question are ten texts."""
    is_list = isinstance(answers, (list, tuple)) and len(answers) == ANNOTATORS
    return is_list and all(isinstance(text, str) for text in answers)


def fitting(answers_are: AnswersAre, texts: Sequence[str]) -> AnswersAre:
    """Return what answers are scored as: fewer than four votes are alternatives."""
    return "alternatives" if answers_are == "votes" and len(texts) < FEWEST else answers_are
