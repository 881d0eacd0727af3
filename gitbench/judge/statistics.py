"""Intervals, paired differences and the tests behind a verdict.

The same replicate number gives two arms the same data order and the same initial value of every tensor they share, so
the difference within a replicate is the natural unit, and every test here is paired. Intervals are Student's t, never
a bootstrap over seeds: with 3 to 10 replicates a percentile bootstrap that says 95 % covers 75 to 90 %.

Each word rejects the opposite of what the table in `gitbench.judge.claims` says it shows, boundary included, so it is
wrong with probability at most 5 % there. That an equivalence is refuted is tested from both sides of [-m, m]: for t,
p = P(T > (|mean| - m) / se) + P(T > (|mean| + m) / se), which is the one-sided test where m is many standard errors and
the two-sided one where m = 0; for the sequential test, twice the smaller p (Bonferroni).

Functions of p-values take arrays of studies, so that `docs/tools/simulate.py` puts those of the judge to the test.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from gitbench.judge.sequential import FIRST, level_of, score
from gitbench.judge.verdict import INCONCLUSIVE, REFUTED, SUPPORTED
from gitbench.spec import Claim

ALPHA = 0.05
SIGN_FLIP_NEEDS = math.ceil(-math.log2(ALPHA))  # replicates below which the exact one-sided test cannot reach 5 %


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
    """treatment minus reference by replicate (of a trend: its slopes), in the metric's unit."""

    replicates: tuple[int, ...]
    treatment: tuple[float, ...]
    reference: tuple[float, ...]
    differences: tuple[float, ...]

    @functools.cached_property
    def interval(self) -> Interval:
        """The two-sided 95 % t interval of the mean difference."""
        return t_interval(self.differences)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lower and the upper one-sided bound of the mean difference, each at 95 %; None when n < 2."""
        return t_interval(self.differences, level=1 - 2 * ALPHA).ends


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


def sample(claim: Claim, values: Mapping[str, pd.Series]) -> PairedDifference | None:
    """Return the claim's numbers by replicate in the metric's own sign; None where no replicate has all it needs.

    `values` holds each arm's scores by replicate. `treatment` and `reference` of the result are the two sides; of a
    trend its last and first arm, and the differences are slopes.
    """
    if claim.kind != "trend":
        return paired_difference(
            _side(values, claim.treatment, claim.treatment_from), _side(values, claim.reference, claim.reference_from)
        )
    arms, places = zip(*claim.along, strict=True)
    table = pd.concat([values[arm] for arm in arms], axis=1, join="inner", keys=arms).dropna().sort_index()
    if table.empty:
        return None
    return PairedDifference(
        replicates=tuple(int(each) for each in table.index),
        treatment=tuple(table[claim.treatment].tolist()),
        reference=tuple(table[claim.reference].tolist()),
        differences=tuple(slopes(table.to_numpy(dtype=float), places).tolist()),
    )


def by_replicate(rows: pd.DataFrame) -> pd.Series:
    """Return the values of rows of the tidy frame, indexed by their replicates."""
    return pd.Series(rows["value"].to_numpy(dtype=float), index=[int(each) for each in rows["replicate"]])


def slopes(scores: np.ndarray, places: Sequence[float]) -> np.ndarray:
    """Return the least-squares slope over `places` (k,) of every row of scores (..., k): metric units for each 1 of x."""
    centred = np.asarray(places, dtype=float) - np.mean(places)
    return np.asarray(scores, dtype=float) @ centred / (centred @ centred)


def _side(values: Mapping[str, pd.Series], arm: str, start: str | None) -> pd.Series:
    """Return one side of a claim by replicate: an arm's values, or its gain over `start` where both have a value."""
    return values[arm] if start is None else (values[arm] - values[start]).dropna()


# ---- tests --------------------------------------------------------------------------------------------------------


def p_values(
    kind: str, differences: ArrayLike, margin: float, *, sequential: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the p-values (to support, to refute) of studies (..., n) of turned differences; `margin` in their unit.

    By Student's paired test, or (`sequential`) by the one that stays valid under interim looks. Each has shape (...);
    needs n >= 2 and differences that vary.
    """
    data, test = np.asarray(differences, dtype=float), _sequential_test if sequential else _t_test
    support = _support(kind, data, margin, test)
    if kind != "equivalent":
        return support, test(data - margin if kind == "not_better" else margin - data)
    if sequential:
        refute = 2 * np.minimum(test(data - margin), test(-data - margin))
    else:
        mean, error, free = np.abs(data.mean(axis=-1)), _error(data), data.shape[-1] - 1
        refute = stats.t.sf((mean - margin) / error, free) + stats.t.sf((mean + margin) / error, free)
    return support, np.minimum(1.0, refute)


def sign_flip_p(kind: str, differences: Sequence[float] | np.ndarray, margin: float) -> float:
    """Return the exact p-value to support a claim from turned differences (n,); assumes symmetry, not normality.

    A check that is printed beside the verdict: it decides nothing, and does not stay valid under interim looks.
    """
    return float(_support(kind, np.asarray(differences, dtype=float), margin, _sign_flip))


def decide(support: ArrayLike, refute: ArrayLike) -> np.ndarray:
    """Return the word of each pair of (adjusted) p-values; at most one of the two is below 5 %."""
    return np.where(np.asarray(support) < ALPHA, SUPPORTED, np.where(np.asarray(refute) < ALPHA, REFUTED, INCONCLUSIVE))


def _support(kind: str, data: np.ndarray, margin: float, test: Callable[[np.ndarray], ArrayLike]) -> np.ndarray:
    """Return the p-value of a claim's support by a test whose p-value is that of mean > 0."""
    if kind == "equivalent":
        return np.maximum(test(margin - data), test(data + margin))
    return np.asarray(test(margin - data if kind == "not_better" else data - margin))


def _t_test(data: np.ndarray) -> np.ndarray:
    return np.asarray(stats.t.sf(data.mean(axis=-1) / _error(data), data.shape[-1] - 1))


def _sequential_test(data: np.ndarray) -> np.ndarray:
    n = data.shape[-1]
    if n < FIRST:
        return np.ones(data.shape[:-1])
    return np.vectorize(level_of, otypes=[float])(np.exp(score(data.mean(axis=-1) / _error(data), n)))


def _error(data: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean, never quite 0."""
    return np.maximum(data.std(axis=-1, ddof=1) / math.sqrt(data.shape[-1]), np.finfo(float).tiny)


def _sign_flip(data: np.ndarray) -> float:
    """Return the exact sign-flip p-value of (n,) differences for mean > 0.

    All 2^n sign patterns are enumerated up to n = 16; beyond that 2^16 - 1 random ones and the observed one stand in.
    """
    n = len(data)
    if n <= 16:
        signs = 1.0 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(2**16, n))
        signs[0] = 1
    slack = 1e-12 * max(1.0, float(np.abs(data).max()))  # equal sums must count as equal
    return float((signs @ data / n >= data.mean() - slack).mean())


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
    left = [max(1, int(count)) for count in (sides >= ALPHA).sum(axis=1)]
    return [
        Adjusted(support=float(support), refute=float(refute), open_support=left[0], open_refute=left[1])
        for support, refute in sides.T
    ]
