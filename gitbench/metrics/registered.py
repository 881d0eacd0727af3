"""Metrics of one's own, scored beside the built-in ones.

    from gitbench.metrics import register

    def words(predictions, references):
        counts = {image: float(len(text.split())) for image, text in predictions.items()}
        return sum(counts.values()) / len(counts), counts

    register("Words", words, unit="words")

A claim may then name the metric "Words", and every record and frame holds it. It is judged by resampling images, so
its score has to be the mean of its per-image values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gitbench.errors import GitbenchError
from gitbench.metric_info import register_metric, unit
from gitbench.metrics.base import Score, Scores
from gitbench.metrics.bleu import BLEU_COLUMNS
from gitbench.metrics.hallucination import COUNT_COLUMNS
from gitbench.metrics.scene_graph import SCENE_METRICS

# Predictions (id -> text) and references (id -> texts), not tokenized -> the score, and the values of the images: by id,
# or in the order of the references.
Metric = Callable[[Mapping[str, str], Mapping[str, Sequence[str]]], tuple[float, Mapping[str, float] | Sequence[float]]]

_COLUMNS = ("image_id", "image", "nll", "tokens", "meteor_stats", *BLEU_COLUMNS, *COUNT_COLUMNS)  # of per_image
_TAKEN = (*_COLUMNS, *SCENE_METRICS)
_REGISTERED: dict[str, Metric] = {}


def register(
    name: str, metric: Metric, *, unit: str = "points", lower_is_better: bool = False, label: str | None = None
) -> None:
    """Score captions by `metric` too; `label` is the name in reports. Values are taken as they are, in `unit`.

    A value of NaN leaves the image out of the mean. Registering a name again replaces its metric; GitbenchError for
    the name of a built-in one.
    """
    if name in _TAKEN:
        raise GitbenchError(f"'{name}' is a column of gitbench's own: give the metric another name")
    register_metric(name, unit, lower_is_better, label)
    _REGISTERED[name] = metric


def add_registered(scores: Scores, predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    """Add every registered metric; one that fails is absent with its error, and the others stand."""
    for name, metric in _REGISTERED.items():
        try:
            score, each = metric(predictions, references)
            by_id = each if isinstance(each, Mapping) else dict(zip(scores.ids, each, strict=True))
            value, column = float(score), np.array([float(by_id[image]) for image in scores.ids])
        except Exception as error:
            scores.absent[name] = f"the plugin failed ({type(error).__name__}: {error})"
            continue
        undefined = int(np.isnan(column).sum())
        mean = float(np.nanmean(column)) if undefined < len(column) else math.nan
        if not math.isclose(value, mean, rel_tol=1e-9, abs_tol=1e-9):
            scores.absent[name] = f"the plugin's score {value:g} is not {mean:g}, the mean of its per-image values"
            continue
        said = {"plugin": metric.__module__, "unit": unit(name)}
        scores.columns[name] = column
        scores.values[name] = Score(name=name, value=value, signature=scores.signature(name, said, undefined))
