"""Which arms get the next seeds of a study that runs until its claims are decided: a choice by power curves.

An open claim is worth the power that a look at n pairs would have, if difference and spread are as seen, for the seconds
that its missing replicates cost; the best n counts. The claim that is worth most gets one replicate of its arms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gitbench.judge.claims import ALPHA, Verdict
from gitbench.judge.compare import power_one_sided, power_tost
from gitbench.judge.sequential import nominal_level
from gitbench.scores import orientation
from gitbench.spec import Claim
from gitbench.study.plan import BLIND, Plan
from gitbench.study.store import completed_record

AHEAD = 20  # replicates that the choice looks ahead


def seconds_by_arm(full: Plan) -> dict[str, float]:
    """Return the mean seconds of a run of each arm: of its finished ones, else of all, else the profile's first guess."""
    known: dict[str, list[float]] = {run.arm.name: [] for run in full.runs}
    for run in full.runs:
        record = completed_record(run.folder)
        if record is not None:
            known[run.arm.name].append(record["cost"]["seconds"])
    everything = [seconds for arm in known.values() for seconds in arm]
    fallback = sum(everything) / len(everything) if everything else full.profile.run_seconds
    return {arm: sum(seconds) / len(seconds) if seconds else fallback for arm, seconds in known.items()}


def next_seeds(
    verdicts: Sequence[Verdict], seeds: Mapping[str, int], seconds: Mapping[str, float], most: int, at_once: int
) -> dict[str, int]:
    """Return the seeds of every arm after the next batch: at least one replicate of the best claim, and one run a slot.

    `verdicts` are the open ones. The same seeds come back where no claim may get any more.
    """
    grown, alpha = dict(seeds), ALPHA / max(1, len(verdicts))
    while sum(grown.values()) - sum(seeds.values()) < at_once:
        values = [(chance_per_second(verdict, grown, seconds, most, alpha), verdict) for verdict in verdicts]
        possible = [(value, verdict) for value, verdict in values if value is not None]
        if not possible:
            break
        _, best = max(possible, key=lambda each: each[0])  # the first of equals, as the ablation lists them
        arms = arms_of(best.claim)
        pairs = min(grown[arm] for arm in arms)
        for arm in arms:
            grown[arm] = max(grown[arm], pairs + 1)
    return grown


def arms_of(claim: Claim) -> tuple[str, ...]:
    """Return the arms that a further pair of a claim needs: its own, and the floor where its level is measured from it."""
    if claim.kind == "threshold" and claim.level_unit == "range":
        return (*claim.arms, BLIND.name)
    return claim.arms


def chance_per_second(
    verdict: Verdict, seeds: Mapping[str, int], seconds: Mapping[str, float], most: int, alpha: float = ALPHA
) -> float | None:
    """Return the best ratio, over the next seeds, of the power to decide a claim to the seconds these cost.

    As if difference and spread were as seen. Arms that are ahead already cost nothing. None: no seed may be added.
    """
    arms = arms_of(verdict.claim)
    pairs = min(seeds[arm] for arm in arms)
    best: float | None = None
    for n in range(pairs + 1, min(pairs + AHEAD, most) + 1):
        cost = sum(max(0, n - seeds[arm]) * seconds[arm] for arm in arms)
        ratio = power_at(verdict, n, alpha) / max(cost, 1e-9)
        best = ratio if best is None else max(best, ratio)
    return best


def power_at(verdict: Verdict, n: int, alpha: float = ALPHA) -> float:
    """Return the probability that a look at `n` pairs decides a claim, if its difference and spread are as seen."""
    claim, level = verdict.claim, nominal_level(n, alpha)
    if verdict.difference is None or verdict.margin is None or len(verdict.differences) < 2 or level == 0.0:
        return 0.0
    mean = verdict.difference * orientation(claim)
    average = sum(verdict.differences) / len(verdict.differences)
    spread = math.sqrt(sum((each - average) ** 2 for each in verdict.differences) / (len(verdict.differences) - 1))
    if claim.kind == "equivalent" and abs(mean) < verdict.margin:
        return power_tost(mean, verdict.margin, spread, n, level)
    distance = abs(mean) - verdict.margin if claim.kind == "equivalent" else abs(mean - verdict.margin)
    return power_one_sided(distance, spread, n, level)
