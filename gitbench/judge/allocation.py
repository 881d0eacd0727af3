"""Which arms get the next seeds of a study that runs until its claims are decided: a choice by power.

An open claim is worth the power that a look at n pairs would have, if difference and spread are as found, for the seconds
that its missing replicates cost; the best n counts. The claim that is worth most gets one replicate of its arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gitbench.judge.power import power_to_decide
from gitbench.judge.sequential import nominal_level
from gitbench.judge.statistics import ALPHA
from gitbench.judge.verdict import Verdict
from gitbench.scores import orientation

AHEAD = 20  # replicates that the choice looks ahead


def next_seeds(
    verdicts: Sequence[Verdict], seeds: Mapping[str, int], seconds: Mapping[str, float], most: int, at_once: int
) -> dict[str, int]:
    """Return the seeds of every arm after the next batch: at least one replicate of the best claim, and one run a slot.

    `verdicts` are the open ones, `seconds` those of one run of each arm, `at_once` the number of slots. The same seeds
    come back where no claim may get any more.
    """
    grown, alpha = dict(seeds), ALPHA / max(1, len(verdicts))
    while sum(grown.values()) - sum(seeds.values()) < at_once:
        values = [(power_per_second(verdict, grown, seconds, most, alpha), verdict) for verdict in verdicts]
        possible = [(value, verdict) for value, verdict in values if value is not None]
        if not possible:
            break
        _, best = max(possible, key=lambda each: each[0])  # the first of equals, as the ablation lists them
        pairs = min(grown[arm] for arm in best.claim.arms)
        for arm in best.claim.arms:
            grown[arm] = max(grown[arm], pairs + 1)
    return grown


def power_per_second(
    verdict: Verdict, seeds: Mapping[str, int], seconds: Mapping[str, float], most: int, alpha: float = ALPHA
) -> float | None:
    """Return the best ratio, over the next seeds, of the power to decide a claim to the seconds these cost.

    Arms that are ahead already cost nothing. None: no seed may be added.
    """
    arms = verdict.claim.arms
    pairs = min(seeds[arm] for arm in arms)
    found = []
    for n in range(pairs + 1, min(pairs + AHEAD, most) + 1):
        cost = sum(max(0, n - seeds[arm]) * seconds[arm] for arm in arms)
        found.append(power_of_look(verdict, n, alpha) / max(cost, 1e-9))
    return max(found, default=None)


def power_of_look(verdict: Verdict, n: int, alpha: float = ALPHA) -> float:
    """Return the probability that a look at `n` pairs decides a claim, if its difference and spread are as found."""
    level = nominal_level(n, alpha)
    if verdict.difference is None or verdict.margin is None or len(verdict.differences) < 2 or level == 0.0:
        return 0.0
    mean, spread = verdict.difference * orientation(verdict.claim), float(np.std(verdict.differences, ddof=1))
    return power_to_decide(verdict.claim.kind, mean, verdict.margin, spread, n, level)
