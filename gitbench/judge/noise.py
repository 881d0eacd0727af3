"""The noise floor: how far apart replicates of one and the same arm are, and what the judge makes of that (A/A).

Measured once per profile and data by `gitbench noise-floor`, and kept beside the studies (`Study.noise_floors`):

* the standard deviation between replicates of the base arm, per metric, with its 95 % chi-square interval;
* the minimum detectable effect (MDE): the true difference that the judge finds with 80 % power
  at the profile's number of seeds. Its spread is sqrt(2) times the A/A standard deviation (two arms, pairing of no
  help), and beside it that of the paired differences themselves, for every pair of real arms there is;
* the judge's false-positive rate (`gitbench.judge.aa`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from gitbench.judge.power import POWER, power_above

NOISE_ABLATION = "noise_floor"  # the name of the study that the A/A runs form; it has no claim and no second arm


@dataclass(frozen=True, kw_only=True)
class PairSpread:
    """Two real arms, paired by replicate: the sd of their differences (metric's unit) and the MDE that it gives."""

    study: str
    treatment: str
    reference: str
    sd: float
    n: int
    mde: float  # at the seeds of the noise floor


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """The noise of one metric in one profile on one data set; values in the metric's unit, rates as fractions."""

    metric: str
    sd: float  # between replicates of the base arm
    sd_low: float  # its 95 % chi-square interval
    sd_high: float
    n: int  # replicates measured
    seeds: int  # of a comparison: the profile's number
    mde: float  # at `seeds`, from the A/A sd: two arms, pairing of no help
    false_positive_rate: float | None  # SUPPORTED "better" among the splits that were judged; None: none was
    judged: int  # how many were: some hundred of those scores that a claim may be about
    better_rate: float  # of all splits, those that the judge's tests find better (no yardstick asked)
    different_rate: float  # of all splits, those that they find different
    splits: int
    mean: float
    values: tuple[float, ...]
    signature: str | None = None
    pairs: tuple[PairSpread, ...] = ()
    note: str | None = None  # why the judge would not judge, where it would not

    def mde_at(self, n: int) -> float:
        """Return the MDE of a comparison with `n` seeds an arm; infinite below 2."""
        return minimum_detectable(math.sqrt(2) * self.sd, n)


def detectable(
    difference: float, metric: str, floors: Mapping[str, NoiseFloor] | None, n: int, paired_sd: float | None
) -> bool:
    """Say whether a difference of two arms with `n` seeds reaches the minimum detectable effect, so may be bold.

    It must reach the one that the A/A sd of `floors` gives, where that was measured, and the one of `paired_sd`, the
    spread of the very differences by replicate: a spread of few pairs is small by luck as often as by pairing.
    """
    if difference == 0 or not math.isfinite(difference):
        return False
    floor = (floors or {}).get(metric)
    needed = [] if floor is None else [floor.mde_at(n)]
    if paired_sd is not None:
        needed.append(minimum_detectable(paired_sd, n))
    return abs(difference) >= max(needed, default=0.0)


def minimum_detectable(sd: float, n: int) -> float:
    """Return the true difference that the judge finds with 80 % power on `n` pairs of spread `sd`."""
    if n < 2:
        return math.inf
    if sd == 0:
        return 0.0
    return float(optimize.brentq(lambda effect: power_above(effect, 1.0, n) - POWER, 0.0, 60.0)) * sd


def sd_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return (sd, low, high) of at least 2 replicate values, a 95 % interval by the chi-square distribution."""
    n, sd = len(values), float(np.std(values, ddof=1))
    low, high = (sd * math.sqrt((n - 1) / float(stats.chi2.ppf(0.5 + side * 0.95 / 2, n - 1))) for side in (1, -1))
    return sd, low, high
