"""Two systems on the same images: how far their scores differ, and for what else that holds.

With one set of captions a side, models are what they are and images are a sample: the interval of the difference is
Student's t over the images' own differences (of BLEU and METEOR, which are no means over images, their jackknife
pseudo-values, see `gitbench.judge.crossed`). A paired bootstrap over images gives the same within its own error
(`tests/judge/test_systems.py`). With several sets a side, of models that differ in their seed, set k of one is paired
with set k of the other, and the crossed interval holds for other seeds and other images; where seeds have nothing in
common, any pairing is as valid. Few seeds can be alike by luck: the interval is never narrower than that over images.

The document frequencies of CIDEr are those of the images given, here and in the bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from gitbench.errors import GitbenchError
from gitbench.judge.crossed import crossed_interval, image_statistics, image_values
from gitbench.judge.power import POWER
from gitbench.judge.statistics import SIDE, holm, t_interval
from gitbench.metric_info import lower_is_better
from gitbench.metrics.aggregate import aggregate

ALIKE = 1e-9  # scores of an image that are as close as this are a tie


@dataclass(frozen=True, kw_only=True)
class SystemDifference:
    """One metric of systems A and B, in its unit.

    `a`, `b`: scores of each set of captions. `difference`: mean of A less mean of B, with its 95 % interval.
    `detectable`: the true difference that this comparison finds with 80 % power. `higher`, `tie`, `lower`: shares of images
    (and pairs of sets) where A scores higher than B, the same, lower; None where an image has no score of its own.
    `seed_share`: what of the variance is due to seeds; None with one set a side.
    """

    metric: str
    a: tuple[float, ...]
    b: tuple[float, ...]
    difference: float
    low: float
    high: float
    detectable: float
    images: int
    higher: float | None = None
    tie: float | None = None
    lower: float | None = None
    seed_share: float | None = None

    @property
    def better(self) -> str | None:
        """ "A" or "B", whichever is shown to be better; None where the interval holds zero."""
        if self.low <= 0 <= self.high:
            return None
        return "A" if (self.low > 0) != lower_is_better(self.metric) else "B"


def compare_systems(metric: str, a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame]) -> SystemDifference | None:
    """Compare per-image tables (`Scores.per_image`) of A and B, one table a set of captions, as many of each.

    None where a table lacks what the metric needs. Errors: GitbenchError for unequal numbers of tables, for other images
    in one of them, and for a single image.
    """
    if len(a) != len(b) or not a:
        raise GitbenchError(
            f"A has {len(a)} sets of captions and B {len(b)}: pass as many of each, in the order of seeds"
        )
    found = [image_statistics(table, metric) for table in (*a, *b)]
    parts = [each for each in found if each is not None]
    if len(parts) < len(found):
        return None
    images = parts[0].index
    if any(set(each.index) != set(images) for each in parts):
        raise GitbenchError("the tables are of different images: score captions of the same images")
    if len(images) < 2:
        raise GitbenchError("one image gives no interval over images: pass captions of at least 2")
    stacked = np.stack([each.loc[images].to_numpy() for each in parts])
    values = image_values(stacked, metric)
    table = values[: len(a)] - values[len(a) :]
    low, high, error, df, seed_share = _interval(table)
    higher, tie, lower = _shares(metric, a, b)
    return SystemDifference(
        metric=metric,
        a=tuple(aggregate(each, metric) for each in a),
        b=tuple(aggregate(each, metric) for each in b),
        difference=float(table.mean()),
        low=float(low),
        high=float(high),
        detectable=float(stats.t.isf(SIDE, df) + stats.t.isf(1 - POWER, df)) * error,
        images=len(images),
        higher=higher,
        tie=tie,
        lower=lower,
        seed_share=seed_share,
    )


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One metric of a system (A) less that of the first of several (B): with its p-value, and what Holm's correction leaves.

    The correction is over the systems that are compared with the first by this metric; where there is one, it changes nothing.
    """

    difference: SystemDifference
    p: float  # two-sided, of no difference
    adjusted: float

    @property
    def better(self) -> str | None:
        """ "A" or "B", whichever is shown to be better after the correction; None where neither is."""
        return self.difference.better if self.adjusted < 2 * SIDE else None


def against_first(metric: str, tables: Sequence[pd.DataFrame]) -> list[Compared] | None:
    """Compare each of several per-image tables, one set of captions each, with the first; errors as `compare_systems`.

    None where a table lacks what the metric needs.
    """
    found = [compare_systems(metric, [table], tables[:1]) for table in tables[1:]]
    differences = [each for each in found if each is not None]
    if len(differences) < len(found):
        return None
    p = np.array([_p_value(each) for each in differences])
    return [
        Compared(difference=each, p=float(alone), adjusted=float(adjusted))
        for each, alone, adjusted in zip(differences, p, holm(p), strict=True)
    ]


def _p_value(each: SystemDifference) -> float:
    """Return the two-sided p-value of a difference of one set a side: below 5 % where its interval lacks zero."""
    df = each.images - 1
    error = (each.high - each.low) / 2 / float(stats.t.isf(SIDE, df))
    if error == 0:
        return 1.0 if each.difference == 0 else 0.0
    return float(2 * stats.t.sf(abs(each.difference) / error, df))


def _interval(table: np.ndarray) -> tuple[float, float, float, float, float | None]:
    """Return (low, high, standard error, degrees of freedom, share of seeds) of the mean of (sets, images) differences."""
    mean, over_images = float(table.mean()), t_interval(table.mean(axis=0))
    half, df, seed_share = over_images.half_width or 0.0, float(table.shape[1] - 1), None
    if len(table) > 1:
        crossed = crossed_interval(table)
        seed_share = 1 - crossed.image_share
        if (crossed.high - crossed.low) / 2 > half:
            half, df = (crossed.high - crossed.low) / 2, float(len(table) - 1)
    return mean - half, mean + half, half / float(stats.t.ppf(0.975, df)), df, seed_share


def _shares(
    metric: str, a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame]
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return the shares of images where A scores higher, the same, lower, over all pairs of sets of captions."""
    if any(metric not in table for table in (*a, *b)):
        return None, None, None
    pairs = [
        one.set_index("image_id")[metric] - other.set_index("image_id")[metric] for one, other in zip(a, b, strict=True)
    ]
    differences = np.concatenate([each.dropna().to_numpy(dtype=float) for each in pairs])
    if not len(differences):
        return None, None, None
    higher, lower = float((differences > ALIKE).mean()), float((differences < -ALIKE).mean())
    return higher, 1.0 - higher - lower, lower
