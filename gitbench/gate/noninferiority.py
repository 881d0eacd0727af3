"""Is a change as good as the reference, but for a margin? One-sided tests over seeds, at a few looks. Pure.

Values are in units of the margin and turned so that more is better. Both questions are about d, the mean of the change less
that of the reference, and both have the same border, d = -1:

* **As good** (d > -1): Welch's t test, which lets the changed code vary as it likes. A change passes when every metric
  does; any of them stops it, so the level needs no correction for their number (Berger 1982).
* **Worse** (d < -1): Student's t test with the spread of the reference's seeds, which a harmless change shares. So two seeds
  show that a model is broken. One metric is enough, hence Holm's correction (`gitbench.judge.statistics.holm`).

The level of each question is shared out among the looks (Bonferroni), so that looking early costs no error: a metric that is
worse by exactly its margin passes, at whatever look, with a probability of `Rule.good` at most. What is undecided at the
last look is not shown to be as good.

What `docs/tools/gate_power.py` found, with the spread of the CPUs' reference (a seed's sd is 0.37 to 0.56 margins): a harmless
change is red in none of 20,000 checks, in 0.6 % where noise has heavy tails, and takes 8 seeds. One metric that is worse by
half its margin is red in 14 % of checks, in 8 % where equal seeds correlate by 0.9; by a whole margin in 96 and 99 %. That
equal seeds share initial values and the order of data is not used: a test of their differences took 10 seeds where they do
not correlate and 5.5 at 0.9, and where they give the same scores to rounding the check ends at the first look anyway.

Functions take arrays of studies: values are (..., metrics, seeds).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from gitbench.judge.statistics import holm

FOUND = 0.95  # margins: a metric that is worse by so much is red in 90 % of checks, however equal seeds correlate
_TINY = 1e-12  # of a variance: seeds may give one value


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When it is looked, and at which levels."""

    looks: tuple[int, ...] = (2, 4, 8, 12, 16)  # seeds
    shares: tuple[float, ...] = (0.0, 0.05, 0.1, 0.25, 0.6)  # of `good`, by look: two values do not tell their spread
    good: float = 0.05  # level of "as good", over all looks
    bad: float = 0.01  # level of "worse", over all looks, the same at each

    @property
    def most(self) -> int:
        """Seeds at the last look."""
        return self.looks[-1]

    def level(self, seeds: int) -> float:
        """Return the level at which a metric is shown to be as good, at the look after so many seeds."""
        return self.good * self.shares[self.looks.index(seeds)]

    def as_good(self, change: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Tell, metric by metric, whether it is shown at this look that it is not worse by its margin."""
        return np.asarray(lower_bounds(change, reference, self.level(change.shape[-1])) > -1.0)

    def worse(self, change: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Tell, metric by metric, whether it is shown at this look that it is worse by more than its margin."""
        seeds, known = change.shape[-1], reference.shape[-1]
        error = np.sqrt(_variance(reference) * (1 / seeds + 1 / known))
        p = stats.t.cdf((change.mean(axis=-1) - reference.mean(axis=-1) + 1.0) / error, known - 1)
        return np.asarray(holm(p) <= self.bad / len(self.looks))


def lower_bounds(change: np.ndarray, reference: np.ndarray, side: float) -> np.ndarray:
    """Return Welch's lower bounds (..., metrics) of `change` less `reference` at level `side`; -inf where that is 0."""
    if side <= 0 or change.shape[-1] < 2:
        return np.full(change.shape[:-1], -np.inf)
    seeds, known = change.shape[-1], reference.shape[-1]
    ours, theirs = _variance(change) / seeds, _variance(reference) / known
    freedom = (ours + theirs) ** 2 / (ours**2 / (seeds - 1) + theirs**2 / (known - 1))
    d = change.mean(axis=-1) - reference.mean(axis=-1)
    return np.asarray(d - stats.t.isf(side, freedom) * np.sqrt(ours + theirs))


def _variance(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(values.var(axis=-1, ddof=1), _TINY))
