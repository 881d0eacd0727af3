"""Score short answers: VQA accuracy and exact match of questions, accuracy of classes and of text that is read.

* `VQA`: see `metrics.vqa`.
* `EM`: the answer equals a reference when both are `folded`. An answer of several parts ("knife, fork", as DAQUAR has
  them) is a set, so their order does not count. No number word, article or plural is forgiven.
* `accuracy`: for classes and read text; the output equals a reference when both are folded. `accuracy-closed` is the
  same of the output of a search restricted to the vocabulary.

Each is a mean over requests, in points; a request is one output to be made (a question, an image).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gitbench.errors import GitbenchError, unknown_name
from gitbench.metrics.base import Score, Scores
from gitbench.metrics.sheet import Job, Sheet
from gitbench.metrics.vqa import annotator_accuracy, vqa_accuracy

TASKS = ("vqa", "classify", "read")  # the tasks whose output is an answer; captions have `CaptionScorer`

_AROUND_MARK = re.compile(r"\s*([^\w\s]|_)\s*")


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """How a metric is named in its signature, and what it says there."""

    head: str
    said: Mapping[str, str]


_RULES = {
    "VQA": _Rule(head="VQA", said={"norm": "vqav2", "unanimous": "raw"}),
    "EM": _Rule(head="EM", said={"fold": "case+space", "parts": "set"}),
    "accuracy": _Rule(head="accuracy", said={"fold": "case+space", "search": "free"}),
    "accuracy-closed": _Rule(head="accuracy", said={"fold": "case+space", "search": "closed"}),
}


def folded(text: str) -> str:
    """Lower-case and fold white space: to one space between words, to none around punctuation.

    A BERT tokenizer sets punctuation apart, so "table_lamp" is written "table _ lamp": the two have to be equal.
    """
    return _AROUND_MARK.sub(r"\1", " ".join(text.lower().split()))


def exact_match(answer: str, references: Sequence[str]) -> bool:
    """Say whether an answer equals a reference, case and white space aside; parts between commas are compared as sets."""
    return _parts(answer) in [_parts(reference) for reference in references]


def accurate(output: str, references: Sequence[str]) -> bool:
    """Say whether an output equals a reference, case and white space aside."""
    return folded(output) in [folded(reference) for reference in references]


def score_answers(
    task: str,
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    closed: Mapping[str, str] | None = None,
) -> Scores:
    """Score one answer a request, request id -> text; in the references' order.

    `task` is "vqa", "classify" or "read"; `closed` holds the outputs of the restricted search of the latter two, without
    which "accuracy-closed" is absent. The column `image_id` of `per_image` holds the request ids. Raises GitbenchError
    if the ids do not match, a request has no reference, or the task has no answers.
    """
    _check_task(task)
    _check(predictions, references)
    if task == "vqa" and closed is not None:
        raise GitbenchError("questions have no closed vocabulary: pass `closed` for classify and read only")
    sheet = _sheet(references, None)
    if task == "vqa":
        pairs = [(predictions[request], references[request]) for request in references]
        _add(sheet, "VQA", [vqa_accuracy(answer, refs) for answer, refs in pairs])
        _add(sheet, "EM", [exact_match(answer, refs) for answer, refs in pairs])
    else:
        _add(sheet, "accuracy", [accurate(predictions[request], refs) for request, refs in references.items()])
        if closed is None:
            sheet.absent["accuracy-closed"] = "no output of the search restricted to the vocabulary was given"
        else:
            _check(closed, references)
            _add(sheet, "accuracy-closed", [accurate(closed[request], refs) for request, refs in references.items()])
    return Scores(values=sheet.values, per_image=pd.DataFrame(sheet.columns), absent=sheet.absent)


def answer_ceiling(task: str, references: Mapping[str, Sequence[str]]) -> dict[str, Score]:
    """Return what a perfect answerer scores, metric -> score with its signature.

    100 by definition, but for questions that several annotators answer: there it is what an annotator reaches against
    the others (`ceiling:leave-one-out`), who do not always agree. A model that gives the commonest answer can exceed it.
    """
    _check_task(task)
    _check(None, references)
    several = task == "vqa" and any(len(refs) > 1 for refs in references.values())
    sheet = _sheet(references, "leave-one-out" if several else "perfect")
    if task == "vqa":
        _add(sheet, "VQA", [annotator_accuracy(refs) for refs in references.values()])
        _add(sheet, "EM", [_annotator_match(refs) for refs in references.values()])
    else:
        for name in ("accuracy", "accuracy-closed"):
            _add(sheet, name, [1.0] * len(references))
    return sheet.values


def _parts(answer: str) -> frozenset[str]:
    return frozenset(folded(answer).split(","))


def _annotator_match(references: Sequence[str]) -> float:
    """Return the share of annotators whose answer another one gave too; 1 where there is one."""
    if len(references) == 1:
        return 1.0
    others = ([*references[:place], *references[place + 1 :]] for place in range(len(references)))
    matches = [exact_match(answer, rest) for answer, rest in zip(references, others, strict=True)]
    return sum(matches) / len(matches)


def _sheet(references: Mapping[str, Sequence[str]], ceiling: str | None) -> Sheet:
    ids, refs = list(references), [list(each) for each in references.values()]
    job = Job(ids=ids, raw=[], raw_references=refs, predictions=[], references=refs, graphs=None, ceiling=ceiling)
    return Sheet(job=job, columns={"image_id": ids})


def _add(sheet: Sheet, name: str, fractions: Sequence[float]) -> None:
    rule = _RULES[name]
    sheet.add_mean(name, np.array(fractions, dtype=float), rule.head, ptb=False, **rule.said)


def _check_task(task: str) -> None:
    if task not in TASKS:
        raise unknown_name("task with answers", task, TASKS)


def _check(predictions: Mapping[str, str] | None, references: Mapping[str, Sequence[str]]) -> None:
    """Refuse what cannot be scored as one whole set."""
    if not references:
        raise GitbenchError("there is nothing to score: give at least one request with references")
    for request, refs in references.items():
        if isinstance(refs, str) or not refs:
            raise GitbenchError(f"request {request} needs a list of at least one reference: add it or leave it out")
    if predictions is None:
        return
    lacking = [request for request in references if request not in predictions]
    if lacking:
        raise GitbenchError(
            f"{len(lacking)} of {len(references)} requests have no answer (first: {lacking[0]}): pass one for each"
        )
    extra = [request for request in predictions if request not in references]
    if extra:
        raise GitbenchError(f"{len(extra)} answers have no reference (first: {extra[0]}): leave them out")
