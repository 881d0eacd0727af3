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
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from gitbench.errors import GitbenchError, unknown_name
from gitbench.metrics.base import Score, Scores, check_ids, check_references
from gitbench.metrics.vqa import annotator_accuracy, are_alternatives, vqa_accuracy

TASKS = ("vqa", "classify", "read")  # the tasks whose output is an answer; captions have `CaptionScorer`

_AROUND_MARK = re.compile(r"\s*([^\w\s]|_)\s*")

# Of each metric: how its signature begins, and what it says.
_SIGNATURES = {
    "VQA": ("VQA", {"norm": "vqav2", "unanimous": "raw"}),
    "EM": ("EM", {"fold": "case+space", "parts": "set"}),
    "accuracy": ("accuracy", {"fold": "case+space", "search": "free"}),
    "accuracy-closed": ("accuracy", {"fold": "case+space", "search": "closed"}),
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
    scores = _empty_scores(task, references, None)
    check_ids(predictions, references, "request", "answer")
    if task == "vqa":
        if closed is not None:
            raise GitbenchError("questions have no closed vocabulary: pass `closed` for classify and read only")
        _add(scores, "VQA", [vqa_accuracy(predictions[request], refs) for request, refs in references.items()])
        _add(scores, "EM", [exact_match(predictions[request], refs) for request, refs in references.items()])
        return scores
    _add(scores, "accuracy", [accurate(predictions[request], refs) for request, refs in references.items()])
    if closed is None:
        scores.absent["accuracy-closed"] = "no output of the search restricted to the vocabulary was given"
    else:
        check_ids(closed, references, "request", "answer")
        _add(scores, "accuracy-closed", [accurate(closed[request], refs) for request, refs in references.items()])
    return scores


def answer_ceiling(task: str, references: Mapping[str, Sequence[str]]) -> dict[str, Score]:
    """Return what a perfect answerer scores, metric -> score with its signature.

    100 by definition, but for questions that several annotators answer: there it is what an annotator reaches against
    the others (`ceiling:leave-one-out`), who do not always agree. A model that gives the commonest answer can exceed it.
    """
    several = task == "vqa" and any(len(refs) > 1 for refs in references.values())
    scores = _empty_scores(task, references, "leave-one-out" if several else "perfect")
    if task == "vqa":
        _add(scores, "VQA", [annotator_accuracy(refs) for refs in references.values()])
        _add(scores, "EM", [_annotator_match(refs) for refs in references.values()])
    else:
        for name in ("accuracy", "accuracy-closed"):
            _add(scores, name, [1.0] * len(references))
    return scores.values


def _parts(answer: str) -> frozenset[str]:
    whole = folded(answer)
    return frozenset(whole.split(",") if whole.strip(",") else [whole])  # "," is no empty answer


def _annotator_match(references: Sequence[str]) -> float:
    """Return the share of annotators whose answer another one gave too; 1 where there is one, and for alternatives."""
    if len(references) == 1 or are_alternatives(references):
        return 1.0
    counts = Counter(map(_parts, references))
    return sum(counts[_parts(answer)] > 1 for answer in references) / len(references)


def _empty_scores(task: str, references: Mapping[str, Sequence[str]], ceiling: str | None) -> Scores:
    if task not in TASKS:
        raise unknown_name("task with answers", task, TASKS)
    check_references(references, "request")
    return Scores(ids=list(references), references=list(references.values()), ceiling=ceiling)


def _add(scores: Scores, name: str, fractions: Sequence[float]) -> None:
    head, said = _SIGNATURES[name]
    if name == "VQA" and any(map(are_alternatives, scores.references)):
        said = said | {"alternatives": "any"}
    scores.add_mean(name, np.array(fractions, dtype=float), head, ptb=False, **said)
