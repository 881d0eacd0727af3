"""Is a change as good as the reference, but for a margin? One-sided tests on paired seeds, at a few looks. Pure.

A difference is that of a seed of the change and the same seed of the reference, in units of the margin and turned so that
more is better. Both questions are about its mean d, and both have the same border, d = -1:

* **As good** (d > -1): Student's t over the differences, which assumes nothing of how the changed code varies. A change
  passes when every metric does; any of them stops it, so the level needs no correction for their number (Berger 1982).
* **Worse** (d < -1): a t test that takes the spread from the reference's seeds: runs that differ in rounding alone differ by
  sqrt(2) standard deviations of a run, or by less. So two seeds show that a model is broken. One metric is enough, hence
  Holm's correction over the metrics (`gitbench.judge.statistics.holm`).

The level of each question is shared out among the looks (Bonferroni), so that looking early costs no error: a metric that is
worse by exactly its margin passes, at whatever look, with a probability of `Rule.good` at most. What is undecided at the
last look is not shown to be as good. `docs/tools/gate_power.py` simulates how often that is wrong and how many seeds it takes.

Functions take arrays of studies: differences are (..., metrics, seeds).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gitbench.judge.statistics import holm

_TINY = 1e-12  # standard error where differences do not vary, in margins


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When it is looked, and at which levels."""

    looks: tuple[int, ...] = (2, 4, 8, 12, 20)  # seeds
    shares: tuple[float, ...] = (
        0.0,
        0.1,
        0.2,
        0.3,
        0.4,
    )  # of `good`, by look: two differences do not tell their spread
    good: float = 0.05  # level of "as good", over all looks
    bad: float = 0.01  # level of "worse", over all looks, the same at each

    @property
    def most(self) -> int:
        """Seeds at the last look."""
        return self.looks[-1]

    def level(self, seeds: int) -> float:
        """Return the level at which a metric is shown to be as good, at the look after so many seeds."""
        return self.good * self.shares[self.looks.index(seeds)]

    def as_good(self, differences: ArrayLike) -> np.ndarray:
        """Tell, metric by metric, whether it is shown at this look that it is not worse by its margin."""
        d = np.asarray(differences, dtype=float)
        return lower_bounds(d, self.level(d.shape[-1])) > -1.0

    def worse(self, differences: ArrayLike, spread: ArrayLike, seeds: int) -> np.ndarray:
        """Tell, metric by metric, whether it is shown at this look that it is worse by more than its margin.

        `spread` (..., metrics) is `spread_of` the reference's `seeds`.
        """
        d = np.asarray(differences, dtype=float)
        error = np.maximum(np.asarray(spread, dtype=float), _TINY) / math.sqrt(d.shape[-1])
        p = stats.t.cdf((d.mean(axis=-1) + 1.0) / error, seeds - 1)
        return np.asarray(holm(p) <= self.bad / len(self.looks))


def spread_of(reference: ArrayLike) -> np.ndarray:
    """Return how much the differences of a harmless change vary at most, from the reference's values (..., seeds)."""
    return np.asarray(math.sqrt(2) * np.std(np.asarray(reference, dtype=float), axis=-1, ddof=1))


def lower_bounds(differences: ArrayLike, side: float) -> np.ndarray:
    """Return the one-sided lower bounds (..., metrics) of the mean differences at level `side`; -inf where that is 0."""
    d = np.asarray(differences, dtype=float)
    seeds = d.shape[-1]
    if side <= 0 or seeds < 2:
        return np.full(d.shape[:-1], -np.inf)
    error = np.maximum(d.std(axis=-1, ddof=1), _TINY) / math.sqrt(seeds)
    return np.asarray(d.mean(axis=-1) - stats.t.isf(side, seeds - 1) * error)
