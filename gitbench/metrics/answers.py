"""Score short answers: VQA accuracy and exact match of questions, accuracy of classes and of text that is read.

* `VQA`: see `metrics.vqa`.
* `EM`: the answer equals a reference when both are `folded`. Where the data say that an answer is a set ("knife, fork", as
  DAQUAR has them), its parts are, in any order. No number word, article or plural is forgiven.
* `accuracy`: for classes and read text; the output equals a reference when both are folded. `accuracy-closed` is the
  same of the output of a search restricted to the vocabulary.

Each is a mean over requests, in points; a request is one output to be made (a question, an image).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from gitbench.data.answers import fitting, in_tens, is_ten
from gitbench.data.base import AnswersAre
from gitbench.errors import GitbenchError, unknown_name
from gitbench.metrics.base import Score, Scores, check_ids, check_references
from gitbench.metrics.vqa import annotator_accuracy, same_parts, vqa_accuracy

TASKS = ("vqa", "classify", "read")  # the tasks whose output is an answer; captions have `CaptionScorer`

_AROUND_MARK = re.compile(r"\s*([^\w\s]|_)\s*")

# Of each metric: how its signature begins, and what it says.
_SIGNATURES = {
    "VQA": ("VQA", {"norm": "vqav2"}),
    "EM": ("EM", {"fold": "case+space"}),
    "accuracy": ("accuracy", {"fold": "case+space", "search": "free"}),
    "accuracy-closed": ("accuracy", {"fold": "case+space", "search": "closed"}),
}


def folded(text: str) -> str:
    """Lower-case and fold white space: to one space between words, to none around punctuation.

    A BERT tokenizer sets punctuation apart, so "table_lamp" is written "table _ lamp": the two have to be equal.
    """
    return _AROUND_MARK.sub(r"\1", " ".join(text.lower().split()))


def exact_match(answer: str, references: Sequence[str], answers_are: AnswersAre = "alternatives") -> bool:
    """Say whether an answer equals a reference, case and white space aside; of a set, in any order of its parts."""
    if answers_are == "set":
        return same_parts(answer, references, folded)
    return bool(answer.strip()) and accurate(answer, references)


def accurate(output: str, references: Sequence[str]) -> bool:
    """Say whether an output equals a reference, case and white space aside."""
    return folded(output) in [folded(reference) for reference in references]


def score_answers(
    task: str,
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    closed: Mapping[str, str] | None = None,
    answers_are: Mapping[str, AnswersAre] | None = None,
) -> Scores:
    """Score one answer a request, request id -> text; in the references' order.

    `task` is "vqa", "classify" or "read"; `closed` holds the outputs of the restricted search of the latter two, without
    which "accuracy-closed" is absent. `answers_are` says of questions what their references are: alternatives where they
    are not in it; without it ten are votes, as `data.answers` has it. The column `image_id` of `per_image` holds the
    request ids. Raises GitbenchError if the ids do not match, a request has no reference, or the task has no answers.
    """
    scores = _empty_scores(task, references, None)
    check_ids(predictions, references, "request", "answer")
    if task == "vqa":
        if closed is not None:
            raise GitbenchError("questions have no closed vocabulary: pass `closed` for classify and read only")
        asked = _asked(references, answers_are)
        for name, score in (("VQA", vqa_accuracy), ("EM", exact_match)):
            fractions = [score(predictions[request], references[request], kind) for request, kind in asked.items()]
            _add(scores, name, fractions, **_said(name, asked))
        return scores
    _add(scores, "accuracy", [accurate(predictions[request], refs) for request, refs in references.items()])
    if closed is None:
        scores.absent["accuracy-closed"] = "no output of the search restricted to the vocabulary was given"
    else:
        check_ids(closed, references, "request", "answer")
        _add(scores, "accuracy-closed", [accurate(closed[request], refs) for request, refs in references.items()])
    return scores


def answer_ceiling(
    task: str, references: Mapping[str, Sequence[str]], answers_are: Mapping[str, AnswersAre] | None = None
) -> dict[str, Score]:
    """Return what a perfect answerer scores, metric -> score with its signature; arguments as of `score_answers`.

    100 by definition, but for questions that several annotators answer: there it is what an annotator reaches against
    the others (`ceiling:leave-one-out`), who do not always agree. A model that gives the commonest answer can exceed it.
    """
    asked = _asked(references, answers_are) if task == "vqa" else {}
    scores = _empty_scores(task, references, "leave-one-out" if "votes" in asked.values() else "perfect")
    if task == "vqa":
        for name, score in (("VQA", annotator_accuracy), ("EM", _annotator_match)):
            fractions = [score(references[request], kind) for request, kind in asked.items()]
            _add(scores, name, fractions, **_said(name, asked))
    else:
        for name in ("accuracy", "accuracy-closed"):
            _add(scores, name, [1.0] * len(references))
    return scores.values


def _annotator_match(references: Sequence[str], answers_are: AnswersAre) -> float:
    """Return the share of annotators whose answer another one gave too; 1 without votes."""
    if answers_are != "votes":
        return 1.0
    counts = Counter(map(folded, references))
    return sum(counts[folded(answer)] > 1 for answer in references) / len(references)


def _asked(
    references: Mapping[str, Sequence[str]], answers_are: Mapping[str, AnswersAre] | None
) -> dict[str, AnswersAre]:
    """Return what the references of each question are scored as."""
    told: Mapping[str, AnswersAre] = answers_are or {}
    if answers_are is None and in_tens(references.values()):
        told = {request: "votes" for request, refs in references.items() if is_ten(refs)}
    return {request: fitting(told.get(request, "alternatives"), refs) for request, refs in references.items()}


def _said(name: str, asked: Mapping[str, AnswersAre]) -> dict[str, str]:
    """Return what a signature says of the references: for example `answers:alternatives+votes|unanimous:raw`."""
    kinds = set(asked.values())
    said = {"answers": "+".join(sorted(kinds))}
    return said | {"unanimous": "raw"} if name == "VQA" and "votes" in kinds else said


def _empty_scores(task: str, references: Mapping[str, Sequence[str]], ceiling: str | None) -> Scores:
    if task not in TASKS:
        raise unknown_name("task with answers", task, TASKS)
    check_references(references, "request")
    return Scores(ids=list(references), references=list(references.values()), ceiling=ceiling)


def _add(scores: Scores, name: str, fractions: Sequence[float], **more: str) -> None:
    head, said = _SIGNATURES[name]
    scores.add_mean(name, np.array(fractions, dtype=float), head, ptb=False, **said, **more)
