"""What would decide a claim that stays open: the power of a number of seeds, how many are lacking, which come next.

Everything is as if the mean and the spread of the differences were as found, at the level that Holm's correction leaves
to the claim. Means and margins are those of the turned differences (`gitbench.judge.statistics`), in the metric's unit.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from gitbench.judge.sequential import nominal_level
from gitbench.judge.statistics import ALPHA
from gitbench.judge.verdict import Verdict
from gitbench.metric_info import orientation

POWER = 0.8
MOST_SEEDS = 1000  # beyond this many replicates nobody runs them: the answer is "more than 1000"
AHEAD = 20  # replicates that the choice of the next seeds looks ahead


def power_one_sided(effect: float, sd: float, n: int, alpha: float = ALPHA) -> float:
    """Return the power of a one-sided paired t-test to find a distance `effect` >= 0 from its margin."""
    if n < 2:
        return 0.0
    if sd == 0:
        return float(effect > 0)
    shift = min(effect / sd * np.sqrt(n), 35.0)  # beyond this the power is 1 and scipy's tail function fails
    return float(stats.nct.sf(stats.t.ppf(1 - alpha, n - 1), n - 1, shift))


def power_tost(difference: float, margin: float, sd: float, n: int, alpha: float = ALPHA) -> float:
    """Return the power of two one-sided tests at a true `difference`: integrated over the chi distribution of the sd."""
    if n < 2:
        return 0.0
    quantiles = (np.arange(400) + 0.5) / 400
    sample_se = sd * np.sqrt(stats.chi2.ppf(quantiles, n - 1) / (n - 1)) / np.sqrt(n)
    slack = margin - stats.t.ppf(1 - alpha, n - 1) * sample_se  # both tests reject when |mean| < slack
    true_se = sd / np.sqrt(n)
    inside = stats.norm.cdf((slack - difference) / true_se) - stats.norm.cdf((-slack - difference) / true_se)
    return float(np.where(slack > 0, inside, 0.0).mean())


def power_to_decide(verdict: Verdict, n: int, alpha: float = ALPHA) -> float:
    """Return the probability that `n` pairs give a claim the word that it is heading for; 0 where it cannot be tested.

    Of a study that was looked at, it is that of a look at `n` pairs.
    """
    if verdict.margin is None or len(verdict.differences) < 2:
        return 0.0
    level = nominal_level(n, alpha) if verdict.sequential else alpha
    if level == 0.0:
        return 0.0
    turned, margin = orientation(verdict.claim) * np.array(verdict.differences), verdict.margin
    mean, sd = float(turned.mean()), float(np.std(turned, ddof=1))
    if verdict.claim.kind != "equivalent":
        return power_one_sided(abs(mean - margin), sd, n, level)
    if abs(mean) < margin:
        return power_tost(mean, margin, sd, n, level)
    return power_one_sided(abs(mean) - margin, sd, n, level)


def heads_to_support(kind: str, mean: float, margin: float) -> bool:
    """Say which word further seeds would bring, if the mean is as found: SUPPORTED (or else REFUTED)."""
    if kind == "equivalent":
        return abs(mean) < margin
    return mean < margin if kind == "not_better" else mean > margin


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
    needed = smallest_n(lambda n: power_to_decide(verdict, n, ALPHA / claims))
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
    grown, alpha = dict(seeds), ALPHA / max(1, len(verdicts))
    while sum(grown.values()) - sum(seeds.values()) < at_once:
        worth = [power_per_second(verdict, grown, seconds, most, alpha) for verdict in verdicts]
        if max(worth, default=-1.0) < 0:
            break
        arms = verdicts[worth.index(max(worth))].claim.arms  # the first of equals, as the ablation lists them
        pairs = min(grown[arm] for arm in arms)
        for arm in arms:
            grown[arm] = max(grown[arm], pairs + 1)
    return grown


def power_per_second(
    verdict: Verdict, seeds: Mapping[str, int], seconds: Mapping[str, float], most: int, alpha: float = ALPHA
) -> float:
    """Return the best ratio, over the next seeds, of the power to decide a claim to the seconds these cost.

    Arms that are ahead already cost nothing. -1: no seed may be added.
    """
    arms = verdict.claim.arms
    pairs = min(seeds[arm] for arm in arms)
    found = []
    for n in range(pairs + 1, min(pairs + AHEAD, most) + 1):
        cost = sum(max(0, n - seeds[arm]) * seconds[arm] for arm in arms)
        found.append(power_to_decide(verdict, n, alpha) / max(cost, 1e-9))
    return max(found, default=-1.0)
