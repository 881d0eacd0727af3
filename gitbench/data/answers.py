"""Questions and their answers, as data sets write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gitbench.data.base import Question, clean_caption
from gitbench.errors import GitbenchError


def question_of(own: object, asked: object, answers: Any, where: str, set_valued: bool = False) -> Question:
    """Return a question with its answers, all cleaned. Errors: an empty question, and as `references`."""
    said, learned = references(answers, where, set_valued)
    return Question(question_id=str(own), text=clean_caption(asked, where, "question"), answers=said, answer=learned)


def references(given: Any, where: str, set_valued: bool = False) -> tuple[tuple[str, ...], str]:
    """Return all references of a question and the answer that is learned. Errors: none, an empty one, no text."""
    if isinstance(given, dict):  # as `datasets` once stored lists of objects
        given = given.get("answer")
    if isinstance(given, (str, int)):
        given = [given]
    if not isinstance(given, Sequence) or not given:
        raise GitbenchError(f"{where}: there are no answers: add them or remove the question")
    if isinstance(given[0], dict):
        given = [item.get("answer") if isinstance(item, dict) else None for item in given]
    counted = (str(text) if isinstance(text, int) and not isinstance(text, bool) else text for text in given)
    texts = tuple(clean_caption(text, where, "answer") for text in counted)
    if set_valued:
        joined = clean_caption(", ".join(texts).replace("_", " "), where, "answer")
        return (joined,), joined
    return texts, Counter(texts).most_common(1)[0][0]
