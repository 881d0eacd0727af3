"""What one claim rests on, gathered from the frame before anything is tested: its runs, its numbers, or why there are none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from gitbench.judge.compare import PairedDifference
from gitbench.judge.power import seconds_per_seed
from gitbench.judge.preconditions import margin_of, scale_problem
from gitbench.judge.rules import ALPHA, Method, p_values
from gitbench.judge.sample import sample
from gitbench.judge.sequential import finite_bounds
from gitbench.scores import level_text, orientation
from gitbench.spec import Claim
from gitbench.study.records import Study

NOT_TESTABLE, INCOMPLETE = "NOT TESTABLE AT THIS SCALE", "INCOMPLETE"
ALONE = 0.01  # level of the F test by which one arm varies more than all others


@dataclass(frozen=True, kw_only=True)
class Case:
    """A claim on its way: what a verdict will say of it, and its numbers where it can be tested."""

    claim: Claim
    basis: Mapping[str, Any]
    notes: list[str]
    word: str = ""  # INCOMPLETE or NOT_TESTABLE, with the reason
    reason: str = ""
    pair: PairedDifference | None = None  # where the claim can be tested
    margin: float | None = None
    method: Method = "t"
    seconds: float | None = None  # of one more replicate

    @property
    def turned(self) -> np.ndarray:
        """The differences by replicate, turned so that more is what is claimed."""
        assert self.pair is not None
        return orientation(self.claim) * np.array(self.pair.differences)

    def p_values(self) -> tuple[float, float] | None:
        """Return p to support and p to refute; None where it cannot be tested."""
        if self.pair is None or self.margin is None:
            return None
        support, refute = p_values(self.claim.kind, self.turned, self.margin, self.method)
        return float(support), float(refute)


def gather_case(
    study: Study, claim: Claim, frame: pd.DataFrame, yardstick_kind: str | None, looks: int, at_once: int | None
) -> Case:
    """Gather what a claim rests on: its numbers by replicate, or why there are none that could be tested."""
    treatment, reference = _labels(study, claim)
    basis: dict[str, Any] = {"claim": claim, "sequential": looks > 0, "looks": looks}
    basis |= {"treatment": treatment, "reference": reference}
    rows = frame[(frame["metric"] == claim.metric) & np.isfinite(frame["value"])]
    counted = rows[~rows["overridden"]]
    notes = _exclusions(rows)
    values = {arm: _by_replicate(counted[counted["arm"] == arm]) for arm in claim.arms}
    floors, (floor, ceiling) = counted[counted["role"] == "floor"], _yardsticks(counted)
    if missing := _missing(study, claim, rows):
        return Case(claim=claim, basis=basis, notes=notes, word=INCOMPLETE, reason=missing)
    pair = sample(claim, values, _by_replicate(floors), ceiling)
    if pair is None:
        word, reason = _no_sample(claim, values)
        return Case(claim=claim, basis=basis, notes=notes, word=word, reason=reason)
    arms = counted[counted["arm"].isin(values)]
    if (count := arms["signature"].nunique(dropna=False)) > 1:
        reason = f"the runs carry {count} different signatures of {claim.metric}, which cannot be compared: run again"
        return Case(claim=claim, basis=basis, notes=notes, word=INCOMPLETE, reason=reason)
    if arms["machine"].nunique() > 1:
        kinds = ", ".join(sorted(arms["machine"].dropna().unique()))
        notes.append(f"runs come from different kinds of machine ({kinds})")
    if skew := skew_note(claim, pair, values):
        notes.append(skew)
    if looks and claim.test == "sign_flip":
        notes.append("the exact test does not hold under looking: the sequential test decides")
    basis |= {
        "treatment_mean": float(np.mean(pair.treatment)),
        "reference_mean": float(np.mean(pair.reference)),
        "difference": pair.interval.mean,
        "differences": pair.differences,
        "bounds": finite_bounds(pair.differences) if looks else pair.bounds,
        "n": len(pair.replicates),
        "floor": floor,
        "ceiling": ceiling,
        "interval": None if pair.interval.low is None else (pair.interval.low, pair.interval.high),
    }
    if looks:
        basis["interval"] = finite_bounds(pair.differences, ALPHA / 2)
    margin = margin_of(claim, floor, ceiling)
    means = tuple(float(series.mean()) for series in values.values())
    limit = ceiling if yardstick_kind != "leave-one-out" else None
    if problem := scale_problem(claim, pair, means, floor, limit, margin):
        return Case(claim=claim, basis=basis, notes=notes, word=NOT_TESTABLE, reason=problem, margin=margin)
    return Case(
        claim=claim,
        basis=basis,
        notes=notes,
        pair=pair,
        margin=margin,
        method="sequential" if looks else claim.test,
        seconds=seconds_per_seed(frame, claim.arms, at_once),
    )


def skew_note(claim: Claim, pair: PairedDifference, values: Mapping[str, pd.Series]) -> str | None:
    """Say where noise of one arm alone is tested, which does not cancel if it is skewed; None where arms share theirs.

    Differences of two arms with noise of one shape are symmetric whatever the shape, and the tests keep their 5 %. Of one
    arm alone, or of one that varies far more than the others, they are as skewed as it is.
    """
    if len(pair.replicates) < 3:
        return None
    limit = "then a word can be wrong in up to 17 % of studies instead of 5 % (docs/judge.md): look at its seeds"
    spreads = sorted((float(each.loc[list(pair.replicates)].std()), arm) for arm, each in values.items())
    if claim.kind == "threshold":
        return f"it rests on the noise of one arm, {claim.treatment}, which nothing cancels if it is skewed; {limit}"
    free = len(pair.replicates) - 1
    if len(spreads) > 1 and spreads[-1][0] ** 2 > stats.f.isf(ALONE, free, free) * spreads[-2][0] ** 2:
        times = f"{spreads[-1][0] / spreads[-2][0]:.0f} times as much as any other" if spreads[-2][0] else "alone"
        return f"arm {spreads[-1][1]} varies {times}, so its noise is not cancelled if it is skewed; {limit}"
    return None


def _yardsticks(counted: pd.DataFrame) -> tuple[float | None, float | None]:
    """Return floor (mean over its replicates) and ceiling for the metric of `counted`."""
    found = [counted.loc[counted["role"] == role, "value"] for role in ("floor", "ceiling")]
    return tuple(float(values.mean()) if len(values) else None for values in found)  # type: ignore[return-value]


def _labels(study: Study, claim: Claim) -> tuple[str, str]:
    """Return what the two sides are, for people: labels of arms, of steps between arms, or a level."""

    def side(arm: str, start: str | None) -> str:
        label = study.arm(arm).label
        return label if start is None else f"{study.arm(start).label} to {label}"

    if claim.kind == "threshold":
        assert claim.level is not None
        return side(claim.treatment, None), level_text(claim)
    return side(claim.treatment, claim.treatment_from), side(claim.reference, claim.reference_from)


def _no_sample(claim: Claim, values: Mapping[str, pd.Series]) -> tuple[str, str]:
    """Return word and reason where no replicate has all that the claim needs, though no run is missing."""
    if claim.kind == "threshold" and len(values[claim.treatment]):
        return NOT_TESTABLE, "the level is a share of the floor-to-ceiling range, and that range is unknown"
    return INCOMPLETE, "no run counts: all were changed by --cfg-options"


def _by_replicate(rows: pd.DataFrame) -> pd.Series:
    return pd.Series(rows["value"].to_numpy(dtype=float), index=[int(each) for each in rows["replicate"]])


def _missing(study: Study, claim: Claim, rows: pd.DataFrame) -> str | None:
    """Say how many of the runs that this claim rests on have no value yet; None when all are there."""
    needed = set(claim.arms) | {arm.name for arm in study.arms if arm.role == "floor"}
    planned = {(run.arm, run.replicate) for run in study.runs if run.arm in needed}
    own = rows[rows["arm"].isin(needed)]
    done = set(zip(own["arm"], own["replicate"].astype(int), strict=True))
    left = planned - done
    if not planned or not left:
        return None
    return f"{len(left)} of {len(planned)} runs that this claim rests on have no {claim.metric} yet ({_names(left)})"


def _names(runs: Iterable[tuple[str, int]]) -> str:
    listed = [f"{arm} #{replicate}" for arm, replicate in sorted(runs)]
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


def _exclusions(rows: pd.DataFrame) -> list[str]:
    overridden = rows[rows["overridden"]]
    if overridden.empty:
        return []
    return [f"{len(overridden)} run(s) changed by --cfg-options are left out of this verdict"]
