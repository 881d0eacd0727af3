"""A test of paired differences that stays valid when seeds are added after looking, and its bounds.

A claim may be judged after any seed from the third on, as often as one likes, and the probability that the test is
*ever* wrong at a level stays at most that level. For normal differences of unknown mean d and sd s the evidence for d > m is

    e_n = (mean density of the t statistic of x - m over effects (d - m) / s > 0) / (its density at d = m),

the effects weighted by a half-normal density of scale `SCALE`. It depends on the data by t alone, so that s drops out
(right-Haar prior: Lai 1976; Perez-Ortiz, Lardy, de Heide, Gruenwald 2024), and has a closed form, `log_evidence`. At
d = m it is a martingale of mean 1, so it exceeds 1/alpha with probability at most alpha, ever (Ville). Below m it is
smaller still, because t grows with d for the same noise.

Ville's bound is not sharp (2.5 % within 30 seeds), but the distribution of the largest e_n is known (t is a pivot), so
the threshold is calibrated: `LEVELS` holds the probability that e_n ever reaches a value, with `LATE` times that value
asked for after `EARLY` seeds. A p-value is that probability at the observed e_n. A bound is the m at which p equals the
level: mean -+ `multiplier` x standard error, a confidence sequence (Darling and Robbins 1967). `docs/sequential.md`
compares the method with alternatives.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

FIRST = 3  # paired differences at the first look that counts
SCALE = 1.25  # of the half-normal weight over effects, in standard deviations of the paired difference
EARLY = 30  # differences up to which the threshold is lowest ...
LATE = 10.0  # ... and what it is multiplied by after them
LARGEST_T = 1e9  # beyond this the evidence has reached its limit for n

# (threshold, probability that the evidence ever reaches it where d = m): made by `docs/tools/calibrate.py`.
LEVELS: tuple[tuple[float, float], ...] = (
    (0.2, 0.98),
    (0.5, 0.644),
    (1, 0.417),
    (1.5, 0.314),
    (2, 0.254),
    (3, 0.184),
    (4, 0.144),
    (6, 0.0989),
    (8, 0.0729),
    (10, 0.0559),
    (12, 0.045),
    (15, 0.0359),
    (20, 0.0266),
    (30, 0.017),
    (50, 0.00981),
    (100, 0.00466),
    (200, 0.00222),
    (500, 0.000833),
    (1000, 0.000399),
    (3000, 0.000124),
    (10000, 3.44e-05),
    (100000, 2.96e-06),
)


def log_evidence(t: ArrayLike, n: ArrayLike, scale: float = SCALE) -> np.ndarray:
    """Return log e_n of a one-sample t statistic `t` of `n` >= 2 differences (arrays broadcast; 0 is no evidence).

    It grows with t, and for a given n has a limit: at n = 3 nothing is evidence enough for 2.5 %.
    """
    seen, count = np.clip(np.asarray(t, float), -LARGEST_T, LARGEST_T), np.asarray(n, float)
    prior = count * scale**2  # how much the differences say, relative to the weight over effects
    squared, free = seen**2, count - 1
    gain = np.log1p(squared / free) - np.log1p(squared / (free * (1 + prior)))
    two_sided = count / 2 * gain - np.log1p(prior) / 2
    # the share of the posterior of d, a t distribution of n degrees of freedom, that lies above m
    spread = (free + squared / (1 + prior)) / count
    above = stats.t.logcdf(seen * np.sqrt(prior / (1 + prior) / spread), count)
    return np.asarray(two_sided + math.log(2) + above)


def score(t: ArrayLike, n: ArrayLike) -> np.ndarray:
    """Return the logarithm that is compared with log `threshold`: the evidence, divided by `LATE` after `EARLY` seeds."""
    return log_evidence(t, n) - np.where(np.asarray(n) > EARLY, math.log(LATE), 0.0)


def level_of(score: ArrayLike) -> np.ndarray:
    """Return the probability that a score is ever reached where d = m: the p-value that belongs to it."""
    found, (highest, least) = np.asarray(score, dtype=float), LEVELS[-1]
    between = np.exp(np.interp(found, *np.log(LEVELS).T))
    # above the table the share of 1 / value, Ville's bound, no longer changes
    above = least * highest * np.exp(-np.maximum(found, math.log(highest)))
    return np.where(found <= math.log(LEVELS[0][0]), 1.0, np.where(found >= math.log(highest), above, between))


def threshold(alpha: float) -> float:
    """Return the value that the evidence ever reaches with probability `alpha` where d = m (0 < alpha < 1)."""
    highest, least = LEVELS[-1]
    if alpha >= LEVELS[0][1]:
        return LEVELS[0][0]
    if alpha <= least:
        return least * highest / alpha
    return float(np.exp(np.interp(math.log(alpha), *np.log(LEVELS).T[::-1, ::-1])))


@functools.lru_cache(maxsize=4096)
def multiplier(n: int, alpha: float) -> float:
    """Return how many standard errors a one-sided bound at 1 - `alpha` lies from the mean; infinite where n is too small.

    It takes the place of Student's quantile: at 2.5 % and n = 4, 5, 10 and 30 not 3.2, 2.8, 2.3
    and 2.0, but 7.1, 4.7, 3.4 and 3.1.
    """
    target = math.log(threshold(alpha))
    if n < FIRST or float(score(LARGEST_T, n)) <= target:
        return math.inf
    high = 1.0
    while float(score(high, n)) < target:
        high *= 2
    return float(optimize.brentq(lambda t: float(score(t, n)) - target, -high, high, xtol=1e-10))
