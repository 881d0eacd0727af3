"""What the runs of a study say of one claim by itself: its numbers and tests, or why there are none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from gitbench.judge.crossed import KnownErrors, Tables, image_scores
from gitbench.judge.effects import Effect, Scores, claim_weights
from gitbench.judge.preconditions import (
    at_ceiling,
    at_floor,
    blind_problem,
    control_problem,
    margin_problem,
    scale_problem,
    sight_problem,
)
from gitbench.judge.robustness import ahead, collapses, disagreement, two_groups
from gitbench.judge.rules import Tests, findings, margin_of, tests_of, turned
from gitbench.judge.statistics import MIN_REPLICATES, decide, t_interval
from gitbench.judge.verdict import INCOMPLETE, NOT_TESTABLE, ImageError, Step, Verdict
from gitbench.metric_info import orientation, quality_sign
from gitbench.metrics.aggregate import LOSS
from gitbench.plan import Plan
from gitbench.spec import Claim

Images = Tables | Mapping[str, ImageError]
BESIDE = ("CIDEr", LOSS)  # metrics in which the base arm must beat the blind floor, besides the claim's own


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A claim's numbers and its tests, unadjusted; nothing but a verdict where it cannot be tested."""

    verdict: Verdict
    effect: Effect | None = None
    tests: Tests | None = None
    hangs_on: tuple[int, ...] = ()  # as in `Verdict`


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What all claims of a study are judged on; `scores` by metric, `images` as in `judge_study`."""

    plan: Plan
    frame: pd.DataFrame
    counted: pd.DataFrame  # its rows that are finite and not overridden
    scores: Mapping[str, Scores]
    ceiling_kind: str | None
    looks: int
    images: Images | None

    def end(self, role: str, metric: str) -> float | None:
        """Return the mean of the blind floor or the ceiling; None where there is none."""
        own = self.counted[(self.counted["role"] == role) & (self.counted["metric"] == metric)]["value"]
        return float(own.mean()) if len(own) else None

    def top(self, metric: str) -> float | None:
        """Return the ceiling where an arm may be at it; None of one that a captioner may honestly exceed."""
        return None if self.ceiling_kind == "leave-one-out" else self.end("ceiling", metric)

    def means(self, claim: Claim) -> dict[str, float]:
        """Return the mean scores of a claim's arms and of the base, over the seeds that the claim is judged on."""
        scores = self.scores[claim.metric]
        used = scores.replicates((*claim_weights(claim), *scores.learned))
        return {arm: float(scores.table.loc[used, arm].mean()) for arm in dict.fromkeys((*claim.arms, self.plan.base))}

    def label(self, arm: str, start: str | None) -> str:
        """Return what one side of a claim is, for people: the label of an arm, or of a step between two."""
        label = self.plan.arm(arm).label
        return label if start is None else f"{self.plan.arm(start).label} to {label}"


def measure(evidence: Evidence, claim: Claim, like: Claim | None = None) -> Measured:
    """Return what the runs say of a claim by itself: its numbers and unadjusted tests, or why there are none.

    Its word is INCOMPLETE or NOT TESTABLE where the claim cannot be tested, and empty where it can. `like`: the claim in its
    own metric, where this is the one by likelihood; arms that do not see by that metric are not compared by this one either.
    """
    plan, frame = evidence.plan, evidence.frame
    rows = frame[(frame["metric"] == claim.metric) & np.isfinite(frame["value"])]
    floors = [arm.name for arm in plan.arms if arm.role == "floor"]
    arms = tuple(dict.fromkeys((*claim.arms, plan.base, *floors)))
    own = rows[rows["arm"].isin(arms) & ~rows["overridden"]]
    left_out = int(rows[rows["arm"].isin(arms)]["overridden"].sum())
    notes = (f"{left_out} run(s) changed by --cfg-options are left out of this verdict",) if left_out else ()
    verdict = Verdict(
        claim=claim,
        word=INCOMPLETE,
        reason="",
        treatment=evidence.label(claim.treatment, claim.treatment_from),
        reference=evidence.label(claim.reference, claim.reference_from),
        arms=arms,
        notes=(*notes, *_machines(own)),
        sequential=evidence.looks > 0,
        looks=evidence.looks,
    )
    scores, signatures = evidence.scores.get(claim.metric), own[own["role"] != "ceiling"]["signature"]
    problem = _missing(plan, arms, claim.metric, rows)
    if problem is None and (scores is None or not scores.replicates((*claim.arms, *scores.learned))):
        problem = "no run counts: all were changed by --cfg-options"
    if problem is None and (count := signatures.nunique(dropna=False)) > 1:
        problem = f"the runs carry {count} different signatures of {claim.metric}, which cannot be compared: run again"
    if problem is not None or scores is None:
        return Measured(verdict=dataclasses.replace(verdict, reason=problem or ""))
    if evidence.images is not None:
        found = (
            image_scores(evidence.counted, claim.metric, arms, evidence.images)
            if callable(evidence.images)
            else KnownErrors(errors=evidence.images)
        )
        scores = dataclasses.replace(scores, by_image=found)
    return _measured(evidence, verdict, scores, like or claim)


def _measured(evidence: Evidence, verdict: Verdict, scores: Scores, like: Claim) -> Measured:
    """Add the numbers of a claim whose runs are there, and its tests or why there are none."""
    claim, weights = verdict.claim, claim_weights(verdict.claim)
    effect = scores.effect(weights, orientation(claim))
    used = scores.replicates((*weights, *scores.learned))
    values = {arm: scores.table.loc[used, arm] for arm in verdict.arms if arm in scores.table.columns}
    floor, ceiling = (evidence.end(role, claim.metric) for role in ("floor", "ceiling"))
    verdict = _with_numbers(verdict, effect, values, used, floor, ceiling)
    if effect.n > 1:
        notes = (*verdict.notes, *two_groups(scores, claim.compared), *disagreement(claim, weights, evidence.scores))
        verdict = dataclasses.replace(verdict, notes=notes, **findings(claim, effect))
    steps = _steps(claim, scores)
    control = None
    if claim.control is not None:
        treatment, reference = claim.control
        control = scores.effect({treatment: 1.0, reference: -1.0}, quality_sign(claim.metric))
    known = [effect, *steps, *([] if control is None else [control])]
    errors = {name: error for each in known for name, error in each.image_errors.items()}
    verdict = dataclasses.replace(verdict, image_errors=errors)
    if (problem := _problem(evidence, verdict, known, control, like)) is not None:
        return Measured(verdict=dataclasses.replace(verdict, word=NOT_TESTABLE, reason=problem))
    tests = tests_of(claim, effect, steps)
    word = str(decide(*tests.p))
    hangs_on = tuple(
        seed
        for seed in used
        if effect.n > MIN_REPLICATES and str(decide(*_without(claim, scores, effect, seed).p)) != word
    )
    verdict = dataclasses.replace(
        verdict,
        word="",
        p=float(tests.p[0]),
        p_refute=float(tests.p[1]),
        steps=tuple(_step(claim, *pair, step) for pair, step in zip(pairwise(claim.along), steps, strict=True)),
        control=None if control is None or claim.control is None else _step(claim, *claim.control[::-1], control),
    )
    return Measured(verdict=verdict, effect=effect, tests=tests, hangs_on=hangs_on)


def _steps(claim: Claim, scores: Scores) -> list[Effect]:
    """Return the effects of a trend's steps from arm to arm."""
    return [scores.effect({later: 1.0, earlier: -1.0}, orientation(claim)) for earlier, later in pairwise(claim.along)]


def _without(claim: Claim, scores: Scores, effect: Effect, seed: int) -> Tests:
    """Return the tests of a claim without one of its replicates; what its images add stays as it was."""
    left = dataclasses.replace(scores, table=scores.table.drop(index=seed), by_image=None)
    own = left.effect(claim_weights(claim), orientation(claim))
    own = dataclasses.replace(own, images=effect.images, count=effect.count)
    return tests_of(claim, own, _steps(claim, left))


def _problem(
    evidence: Evidence, verdict: Verdict, known: Sequence[Effect], control: Effect | None, like: Claim
) -> str | None:
    """Return why a claim cannot be tested at this scale, or None; `like` as in `measure`, or the claim."""
    claim, effect, asked = verdict.claim, known[0], tuple(dict.fromkeys((like, verdict.claim)))
    means = {each: evidence.means(each) for each in asked}
    ends = ((each, evidence.end("floor", each.metric)) for each in asked)
    floors = {each: floor for each, floor in ends if floor is not None}
    problem = scale_problem(effect, means[claim], floors.get(claim))
    if problem is not None:
        return problem
    for each in asked:
        base, ceiling = means[each][evidence.plan.base], evidence.end("ceiling", each.metric)
        problem = problem or sight_problem(each.metric, base, floors[each], ceiling)
    if problem := problem or margin_problem(claim, effect):
        return problem
    if evidence.images is not None and None in (each.count for each in known):
        return f"runs keep no {claim.metric} by image, so the choice of images cannot be allowed for: run them again"
    metrics = dict.fromkeys((*(each.metric for each in asked), *BESIDE))
    problem = blind_problem(evidence.scores[name] for name in metrics if name in evidence.scores)
    for each in asked:
        problem = problem or at_floor(each, means[each], floors[each], evidence.top(each.metric))
    problem = problem or at_ceiling(claim, means[claim], floors[claim], evidence.top(claim.metric))
    return problem if control is None else problem or control_problem(claim, control)


def _with_numbers(
    verdict: Verdict,
    effect: Effect,
    values: Mapping[str, pd.Series],
    used: Sequence[int],
    floor: float | None,
    ceiling: float | None,
) -> Verdict:
    """Add the numbers of an effect to a verdict, in the metric's own sign."""
    claim, sign = verdict.claim, orientation(verdict.claim)
    own = tuple((sign * effect.values[0]).tolist())
    share, points = margin_of(claim)
    learned = effect.learned if effect.learned > 0 else None
    plain = t_interval(own)
    count, chance = ahead(effect.values[0])
    arms = {arm: values[arm] for arm in dict.fromkeys(claim.compared)}
    return dataclasses.replace(
        verdict,
        difference=plain.mean,
        differences=own,
        replicates=tuple(used),
        typical=float(np.median(own)),
        typical_interval=turned(effect.interval(typical=True), sign),
        ahead=count,
        ahead_interval=chance,
        interval=turned(effect.interval(), sign),
        plain_interval=plain.ends,
        share=effect.mean / learned if learned else None,
        share_interval=effect.share_interval() if learned and effect.n > 1 else None,
        margin=None if learned is None and share else share * (learned or 0.0) + points,
        learned=learned,
        floor=floor,
        ceiling=ceiling,
        n=effect.n,
        images=effect.count,
        image_share=effect.image_share if effect.n > 1 else None,
        raised=effect.raised if effect.n > 1 else 1.0,
        collapses=() if floor is None else collapses(arms, floor, claim.metric),
    )


def _step(claim: Claim, earlier: str, later: str, effect: Effect) -> Step:
    sign = orientation(claim)
    interval = turned(effect.interval(), sign)
    return Step(treatment=later, reference=earlier, difference=sign * effect.mean, interval=interval)


def _missing(plan: Plan, arms: Sequence[str], metric: str, rows: pd.DataFrame) -> str | None:
    """Say how many of the runs that a claim rests on have no value yet; None when all are there."""
    planned = {(run.arm, run.replicate) for run in plan.runs if run.arm in arms}
    own = rows[rows["arm"].isin(arms)]
    left = sorted(planned - set(zip(own["arm"], own["replicate"].astype(int), strict=True)))
    if not left:
        return None
    named = ", ".join(f"{arm} #{replicate}" for arm, replicate in left[:4])
    named += f" and {len(left) - 4} more" * (len(left) > 4)
    return f"{len(left)} of {len(planned)} runs that this claim rests on have no {metric} yet ({named})"


def _machines(rows: pd.DataFrame) -> tuple[str, ...]:
    kinds = sorted(rows["machine"].dropna().unique())
    return (f"runs come from different kinds of machine ({', '.join(kinds)})",) if len(kinds) > 1 else ()
