"""Intervals over replicates: Student's t, with the number of replicates beside them.

Never a bootstrap over seeds: with 3 to 10 replicates a percentile bootstrap that says 95 % covers 75 to 90 %,
while the t interval keeps its word (simulated in `tests/test_judge_intervals.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over `n` replicates with its two-sided t interval; `low`, `high`, `sd` are None when n < 2."""

    mean: float
    low: float | None
    high: float | None
    sd: float | None
    n: int
    level: float

    @property
    def half_width(self) -> float | None:
        """Half the interval's width, in the unit of the values; None when n < 2."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def t_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Return mean and two-sided Student-t interval of replicate values (one number a replicate).

    Raises ValueError when `values` is empty or holds something that is not finite.
    """
    data = _checked(values)
    n, mean = len(data), float(data.mean())
    if n < 2:
        return Interval(mean=mean, low=None, high=None, sd=None, n=n, level=level)
    sd = float(data.std(ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * sd / np.sqrt(n)
    return Interval(mean=mean, low=mean - half, high=mean + half, sd=sd, n=n, level=level)


def one_sided_bounds(values: Sequence[float] | np.ndarray, alpha: float = 0.05) -> tuple[float, float] | None:
    """Return the lower and the upper one-sided (1 - alpha) confidence bound of the mean; None when n < 2.

    Each holds with probability 1 - alpha on its own; together they form the two-sided (1 - 2 alpha) interval.
    """
    interval = t_interval(values, level=1 - 2 * alpha)
    return None if interval.low is None or interval.high is None else (interval.low, interval.high)


def _checked(values: Sequence[float] | np.ndarray) -> np.ndarray:
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not len(data) or not np.isfinite(data).all():
        raise ValueError("an interval needs a flat, non-empty list of finite numbers")
    return data
