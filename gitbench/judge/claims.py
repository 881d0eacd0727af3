"""Judge the claims of one study on its frame.

Let d be the true mean, over replicates, of what the claim is about, turned so that more is what it claims: treatment -
reference; of an "interaction" the difference of two gains; of a "trend" the slope over its arms
(`gitbench.judge.statistics`). m >= 0 is the margin stated beforehand.

| kind                       | SUPPORTED: it is shown that | REFUTED: it is shown that |
|----------------------------|-----------------------------|---------------------------|
| better, interaction, trend | d > m                       | d < m                     |
| not_better                 | d < m                       | d > m                     |
| equivalent                 | -m < d < m                  | d > m or d < -m           |

Each is a test at 5 % (`gitbench.judge.statistics` says which; one-sided 95 % bounds show the same). A p-value above 0.05
supports nothing: what neither test shows is INCONCLUSIVE.

The p-values of the support tests of all claims of the ablation are adjusted by Holm's method, and those of the refute
tests likewise, apart from them. A word is given where the *adjusted* p-value of its side is below 5 %. So in a whole
ablation the probability of any false SUPPORTED is at most 5 %, and that of any false REFUTED too. A claim that cannot be
judged counts with p = 1. Bounds and intervals are each claim's own, unadjusted.

INCONCLUSIVE comes with the number of further replicates that would decide at 80 % power, if the difference and its
spread are as found, and the time that these take (`gitbench.judge.power`). Before any of that a claim can fail to be
testable, where arms are at the ends of the yardsticks (`gitbench.judge.preconditions`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from gitbench.judge.power import further_seeds, heads_to_support, seconds_per_seed
from gitbench.judge.preconditions import margin_of, scale_problem
from gitbench.judge.sentences import reason_of
from gitbench.judge.sequential import sequential_bounds
from gitbench.judge.statistics import (
    ALPHA,
    SIGN_FLIP_NEEDS,
    Adjusted,
    PairedDifference,
    adjust,
    by_replicate,
    decide,
    p_values,
    sample,
    sign_flip_p,
)
from gitbench.judge.verdict import INCOMPLETE, INCONCLUSIVE, NOT_TESTABLE, Verdict
from gitbench.metric_info import orientation
from gitbench.spec import Claim, Plan

ALONE = 0.01  # level of the F test by which one arm varies more than all others


def judge_study(plan: Plan, frame: pd.DataFrame, ceiling_kind: str | None = None, *, looks: int = 0) -> list[Verdict]:
    """Judge every claim of a study on its finished, un-overridden runs; `ceiling_kind` as in `Study.yardstick`.

    `looks` says how often seeds were added after looking (`gitbench.study.interim`): where that is not 0, the words,
    bounds and p-values are those of the sequential test. Claims are those that `gitbench.ablations.check_claim` lets pass.
    """
    found = [_measure(plan, claim, frame, ceiling_kind, looks) for claim in plan.claims]
    p = [None if each.p is None or each.p_refute is None else (each.p, each.p_refute) for each in found]
    return [_decide(verdict, own, adjusted, frame) for verdict, own, adjusted in zip(found, p, adjust(p), strict=True)]


def _decide(verdict: Verdict, p: tuple[float, float] | None, adjusted: Adjusted, frame: pd.DataFrame) -> Verdict:
    """Apply the module's table of rules; `p` is unadjusted, and None for a claim that cannot be tested."""
    claim, margin = verdict.claim, verdict.margin
    if p is None or margin is None:
        return verdict
    turned = orientation(claim) * np.array(verdict.differences)
    word, further, seconds = str(decide(adjusted.support, adjusted.refute)), None, None
    if word == INCONCLUSIVE:
        supports = heads_to_support(claim.kind, float(turned.mean()), margin)
        further = further_seeds(verdict, adjusted.open_support if supports else adjusted.open_refute)
        each = seconds_per_seed(frame, claim.arms)
        seconds = None if further is None or each is None else further * each
    verdict = dataclasses.replace(
        verdict,
        word=word,
        p_holm=adjusted.support,
        p_refute_holm=adjusted.refute,
        # nothing stands in for the exact test under looking, where it does not stay valid
        p_sign_flip=None if verdict.sequential else sign_flip_p(claim.kind, turned, margin),
        sign_flip_needs=SIGN_FLIP_NEEDS,
        further_seeds=further,
        further_seconds=seconds,
    )
    return dataclasses.replace(verdict, reason=reason_of(verdict, p))


def _measure(plan: Plan, claim: Claim, frame: pd.DataFrame, ceiling_kind: str | None, looks: int) -> Verdict:
    """Return what the runs say of a claim by itself: its numbers and unadjusted p-values, or why there are none.

    Its word is INCOMPLETE or NOT TESTABLE where the claim cannot be tested, and empty where it can.
    """
    rows = frame[(frame["metric"] == claim.metric) & np.isfinite(frame["value"])]
    counted = rows[~rows["overridden"]]
    left_out = len(rows) - len(counted)
    notes = (f"{left_out} run(s) changed by --cfg-options are left out of this verdict",) if left_out else ()
    verdict = Verdict(
        claim=claim,
        word=INCOMPLETE,
        reason="",
        treatment=_label(plan, claim.treatment, claim.treatment_from),
        reference=_label(plan, claim.reference, claim.reference_from),
        notes=notes,
        family_size=len(plan.claims),
        sequential=looks > 0,
        looks=looks,
    )
    if missing := _missing(plan, claim, rows):
        return dataclasses.replace(verdict, reason=missing)
    values = {arm: by_replicate(counted[counted["arm"] == arm]) for arm in claim.arms}
    pair = sample(claim, values)
    if pair is None:
        return dataclasses.replace(verdict, reason="no run counts: all were changed by --cfg-options")
    own = counted[counted["arm"].isin(values)]
    if (count := own["signature"].nunique(dropna=False)) > 1:
        reason = f"the runs carry {count} different signatures of {claim.metric}, which cannot be compared: run again"
        return dataclasses.replace(verdict, reason=reason)
    verdict = dataclasses.replace(
        verdict,
        word="",
        treatment_mean=float(np.mean(pair.treatment)),
        reference_mean=float(np.mean(pair.reference)),
        difference=pair.interval.mean,
        differences=pair.differences,
        interval=sequential_bounds(pair.differences, ALPHA / 2) if looks else pair.interval.ends,
        bounds=sequential_bounds(pair.differences) if looks else pair.bounds,
        n=pair.interval.n,
        notes=(*notes, *_machines(own), *_one_arm_varies(pair, values)),
    )
    return _test(verdict, pair, values, counted, ceiling_kind)


def _test(
    verdict: Verdict,
    pair: PairedDifference,
    values: Mapping[str, pd.Series],
    counted: pd.DataFrame,
    ceiling_kind: str | None,
) -> Verdict:
    """Add the yardsticks, and the p-values or why there are none; `values` are those of each arm by replicate."""
    claim = verdict.claim
    ends = (counted.loc[counted["role"] == role, "value"] for role in ("floor", "ceiling"))
    floor, ceiling = (float(each.mean()) if len(each) else None for each in ends)
    margin = margin_of(claim, floor, ceiling)
    verdict = dataclasses.replace(verdict, floor=floor, ceiling=ceiling, margin=margin)
    means = [float(series.mean()) for series in values.values()]
    top = None if ceiling_kind == "leave-one-out" else ceiling
    problem = scale_problem(claim, pair, means, floor, top, margin)
    if problem or margin is None:
        return dataclasses.replace(verdict, word=NOT_TESTABLE, reason=problem or "")
    turned = orientation(claim) * np.array(pair.differences)
    support, refute = p_values(claim.kind, turned, margin, sequential=verdict.sequential)
    return dataclasses.replace(verdict, p=float(support), p_refute=float(refute))


def _label(plan: Plan, arm: str, start: str | None) -> str:
    """Return what one side of a claim is, for people: the label of an arm, or of a step between two."""
    label = plan.arm(arm).label
    return label if start is None else f"{plan.arm(start).label} to {label}"


def _missing(plan: Plan, claim: Claim, rows: pd.DataFrame) -> str | None:
    """Say how many of the runs that this claim rests on have no value yet; None when all are there."""
    needed = set(claim.arms) | {arm.name for arm in plan.arms if arm.role == "floor"}
    planned = {(run.arm, run.replicate) for run in plan.runs if run.arm in needed}
    own = rows[rows["arm"].isin(needed)]
    left = sorted(planned - set(zip(own["arm"], own["replicate"].astype(int), strict=True)))
    if not left:
        return None
    named = ", ".join(f"{arm} #{replicate}" for arm, replicate in left[:4])
    named += f" and {len(left) - 4} more" * (len(left) > 4)
    return f"{len(left)} of {len(planned)} runs that this claim rests on have no {claim.metric} yet ({named})"


def _machines(rows: pd.DataFrame) -> tuple[str, ...]:
    kinds = sorted(rows["machine"].dropna().unique())
    return (f"runs come from different kinds of machine ({', '.join(kinds)})",) if len(kinds) > 1 else ()


def _one_arm_varies(pair: PairedDifference, values: Mapping[str, pd.Series]) -> tuple[str, ...]:
    """Note where one arm varies far more than the others: if its noise is skewed, so are the differences.

    Differences of two arms with noise of one shape are symmetric whatever the shape, and the tests keep their 5 %.
    """
    spreads = sorted((float(each.loc[list(pair.replicates)].std()), arm) for arm, each in values.items())
    free = pair.interval.n - 1
    if free < 2 or len(spreads) < 2:
        return ()
    (second, _), (widest, arm) = spreads[-2:]
    if widest**2 <= stats.f.isf(ALONE, free, free) * second**2:
        return ()
    times = f"{widest / second:.0f} times as much as any other" if second else "alone"
    return (
        f"arm {arm} varies {times}, so its noise is not cancelled if it is skewed; then a word can be wrong in "
        "up to 17 % of studies instead of 5 % (docs/judge.md): look at its seeds",
    )
