"""Intervals and the test behind every word.

Everything is paired: the same replicate number gives two arms the same data order and the same initial value of every
tensor they share. A number is tested at 2.5 % a side, so that the 95 % interval that is printed is the one that decides.

* **Mean.** Student's t over seeds, never a bootstrap: with 3 to 10 replicates a percentile bootstrap that says 95 % covers
  75 to 90 %. Under looking, `gitbench.judge.sequential` instead. The choice of test images is a second, independent
  source of error; the two half-widths are added in quadrature (Howe 1974): exact where one of them vanishes.
* **Typical seed.** The same test of the median, whose standard error is that of the mean times `MEDIAN`, as for normal
  noise; with heavier tails, skewed or collapsing arms the median is more exact than that. A word needs both: one
  collapsed seed moves the mean and not the median, and a skewed arm is wrong about one of them only.
* **Few seeds.** With fewer than 7 the level is lowered by `FEW`, so that noise that is skewed in one arm alone keeps its
  2.5 % (docs/judge.md); the interval is wider by 2 (n = 6) to 52 per cent (n = 3).

Functions take arrays of studies, so that `docs/tools/simulate.py` puts those of the judge to the test.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, stats

from gitbench.judge import sequential as looking
from gitbench.judge.verdict import INCONCLUSIVE, REFUTED, SUPPORTED

MIN_REPLICATES = 3  # of a verdict: two pairs give one degree of freedom: valid on paper, and a t multiplier of 12.7
SIDE = 0.025  # level of each side of every test; both sides together are the 5 % of the interval
FEW = {3: 0.45, 4: 0.5, 5: 0.74, 6: 0.95}  # seeds -> share of the level that is used
# The sd of the median of n normal values over that of their mean, n = 2, 3, ...; sqrt(pi / 2) in the limit.
MEDIAN = (
    *(1.0, 1.16, 1.092, 1.198, 1.135, 1.214, 1.16, 1.223, 1.176, 1.229, 1.188, 1.232, 1.196, 1.235, 1.202),
    *(1.237, 1.208, 1.239, 1.211, 1.24, 1.216, 1.242, 1.219, 1.242, 1.22, 1.243, 1.223, 1.244, 1.225),
)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over `n` replicates with its two-sided t interval; `low`, `high`, `sd` are None when n < 2."""

    mean: float
    low: float | None
    high: float | None
    sd: float | None
    n: int

    @property
    def ends(self) -> tuple[float, float] | None:
        """`low` and `high`; None when n < 2."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def half_width(self) -> float | None:
        """Half the interval's width, in the unit of the values; None when n < 2."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return mean and two-sided Student-t interval of replicate values (one number a replicate).

    Raises ValueError when `values` is empty or holds something that is not finite.
    """
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not len(data) or not np.isfinite(data).all():
        raise ValueError("an interval needs a flat, non-empty list of finite numbers")
    n, mean = len(data), float(data.mean())
    if n < 2:
        return Interval(mean=mean, low=None, high=None, sd=None, n=n)
    sd = float(data.std(ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * sd / np.sqrt(n)
    return Interval(mean=mean, low=mean - half, high=mean + half, sd=sd, n=n)


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """treatment minus reference by replicate, in the metric's unit."""

    replicates: tuple[int, ...]
    treatment: tuple[float, ...]
    reference: tuple[float, ...]
    differences: tuple[float, ...]

    @functools.cached_property
    def interval(self) -> Interval:
        """The two-sided 95 % t interval of the mean difference."""
        return t_interval(self.differences)


def paired_difference(treatment: pd.Series, reference: pd.Series) -> PairedDifference | None:
    """Pair two series indexed by replicate; replicates of only one are left out; None if none is shared."""
    shared = sorted(set(treatment.index) & set(reference.index))
    if not shared:
        return None
    first, second = (np.array([float(series[each]) for each in shared]) for series in (treatment, reference))
    return PairedDifference(
        replicates=tuple(int(each) for each in shared),
        treatment=tuple(first.tolist()),
        reference=tuple(second.tolist()),
        differences=tuple((first - second).tolist()),
    )


def by_replicate(rows: pd.DataFrame) -> pd.Series:
    """Return the values of rows of the tidy frame, indexed by their replicates."""
    return pd.Series(rows["value"].to_numpy(dtype=float), index=[int(each) for each in rows["replicate"]])


# ---- the test -----------------------------------------------------------------------------------------------------


def median_factor(n: int) -> float:
    """Return the standard error of the median of `n` >= 1 normal values over that of their mean."""
    return 1.0 if n < 2 else MEDIAN[n - 2] if n - 2 < len(MEDIAN) else math.sqrt(math.pi / 2)


def multiplier(n: int, side: float = SIDE, *, sequential: bool = False) -> float:
    """Return how many standard errors over `n` seeds a bound of level `side` lies from its estimate; may be infinite."""
    level = side * FEW.get(n, 1.0)
    if sequential:
        return looking.multiplier(n, level)
    return float(stats.t.isf(level, n - 1)) if n > 1 else math.inf


def half_width(
    seeds: float, n: int, images: float = 0.0, count: int | None = None, side: float = SIDE, *, sequential: bool = False
) -> float:
    """Return the distance of a bound from its estimate: `seeds` and `images` are standard errors, `count` images there are."""
    factor = multiplier(n, side, sequential=sequential)
    if math.isinf(factor):
        return math.inf
    other = float(stats.t.isf(side, count - 1)) * images if images and count else 0.0
    return math.hypot(factor * seeds, other)


def p_above(
    estimate: ArrayLike,
    seeds: ArrayLike,
    n: int,
    images: float = 0.0,
    count: int | None = None,
    *,
    sequential: bool = False,
) -> np.ndarray:
    """Return the p-value that a quantity is above 0: below a level where the bound of that level is above 0.

    `seeds` is its standard error over `n` seeds, an array of studies as `estimate`; `images` that over `count` images.
    """
    found, error = np.asarray(estimate, dtype=float), np.maximum(seeds, np.finfo(float).tiny)
    if images and count:
        return np.asarray(_p_with_images(float(found), float(error), n, images, count, sequential))
    if not sequential:
        p = stats.t.sf(found / error, n - 1)
    elif n < looking.FIRST:
        return np.ones(found.shape)
    else:
        p = looking.level_of(looking.score(found / error, n))
    return np.asarray(np.minimum(1.0, p / FEW.get(n, 1.0)))


def _p_with_images(estimate: float, seeds: float, n: int, images: float, count: int, sequential: bool) -> float:
    """Return the level whose bound, images allowed for, lies exactly at 0."""

    def beyond(side: float) -> float:
        return half_width(seeds, n, images, count, side, sequential=sequential) - abs(estimate)

    low, high = 1e-12, 0.5
    if beyond(high) >= 0:
        p = 1.0 if sequential else 0.5
    else:
        p = low if beyond(low) <= 0 else float(optimize.brentq(beyond, low, high, xtol=1e-12))
    return p if estimate > 0 else max(p, 1 - p)


def decide(support: ArrayLike, refute: ArrayLike) -> np.ndarray:
    """Return the word of each pair of (adjusted) p-values; at most one of the two is below 2.5 %."""
    return np.where(np.asarray(support) < SIDE, SUPPORTED, np.where(np.asarray(refute) < SIDE, REFUTED, INCONCLUSIVE))


# ---- several claims -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Adjusted:
    """A claim's two p-values as Holm's correction over the claims of its ablation leaves them."""

    support: float
    refute: float
    open_support: int  # claims that are not (yet) supported: the divisor that Holm would apply to this one next
    open_refute: int


def holm(p: ArrayLike) -> np.ndarray:
    """Return Holm's adjusted p-values (Holm 1979) of families (..., claims), in the given order.

    The probability of any false rejection in a family is at most the level, whatever its claims have in common.
    """
    given = np.asarray(p, dtype=float)
    order = np.argsort(given, axis=-1)
    steps = np.take_along_axis(given, order, axis=-1) * np.arange(given.shape[-1], 0, -1)
    adjusted = np.empty_like(given)
    np.put_along_axis(adjusted, order, np.minimum(1.0, np.maximum.accumulate(steps, axis=-1)), axis=-1)
    return adjusted


def adjust(p: Sequence[tuple[float, float] | None]) -> list[Adjusted]:
    """Adjust the (support, refute) p-values of an ablation's claims, each side by itself; None: a claim is not judged.

    Such a claim counts as p = 1. So nothing that arrives later can take a word back, and leaving claims out of a study's
    runs buys nothing.
    """
    if not p:
        return []
    sides = holm(np.array([(1.0, 1.0) if each is None else each for each in p]).T)
    left = [max(1, int(count)) for count in (sides >= SIDE).sum(axis=1)]
    return [
        Adjusted(support=float(support), refute=float(refute), open_support=left[0], open_refute=left[1])
        for support, refute in sides.T
    ]
