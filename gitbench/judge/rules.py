"""The tests behind the words: two p-values a claim, one against it being false and one against it being true.

d is the true mean of the differences, turned so that more is what is claimed (`scores.orientation`), m the margin.

| kind                                  | SUPPORTED rejects | REFUTED rejects |
|---------------------------------------|-------------------|-----------------|
| better, interaction, trend, threshold | d <= m            | d >= m          |
| not_better                            | d >= m            | d <= m          |
| equivalent                            | d outside (-m, m) | d within [-m, m] |

One hypothesis holds the boundary in each, so each word is wrong with probability at most 5 % there. "Within [-m, m]" is
tested from both sides: for t, p = P(T > (|mean| - m) / se) + P(T > (|mean| + m) / se), which is the one-sided test where m
is many standard errors and the two-sided one where m = 0; for the other tests, twice the smaller p (Bonferroni).

Methods: "t" (Student, paired), "sign_flip" (exact for symmetric noise), "sequential" (valid under looking). Arrays of
studies are judged at once, so that `gitbench.judge.simulate` puts the very functions of the judge to the test.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gitbench.judge.compare import sign_flip
from gitbench.judge.sequential import FIRST, LARGEST_T, level_of, score

SUPPORTED, REFUTED, INCONCLUSIVE = "SUPPORTED", "REFUTED", "INCONCLUSIVE"
ALPHA = 0.05
Method = Literal["t", "sign_flip", "sequential"]


def p_values(kind: str, differences: ArrayLike, margin: float, method: Method = "t") -> tuple[np.ndarray, np.ndarray]:
    """Return the p-values (to support, to refute) of studies (..., n) of turned differences; `margin` in their unit.

    Each has shape (...); needs n >= 2 and differences that vary.
    """
    data = np.asarray(differences, dtype=float)
    if kind == "equivalent":
        inside = np.maximum(_one_sided(margin - data, method), _one_sided(data + margin, method))
        return inside, _outside(data, margin, method)
    above, below = _one_sided(data - margin, method), _one_sided(margin - data, method)
    return (below, above) if kind == "not_better" else (above, below)


def words(support: ArrayLike, refute: ArrayLike, alpha: float = ALPHA) -> np.ndarray:
    """Return the word of each pair of (adjusted) p-values; at most one of the two is below `alpha` < 0.5."""
    return np.where(np.asarray(support) < alpha, SUPPORTED, np.where(np.asarray(refute) < alpha, REFUTED, INCONCLUSIVE))


def least_p(method: Method, n: int) -> float:
    """Return the smallest p-value that n differences could give: above 5 %, no verdict is possible at all."""
    if method == "t":
        return 0.0
    if method == "sign_flip":
        return 0.5**n
    return 1.0 if n < FIRST else level_of(math.exp(float(score(LARGEST_T, n))))


def _outside(data: np.ndarray, margin: float, method: Method) -> np.ndarray:
    """Return the p-value of |d| > margin."""
    if method == "t":
        mean, error = np.abs(data.mean(axis=-1)), _error(data)
        free = data.shape[-1] - 1
        both = stats.t.sf((mean - margin) / error, free) + stats.t.sf((mean + margin) / error, free)
    else:
        both = 2 * np.minimum(_one_sided(data - margin, method), _one_sided(-data - margin, method))
    return np.minimum(1.0, both)


def _one_sided(data: np.ndarray, method: Method) -> np.ndarray:
    """Return the p-value of mean > 0."""
    if method == "sign_flip":
        return np.apply_along_axis(sign_flip, -1, data, 0.0, "greater")
    n = data.shape[-1]
    t = data.mean(axis=-1) / _error(data)
    if method == "t":
        return np.asarray(stats.t.sf(t, n - 1))
    if n < FIRST:
        return np.ones(data.shape[:-1])
    return np.vectorize(level_of, otypes=[float])(np.exp(score(t, n)))


def _error(data: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean, never quite 0."""
    return np.maximum(data.std(axis=-1, ddof=1) / math.sqrt(data.shape[-1]), np.finfo(float).tiny)
