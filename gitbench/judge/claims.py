"""Judge one claim of the paper on the runs of one study.

Let d be the true mean of treatment - reference, turned so that larger is better, m >= 0 the margin the ablation
stated beforehand, and [L, U] the two one-sided 95 % Student-t bounds of d over paired replicates (L < U).

| kind       | SUPPORTED        | REFUTED             | INCONCLUSIVE |
|------------|------------------|---------------------|--------------|
| better     | L > m            | U < m               | otherwise    |
| not_better | U < m            | L > m               | otherwise    |
| equivalent | -m < L and U < m | L > m or U < -m     | otherwise    |

An "interaction" is judged as "better" is, d being a difference of two gains, replicate by replicate: (treatment -
treatment_from) - (reference - reference_from).

Each SUPPORTED and each REFUTED is a test at 5 %: "not better" is half of an equivalence test, and it is refuted only
when the improvement is credibly above zero *and* credibly at least the margin. A p-value above 0.05 supports nothing.
INCONCLUSIVE comes with the number of further replicates that would decide at 80 % power, if the difference and its
spread are as seen here. Before any of that a claim can fail to be testable: see `_scale_problem`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from gitbench.judge.compare import (
    MOST_SEEDS,
    PairedDifference,
    paired_difference,
    power_one_sided,
    power_tost,
    sign_flip,
    smallest_n,
    smallest_n_sign_flip,
    t_test,
    tost,
)
from gitbench.judge.frame import Study
from gitbench.judge.scores import digits, lower_is_better, signed, unit
from gitbench.spec import Claim

SUPPORTED, REFUTED, INCONCLUSIVE = "SUPPORTED", "REFUTED", "INCONCLUSIVE"
NOT_TESTABLE, INCOMPLETE = "NOT TESTABLE AT THIS SCALE", "INCOMPLETE"

ALPHA = 0.05
POWER = 0.8
MIN_REPLICATES = 3  # two pairs give one degree of freedom: valid on paper, and a t multiplier of 6.3 to 12.7
BEST_OVER_FLOOR = 1.5  # the better arm must reach this multiple of the blind floor (or half the range, if that is less)
EDGE = 0.05  # an arm within this share of the floor-to-ceiling range from either end counts as being at that end


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the runs say about one claim. Differences are treatment - reference in the metric's own unit and sign."""

    claim: Claim
    word: str
    reason: str  # why this word, one clause
    treatment: str  # label of the arm
    reference: str
    treatment_mean: float | None = None
    reference_mean: float | None = None
    difference: float | None = None
    differences: tuple[float, ...] = ()  # by replicate
    interval: tuple[float, float] | None = None  # two-sided 95 %
    bounds: tuple[float, float] | None = None  # one-sided 95 % each; these decide
    margin: float | None = None  # in the metric's unit
    floor: float | None = None
    ceiling: float | None = None
    n: int = 0
    p: float | None = None  # of the test that would support the claim
    p_sign_flip: float | None = None  # exact check of the same hypothesis (one-sided), without normality
    sign_flip_needs: int | None = None  # replicates below which the exact test cannot reach 5 %
    further_seeds: int | None = None  # INCONCLUSIVE only; None there means more than 1000
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values (no NaN)."""
        return asdict(self)


def judge_study(study: Study, frame: pd.DataFrame, yardstick_kind: str | None = None) -> list[Verdict]:
    """Judge every claim of a study; `yardstick_kind` is "grammar" or "leave-one-out"."""
    return [judge_claim(study, claim, frame, yardstick_kind) for claim in study.claims]


def judge_claim(study: Study, claim: Claim, frame: pd.DataFrame, yardstick_kind: str | None = None) -> Verdict:
    """Judge one claim on the finished, un-overridden runs of its study (see the module's table of rules)."""
    basis: dict[str, Any] = {
        "claim": claim,
        "treatment": _side_label(study, claim.treatment, claim.treatment_from),
        "reference": _side_label(study, claim.reference, claim.reference_from),
    }
    rows = frame[(frame["metric"] == claim.metric) & np.isfinite(frame["value"])]
    counted = rows[~rows["overridden"]]
    notes = _exclusions(rows)
    missing = _missing(study, claim, rows)
    values = {arm: _by_replicate(counted, arm) for arm in claim.arms}
    pair = paired_difference(
        _side(values, claim.treatment, claim.treatment_from), _side(values, claim.reference, claim.reference_from)
    )
    if missing or pair is None:
        reason = missing or "no run counts: all were changed by --cfg-options"
        return Verdict(**basis, word=INCOMPLETE, reason=reason, notes=tuple(notes))
    arms = counted[counted["arm"].isin(values)]
    if (count := arms["signature"].nunique(dropna=False)) > 1:
        reason = f"the runs carry {count} different signatures of {claim.metric}, which cannot be compared: run again"
        return Verdict(**basis, word=INCOMPLETE, reason=reason, notes=tuple(notes))
    if arms["machine"].nunique() > 1:
        kinds = ", ".join(sorted(arms["machine"].dropna().unique()))
        notes.append(f"runs come from different kinds of machine ({kinds})")

    floor, ceiling = _yardsticks(study, counted)
    basis |= {
        "treatment_mean": float(np.mean(pair.treatment)),
        "reference_mean": float(np.mean(pair.reference)),
        "difference": pair.interval.mean,
        "differences": pair.differences,
        "bounds": pair.bounds,
        "n": len(pair.replicates),
        "floor": floor,
        "ceiling": ceiling,
        "interval": None if pair.interval.low is None else (pair.interval.low, pair.interval.high),
    }
    margin = _margin(claim, floor, ceiling)
    means = tuple(float(series.mean()) for series in values.values())
    problem = _scale_problem(claim, pair, means, floor, ceiling if yardstick_kind != "leave-one-out" else None, margin)
    if problem:
        return Verdict(**basis, margin=margin, word=NOT_TESTABLE, reason=problem, notes=tuple(notes))
    assert margin is not None
    return decide(basis, claim, pair, margin, notes)


def decide(basis: Mapping[str, Any], claim: Claim, pair: PairedDifference, margin: float, notes: list[str]) -> Verdict:
    """Apply the module's table of rules to a pair that is testable; `margin` is in the metric's unit."""
    sign = -1.0 if lower_is_better(claim.metric) else 1.0
    differences = sign * np.array(pair.differences)
    assert pair.bounds is not None
    low, high = sorted(sign * bound for bound in pair.bounds)
    mean, sd, n = float(differences.mean()), float(differences.std(ddof=1)), len(differences)
    further = None
    if claim.kind in ("better", "interaction"):
        word = SUPPORTED if low > margin else REFUTED if high < margin else INCONCLUSIVE
        p, exact = (test(differences, margin, "greater") for test in (t_test, sign_flip))
    elif claim.kind == "not_better":
        word = SUPPORTED if high < margin else REFUTED if low > margin else INCONCLUSIVE
        p, exact = (test(differences, margin, "less") for test in (t_test, sign_flip))
    else:
        p = tost(pair.treatment, pair.reference, margin)
        exact = max(sign_flip(differences, margin, "less"), sign_flip(differences, -margin, "greater"))
        word = SUPPORTED if p < ALPHA else REFUTED if low > margin or high < -margin else INCONCLUSIVE
    if word == INCONCLUSIVE:
        further = _further_seeds(claim.kind, mean, margin, sd, n)
    return Verdict(
        **basis,
        margin=margin,
        word=word,
        reason=_reason(claim, word, low, high, margin),
        p=p,
        p_sign_flip=exact,
        sign_flip_needs=smallest_n_sign_flip(ALPHA, "one-sided"),
        further_seeds=further,
        notes=tuple(notes),
    )


def _reason(claim: Claim, word: str, low: float, high: float, margin: float) -> str:
    """Say which bound decided, in the metric's own sign; `low` and `high` are turned so that larger is better."""
    places, name = (
        digits((low, high, margin)),
        f"the margin of {margin:.{digits((low, high, margin))}f} {unit(claim.metric)}",
    )
    if word == INCONCLUSIVE:
        if claim.kind == "not_better" and low > 0:
            return f"there is an improvement, but it may be smaller or larger than {name}"
        return f"the one-sided 95 % bounds leave both answers open (margin {margin:.{places}f})"
    if claim.kind == "equivalent" and word == SUPPORTED:
        return f"both one-sided 95 % bounds lie within {name} (two one-sided tests)"
    if claim.kind == "equivalent":
        upper, edge = (False, margin) if low > margin else (True, -margin)
    else:
        upper, edge = (claim.kind == "better") != (word == SUPPORTED), margin
    sign = -1.0 if lower_is_better(claim.metric) else 1.0
    bound = sign * (high if upper else low)
    side, where = ("upper" if upper == (sign > 0) else "lower"), ("above" if bound > sign * edge else "below")
    text = f"the {side} one-sided 95 % bound, {signed(bound, places)}, lies {where} {name if margin else 'zero'}"
    if claim.kind == "not_better" and word == SUPPORTED and low > 0:
        text += "; a small improvement is there, but it is credibly less than the margin"
    return text


def _further_seeds(kind: str, mean: float, margin: float, sd: float, n: int) -> int | None:
    """Return how many replicates beyond n would decide with 80 % power if mean and sd are as seen; None: over 1000."""
    if kind == "equivalent" and abs(mean) < margin:
        needed = smallest_n(lambda size: power_tost(mean, margin, sd, size, ALPHA), POWER)
    else:
        distance = abs(mean) - margin if kind == "equivalent" else abs(mean - margin)
        needed = smallest_n(lambda size: power_one_sided(distance, sd, size, ALPHA), POWER)
    return None if needed is None or needed - n > MOST_SEEDS else max(1, needed - n)


def _scale_problem(
    claim: Claim,
    pair: PairedDifference,
    means: Sequence[float],
    floor: float | None,
    ceiling: float | None,
    margin: float | None,
) -> str | None:
    """Return why these runs cannot test the claim, or None; `means` are those of all arms that it rests on.

    "Better" needs the better arm off the floor and the worse one off the ceiling. "Not better" and "equivalent" need
    both arms off the floor too: an arm that learned nothing would support them for the wrong reason. An interaction
    needs all its arms off both ends, where a gain would be cut short. A leave-one-out
    ceiling (references against each other) is passed as None here, since a captioner may honestly exceed it.
    """
    n = len(pair.replicates)
    if n < MIN_REPLICATES:
        found = "is only 1 paired replicate" if n == 1 else f"are only {n} paired replicates"
        return f"there {found} of the {MIN_REPLICATES} that a verdict needs"
    if floor is None:
        return "no blind floor was run, so nothing shows that the model looks at the image"
    if margin is None:
        return "the margin is a share of the floor-to-ceiling range, and that range is unknown or empty"
    if margin < 0:
        return "the claim states a negative margin"
    if float(np.std(pair.differences)) == 0.0:
        return "the paired differences do not vary at all, so the replicates are no independent draws"
    sign = -1.0 if lower_is_better(claim.metric) else 1.0
    worse, *_, better = sorted(sign * mean for mean in means)
    bottom, top = sign * floor, None if ceiling is None else sign * ceiling
    if top is not None and top <= bottom:
        return "the ceiling is not above the blind floor"
    if sign > 0:
        needed = BEST_OVER_FLOOR * bottom if bottom > 0 else bottom
        needed = needed if top is None else min(needed, bottom + (top - bottom) / 2)
        if better <= needed:
            return f"the better arm does not reach {BEST_OVER_FLOOR:g} times the blind floor"
    edge = EDGE * (top - bottom) if top is not None else 0.0
    if (better if claim.kind == "better" else worse) <= bottom + edge:
        return "an arm is at the blind floor: it has learned nothing from the images"
    if top is not None and worse >= top - edge:
        return "both arms are at the ceiling, which leaves no room for a difference"
    if claim.kind == "interaction" and top is not None and better >= top - edge:
        return "an arm is at the ceiling, which cuts its gain short"
    return None


def _margin(claim: Claim, floor: float | None, ceiling: float | None) -> float | None:
    """Return the margin in the metric's unit; None when it is a share of a range that is unknown or empty."""
    if claim.margin_unit == "metric":
        return claim.margin
    if floor is None or ceiling is None:
        return None
    span = floor - ceiling if lower_is_better(claim.metric) else ceiling - floor
    return claim.margin * span if span > 0 else None


def _yardsticks(study: Study, counted: pd.DataFrame) -> tuple[float | None, float | None]:
    """Return floor (mean over its replicates) and ceiling for the metric of `counted`."""
    found = [counted.loc[counted["role"] == role, "value"] for role in ("floor", "ceiling")]
    return tuple(float(values.mean()) if len(values) else None for values in found)  # type: ignore[return-value]


def _side(values: Mapping[str, pd.Series], arm: str, start: str | None) -> pd.Series:
    """Return one side of a claim by replicate: an arm's values, or its gain over `start` where both have a value."""
    return values[arm] if start is None else (values[arm] - values[start]).dropna()


def _side_label(study: Study, arm: str, start: str | None) -> str:
    label = study.arm(arm).label
    return label if start is None else f"{study.arm(start).label} to {label}"


def _by_replicate(rows: pd.DataFrame, arm: str) -> pd.Series:
    chosen = rows[rows["arm"] == arm]
    return pd.Series(chosen["value"].to_numpy(dtype=float), index=[int(each) for each in chosen["replicate"]])


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
