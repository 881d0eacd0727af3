"""Two arms side by side, replicate by replicate.

The same replicate number gives two arms the same data order and the same initial value of every tensor they share,
so the difference within a replicate is the natural unit and every test here is paired. Also: how many replicates a
test needs before it can reach its threshold at all, and before it would, with 80 % power.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from gitbench.judge.intervals import Interval, one_sided_bounds, t_interval

MOST_SEEDS = 1000  # beyond this many replicates nobody runs them: the answer is "more than 1000"


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """treatment minus reference by replicate: the values, their 95 % t interval and one-sided 95 % bounds."""

    replicates: tuple[int, ...]
    treatment: tuple[float, ...]
    reference: tuple[float, ...]
    differences: tuple[float, ...]
    interval: Interval
    bounds: tuple[float, float] | None  # one-sided, each at 95 %


def paired_difference(treatment: pd.Series, reference: pd.Series) -> PairedDifference | None:
    """Pair two series indexed by replicate; replicates of only one are left out; None if none is shared."""
    shared = sorted(set(treatment.index) & set(reference.index))
    if not shared:
        return None
    first, second = (np.array([float(series[each]) for each in shared]) for series in (treatment, reference))
    differences = first - second
    return PairedDifference(
        replicates=tuple(int(each) for each in shared),
        treatment=tuple(first.tolist()),
        reference=tuple(second.tolist()),
        differences=tuple(differences.tolist()),
        interval=t_interval(differences),
        bounds=one_sided_bounds(differences),
    )


def t_test(differences: Sequence[float] | np.ndarray, margin: float = 0.0, alternative: str = "two-sided") -> float:
    """Return the paired t-test's p-value for mean difference = `margin`; needs n >= 2 and differences that vary.

    `alternative` is "less" (difference < margin), "greater" or "two-sided".
    """
    return float(stats.ttest_1samp(np.asarray(differences, dtype=float), margin, alternative=alternative).pvalue)


def tost(treatment: Sequence[float], reference: Sequence[float], margin: float) -> float:
    """Return the p-value of two one-sided paired t-tests for |difference| < margin (the larger of the two)."""
    return float(ttost_paired(np.asarray(treatment, float), np.asarray(reference, float), -margin, margin)[0])


def sign_flip(differences: Sequence[float] | np.ndarray, margin: float = 0.0, alternative: str = "two-sided") -> float:
    """Return the exact sign-flip p-value for a mean difference of `margin`; assumes symmetry, not normality.

    All 2^n sign patterns are enumerated up to n = 16; beyond that 2^16 - 1 random ones and the observed one stand in.
    """
    shifted = np.asarray(differences, dtype=float) - margin
    n = len(shifted)
    signs = _signs(n)
    means, observed = signs @ shifted / n, shifted.mean()
    slack = 1e-12 * max(1.0, float(np.abs(shifted).max()))  # equal sums must count as equal
    if alternative == "greater":
        return float((means >= observed - slack).mean())
    if alternative == "less":
        return float((means <= observed + slack).mean())
    return float((np.abs(means) >= abs(observed) - slack).mean())


@functools.lru_cache(maxsize=4)
def _signs(n: int) -> np.ndarray:
    """Return the sign patterns of n differences, (patterns, n)."""
    if n <= 16:
        return 1.0 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(2**16, n))
    signs[0] = 1
    return signs


def smallest_n_sign_flip(alpha: float = 0.05, alternative: str = "two-sided") -> int:
    """Return the fewest replicates at which an exact sign-flip test can reach `alpha` at all (6 at 5 %, two-sided)."""
    tails = 2 if alternative == "two-sided" else 1
    n = 1
    while tails / 2**n > alpha:
        n += 1
    return n


def power_one_sided(effect: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """Return the power of a one-sided paired t-test to find a distance `effect` >= 0 from its margin."""
    if n < 2:
        return 0.0
    if sd == 0:
        return float(effect > 0)
    shift = min(effect / sd * np.sqrt(n), 35.0)  # beyond this the power is 1 and scipy's tail function fails
    return float(stats.nct.sf(stats.t.ppf(1 - alpha, n - 1), n - 1, shift))


def power_tost(difference: float, margin: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """Return the power of TOST at a true `difference`: integrated over the chi distribution of the sample sd."""
    if n < 2:
        return 0.0
    quantiles = (np.arange(400) + 0.5) / 400
    sample_se = sd * np.sqrt(stats.chi2.ppf(quantiles, n - 1) / (n - 1)) / np.sqrt(n)
    slack = margin - stats.t.ppf(1 - alpha, n - 1) * sample_se  # both tests reject when |mean| < slack
    true_se = sd / np.sqrt(n)
    inside = stats.norm.cdf((slack - difference) / true_se) - stats.norm.cdf((-slack - difference) / true_se)
    return float(np.where(slack > 0, inside, 0.0).mean())


def smallest_n(power: Callable[[int], float], target: float = 0.8) -> int | None:
    """Return the fewest replicates at which `power(n)` reaches `target`; None when that is above `MOST_SEEDS`.

    Power grows with n, so doubling and then halving finds the place.
    """
    high = 2
    while power(high) < target:
        if high >= MOST_SEEDS:
            return None
        high = min(2 * high, MOST_SEEDS)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= target else (middle, high)
    return high
