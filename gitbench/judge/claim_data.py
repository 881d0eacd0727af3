"""What one claim rests on, gathered from the frame before anything is tested: its runs, its numbers, or why there are none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from gitbench.judge.power import seconds_per_seed
from gitbench.judge.preconditions import margin_of, scale_problem
from gitbench.judge.sample import by_replicate, sample
from gitbench.judge.sequential import sequential_bounds
from gitbench.judge.statistics import ALPHA, PairedDifference
from gitbench.judge.verdict import INCOMPLETE, NOT_TESTABLE, Verdict
from gitbench.scores import orientation
from gitbench.spec import Claim, Plan

ALONE = 0.01  # level of the F test by which one arm varies more than all others


@dataclass(frozen=True, kw_only=True)
class ClaimData:
    """A claim before its test: the verdict as far as the runs alone say it, and the numbers to be tested.

    Where the claim cannot be tested, `verdict` is whole (INCOMPLETE or NOT TESTABLE) and `turned` is None.
    """

    verdict: Verdict
    turned: np.ndarray | None = None  # differences by replicate, turned so that more is what is claimed
    seconds: float | None = None  # of one more replicate


def gather_claim_data(plan: Plan, claim: Claim, frame: pd.DataFrame, ceiling_kind: str | None, looks: int) -> ClaimData:
    """Gather what a claim rests on: its numbers by replicate, or why there are none that could be tested."""
    rows = frame[(frame["metric"] == claim.metric) & np.isfinite(frame["value"])]
    counted = rows[~rows["overridden"]]
    verdict = Verdict(
        claim=claim,
        word="",
        reason="",
        treatment=_label(plan, claim.treatment, claim.treatment_from),
        reference=_label(plan, claim.reference, claim.reference_from),
        notes=_excluded(rows),
        sequential=looks > 0,
        looks=looks,
    )
    if missing := _missing(plan, claim, rows):
        return _untestable(verdict, INCOMPLETE, missing)
    values = {arm: by_replicate(counted[counted["arm"] == arm]) for arm in claim.arms}
    pair = sample(claim, values)
    if pair is None:
        return _untestable(verdict, INCOMPLETE, "no run counts: all were changed by --cfg-options")
    own = counted[counted["arm"].isin(values)]
    if (count := own["signature"].nunique(dropna=False)) > 1:
        reason = f"the runs carry {count} different signatures of {claim.metric}, which cannot be compared: run again"
        return _untestable(verdict, INCOMPLETE, reason)
    floor, ceiling = (_mean(counted[counted["role"] == role]) for role in ("floor", "ceiling"))
    margin = margin_of(claim, floor, ceiling)
    verdict = dataclasses.replace(
        _measured(verdict, pair),
        floor=floor,
        ceiling=ceiling,
        margin=margin,
        notes=(*verdict.notes, *_machines(own), *_skewed(pair, values)),
    )
    means = [float(series.mean()) for series in values.values()]
    if problem := scale_problem(
        claim, pair, means, floor, ceiling if ceiling_kind != "leave-one-out" else None, margin
    ):
        return _untestable(verdict, NOT_TESTABLE, problem)
    turned = orientation(claim) * np.array(pair.differences)
    return ClaimData(verdict=verdict, turned=turned, seconds=seconds_per_seed(frame, claim.arms))


def _untestable(verdict: Verdict, word: str, reason: str) -> ClaimData:
    return ClaimData(verdict=dataclasses.replace(verdict, word=word, reason=reason))


def _measured(verdict: Verdict, pair: PairedDifference) -> Verdict:
    """Add the difference with its interval and bounds; those of a study under interim looks are wider."""
    found = pair.interval
    interval = None if found.low is None or found.high is None else (found.low, found.high)
    looked = verdict.sequential
    return dataclasses.replace(
        verdict,
        treatment_mean=float(np.mean(pair.treatment)),
        reference_mean=float(np.mean(pair.reference)),
        difference=found.mean,
        differences=pair.differences,
        interval=sequential_bounds(pair.differences, ALPHA / 2) if looked else interval,
        bounds=sequential_bounds(pair.differences, ALPHA) if looked else pair.bounds,
        n=found.n,
    )


def _label(plan: Plan, arm: str, start: str | None) -> str:
    """Return what one side of a claim is, for people: the label of an arm, or of a step between two."""
    label = plan.arm(arm).label
    return label if start is None else f"{plan.arm(start).label} to {label}"


def _mean(rows: pd.DataFrame) -> float | None:
    return float(rows["value"].mean()) if len(rows) else None


def _missing(plan: Plan, claim: Claim, rows: pd.DataFrame) -> str | None:
    """Say how many of the runs that this claim rests on have no value yet; None when all are there."""
    needed = set(claim.arms) | {arm.name for arm in plan.arms if arm.role == "floor"}
    planned = {(run.arm, run.replicate) for run in plan.runs if run.arm in needed}
    own = rows[rows["arm"].isin(needed)]
    left = planned - set(zip(own["arm"], own["replicate"].astype(int), strict=True))
    if not left:
        return None
    return f"{len(left)} of {len(planned)} runs that this claim rests on have no {claim.metric} yet ({_names(left)})"


def _names(runs: Iterable[tuple[str, int]]) -> str:
    listed = [f"{arm} #{replicate}" for arm, replicate in sorted(runs)]
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


# ---- notes: each a tuple of no or one sentence ----------------------------------------------------------------------


def _excluded(rows: pd.DataFrame) -> tuple[str, ...]:
    count = int(rows["overridden"].sum())
    return (f"{count} run(s) changed by --cfg-options are left out of this verdict",) if count else ()


def _machines(rows: pd.DataFrame) -> tuple[str, ...]:
    kinds = sorted(rows["machine"].dropna().unique())
    return (f"runs come from different kinds of machine ({', '.join(kinds)})",) if len(kinds) > 1 else ()


def _skewed(pair: PairedDifference, values: Mapping[str, pd.Series]) -> tuple[str, ...]:
    """Note where one arm varies far more than the others: if its noise is skewed, so are the differences.

    Differences of two arms with noise of one shape are symmetric whatever the shape, and the tests keep their 5 %.
    """
    if len(pair.replicates) < 3:
        return ()
    spreads = sorted((float(each.loc[list(pair.replicates)].std()), arm) for arm, each in values.items())
    free = len(pair.replicates) - 1
    if len(spreads) < 2 or spreads[-1][0] ** 2 <= stats.f.isf(ALONE, free, free) * spreads[-2][0] ** 2:
        return ()
    times = f"{spreads[-1][0] / spreads[-2][0]:.0f} times as much as any other" if spreads[-2][0] else "alone"
    return (
        f"arm {spreads[-1][1]} varies {times}, so its noise is not cancelled if it is skewed; then a word can be wrong in "
        "up to 17 % of studies instead of 5 % (docs/judge.md): look at its seeds",
    )
