"""What would decide a claim that stays open: the power of a number of seeds, how many are lacking, which come next.

Everything is as if the mean and the spread of the differences were as found, at the level that Holm's correction leaves
to the claim. Means and margins are those of the turned differences (`gitbench.judge.effects`), in the metric's unit.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from gitbench.judge.statistics import SIDE, median_factor, multiplier
from gitbench.judge.verdict import Step, Verdict
from gitbench.metric_info import orientation

POWER = 0.8
MOST_SEEDS = 1000  # beyond this many replicates nobody runs them: the answer is "more than 1000"
QUANTILES = (np.arange(400) + 0.5) / 400  # of the observed spread, over which power is integrated
AHEAD = 20  # replicates that the choice of the next seeds looks ahead


def power_above(
    effect: float, sd: float, n: int, side: float = SIDE, images: float = 0.0, *, sequential: bool = False
) -> float:
    """Return the power to show that a quantity is above 0 that truly is `effect`, with spread `sd` over seeds.

    `images` is the standard error due to the choice of test images. Integrated over the chi distribution of the observed
    sd; the median must pass as well as the mean, so its own, larger error counts
    (of an even n that of n + 1, so that power grows with n).
    """
    if n < 2:
        return 0.0
    if sd == 0 and images == 0:
        return float(effect > 0)
    factor = multiplier(n, side, sequential=sequential)
    if math.isinf(factor):
        return 0.0
    seen = sd * np.sqrt(stats.chi2.ppf(QUANTILES, n - 1) / (n - 1) / n)
    needed = np.hypot(median_factor(n | 1) * factor * seen, float(stats.norm.isf(side)) * images)
    true = math.hypot(median_factor(n | 1) * sd / math.sqrt(n), images)
    return float(stats.norm.sf((needed - effect) / true).mean())


def power_to_decide(verdict: Verdict, n: int, side: float = SIDE) -> float:
    """Return the probability that `n` pairs give a claim the word that it is heading for; 0 where it cannot be tested.

    Of a study that was looked at, it is that of a look at `n` pairs.
    """
    if verdict.margin is None or len(verdict.differences) < 2 or verdict.difference is None:
        return 0.0
    sign, margin = orientation(verdict.claim), verdict.margin
    own = float(np.std(verdict.differences, ddof=1))
    centres = [sign * verdict.difference, sign * (verdict.difference if verdict.typical is None else verdict.typical)]
    images, share = 0.0, verdict.image_share or 0.0
    if 0 < share < 1:
        images = verdict.raised * own * math.sqrt(share / (1 - share) / len(verdict.differences))

    def power(distance: float) -> float:
        return power_above(distance, verdict.raised * own, n, side, images, sequential=verdict.sequential)

    def whole(centre: float) -> float:
        if verdict.claim.kind == "equivalent" and supports:
            return max(0.0, power(margin - centre) + power(margin + centre) - 1)
        if verdict.claim.kind == "equivalent":
            return power(abs(centre) - margin)
        return power((centre - margin) * (1 if supports != (verdict.claim.kind == "not_better") else -1))

    supports = heads_to_support(verdict)
    found = min(map(whole, centres))  # mean and typical seed must both get there
    if supports and verdict.steps:  # and every step of a trend, whose interval tells its error
        return min(found, *(_step_power(verdict, step, n, side) for step in verdict.steps))
    return found


def _step_power(verdict: Verdict, step: Step, n: int, side: float) -> float:
    """Return the power to show that a step of a trend goes its way."""
    factor = multiplier(verdict.n, sequential=verdict.sequential)
    if step.interval is None or math.isinf(factor):
        return 0.0
    sd = (step.interval[1] - step.interval[0]) / 2 / factor * math.sqrt(verdict.n)
    effect = orientation(verdict.claim) * step.difference
    return power_above(effect, sd, n, side, sequential=verdict.sequential)


def heads_to_support(verdict: Verdict) -> bool:
    """Say which word further seeds would bring, if the mean is as found: SUPPORTED (or else REFUTED)."""
    sign, margin = orientation(verdict.claim), verdict.margin or 0.0
    mean = sign * (verdict.difference or 0.0)
    if verdict.claim.kind == "equivalent":
        return abs(mean) < margin
    if verdict.claim.kind == "not_better":
        return mean < margin
    return mean > margin and all(sign * step.difference > 0 for step in verdict.steps)


def smallest_n(power: Callable[[int], float]) -> int | None:
    """Return the fewest replicates at which `power(n)`, which grows with n, reaches 80 %; None: above `MOST_SEEDS`."""
    high = 2
    while power(high) < POWER:
        if high >= MOST_SEEDS:
            return None
        high = min(2 * high, MOST_SEEDS)
    return bisect.bisect_left(range(high), POWER, lo=high // 2 + 1, key=power)


def further_seeds(verdict: Verdict, claims: int = 1) -> int | None:
    """Return how many replicates beyond those of a verdict would decide with 80 % power; None: over 1000.

    `claims` is the number of open ones in the ablation.
    """
    needed = smallest_n(lambda n: power_to_decide(verdict, n, SIDE / claims))
    return None if needed is None or needed - verdict.n > MOST_SEEDS else max(1, needed - verdict.n)


def seconds_per_seed(frame: pd.DataFrame, arms: Sequence[str]) -> float | None:
    """Return the seconds that one more replicate of `arms` takes: their runs' mean times, as many at once as their machine runs.

    The label of a machine says how many: "cpu4" runs four at a time. None where an arm has no finished run.
    """
    own = frame[(frame["metric"] == "seconds") & frame["arm"].isin(arms) & ~frame["overridden"]]
    if set(own["arm"]) < set(arms):
        return None
    found = [re.fullmatch(r"cpu(\d+)", str(machine)) for machine in own["machine"].unique()]
    at_once = max((int(each[1]) for each in found if each), default=1)
    return float(own.groupby("arm")["value"].mean().sum()) / max(1, at_once)


# ---- the next seeds of a study that runs until its claims are decided ------------------------------------------------


def next_seeds(
    verdicts: Sequence[Verdict], seeds: Mapping[str, int], seconds: Mapping[str, float], most: int, at_once: int
) -> dict[str, int]:
    """Return the seeds of every arm after the next batch: at least one replicate of the best claim, and one run a slot.

    `verdicts` are the open ones, `seconds` those of one run of each arm, `at_once` the number of slots. The same seeds
    come back where no claim may get any more.
    """
    grown, side = dict(seeds), SIDE / max(1, len(verdicts))
    while sum(grown.values()) - sum(seeds.values()) < at_once:
        worth = [power_per_second(verdict, grown, seconds, most, side) for verdict in verdicts]
        if max(worth, default=-1.0) < 0:
            break
        arms = verdicts[worth.index(max(worth))].arms  # the first of equals, as the ablation lists them
        pairs = min(grown[arm] for arm in arms)
        for arm in arms:
            grown[arm] = max(grown[arm], pairs + 1)
    return grown


def power_per_second(
    verdict: Verdict, seeds: Mapping[str, int], seconds: Mapping[str, float], most: int, side: float = SIDE
) -> float:
    """Return the best ratio, over the next seeds, of the power to decide a claim to the seconds these cost.

    Arms that are ahead already cost nothing. -1: no seed may be added.
    """
    arms = verdict.arms
    pairs = min(seeds[arm] for arm in arms)
    found = []
    for n in range(pairs + 1, min(pairs + AHEAD, most) + 1):
        cost = sum(max(0, n - seeds[arm]) * seconds[arm] for arm in arms)
        found.append(power_to_decide(verdict, n, side) / max(cost, 1e-9))
    return max(found, default=-1.0)
