"""From per-image values back to a corpus score, for any selection of images and without Java.

CIDEr, ROUGE-L, SPICE and SceneF1 are means over images. BLEU and METEOR are not: they are functions of sums, so the
sums' summands are stored and added up again; CHAIRi and the loss per token are ratios of sums. A bootstrap resamples rows of
`statistics` and calls `from_totals`, or `scores_from_totals` for many sums at once. (A resampled CIDEr keeps the
document frequencies of the full set.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gitbench.errors import GitbenchError, unknown_name
from gitbench.metrics import meteor
from gitbench.metrics.base import SCALE
from gitbench.metrics.bleu import BLEU_COLUMNS, BLEUS, bleu_from_many_totals, bleu_from_totals

CORPUS_METRICS = (*BLEUS, "METEOR")  # of matches and lengths; the others are means over images, or over what was said
LOSS = "test_nll"  # nats per token

# Of captions of scenes, metric -> columns: facts of a kind that are false, of how many (`gitbench.metrics.hallucination`).
SHARES = {
    "CHAIRi": ("objects_false", "objects_said"),
    "false-attributes": ("attributes_false", "attributes_said"),
    "false-relations": ("relations_false", "relations_said"),
}

# The columns that are added up, of metrics that are no mean over images.
_SUMMED = {**dict.fromkeys(BLEUS, BLEU_COLUMNS), "METEOR": ("meteor_stats",), **SHARES, LOSS: ("nll", "tokens")}


def statistics(per_image: pd.DataFrame, metric: str) -> np.ndarray:
    """Return additive statistics of a metric, (images, k) float64: sum any rows, then call `from_totals`.

    A mean over images is (sum, count), with (0, 0) for an image where the metric is undefined; the loss is (nats, tokens).
    Raises GitbenchError if the table lacks what the metric needs.
    """
    columns = _SUMMED.get(metric, ())
    lacking = [name for name in columns if name not in per_image.columns]
    if lacking:
        raise GitbenchError(f"{metric} cannot be computed, the table lacks {lacking[0]}: score the captions again")
    if metric == "METEOR":
        return meteor.statistics_matrix(per_image["meteor_stats"].tolist())
    if columns:
        return per_image[list(columns)].to_numpy(dtype=float)
    if metric not in per_image.columns:
        known = [name for name in per_image.columns if pd.api.types.is_float_dtype(per_image[name].dtype)]
        raise unknown_name("metric", metric, known)
    values = per_image[metric].to_numpy(dtype=float)
    defined = np.isfinite(values)
    return np.stack([np.where(defined, values, 0.0), defined.astype(float)], axis=1)


def from_totals(totals: Sequence[float] | np.ndarray, metric: str) -> float:
    """Return the corpus score, times 100, from summed rows of `statistics`; NaN for a mean over no image.

    The loss is in nats per token, as it is recorded.
    """
    if metric in BLEUS:
        return SCALE * bleu_from_totals(list(map(float, totals)), BLEUS.index(metric) + 1)
    return float(scores_from_totals(np.asarray(totals), metric))


def scores_from_totals(totals: np.ndarray, metric: str) -> np.ndarray:
    """Return `from_totals` of every vector along the last axis: (..., k) -> (...)."""
    totals = np.asarray(totals, dtype=float)
    if metric in BLEUS:
        return SCALE * bleu_from_many_totals(totals, BLEUS.index(metric) + 1)
    if metric == "METEOR":
        return SCALE * meteor.from_many_totals(totals)
    total, count = totals[..., 0], totals[..., 1]
    if metric in SHARES:
        return SCALE * total / np.maximum(count, 1.0)  # counts; where nothing is said nothing is false
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count != 0)


def aggregate(per_image: pd.DataFrame, metric: str) -> float:
    """Return the corpus score, times 100, of the images in a table (all of them, or any resample of its rows)."""
    return from_totals(statistics(per_image, metric).sum(axis=0), metric)
