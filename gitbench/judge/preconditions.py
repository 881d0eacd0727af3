"""Whether a claim can be tested at this scale at all, by the two yardsticks of every study.

The blind floor is what a model scores that never sees the image; the ceiling what the data's own grammar (or its
references against each other) scores. An arm that learned nothing supports "no difference" for the wrong reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from gitbench.formats import plural
from gitbench.judge.effects import Effect, Scores
from gitbench.judge.rules import margin_of
from gitbench.judge.statistics import MIN_REPLICATES, SIDE
from gitbench.metric_info import display_name, quality_sign
from gitbench.spec import LARGEST_MARGIN, Claim

HALF_WAY = 0.5  # of the way from floor to ceiling, which the base arm must reach
ROUNDING = 1e-12  # of the scores: what differences that are all the same may differ by
EDGE = 0.05  # an arm within this share of the floor-to-ceiling range from either end counts as being at that end


def scale_problem(effect: Effect, means: Mapping[str, float], floor: float | None) -> str | None:
    """Return why these runs can test nothing, or None: too few, without a blind floor, or no independent draws.

    `means` are those of the claim's arms and of the base.
    """
    n, differences = effect.n, effect.values[0]
    if n < MIN_REPLICATES:
        found = f"{'is' if n == 1 else 'are only'} {plural(n, 'paired replicate')}"
        return f"there {found} of the {MIN_REPLICATES} that a verdict needs"
    if floor is None:
        return "no blind floor was run, so nothing shows that the model looks at the image"
    if not np.any(differences):
        return (
            "both sides are equal in every replicate: arms that share their runs, or say the same, cannot be compared"
        )
    if float(np.ptp(differences)) <= ROUNDING * max(1.0, *map(abs, means.values())):
        return "the paired differences do not vary at all, so the replicates are no independent draws"
    return None


def sight_problem(metric: str, base: float, floor: float, ceiling: float | None) -> str | None:
    """Return why the base arm, of mean `base`, does not see well enough for a comparison of arms, or None."""
    sign = quality_sign(metric)
    bottom, top = sign * floor, None if ceiling is None else sign * ceiling
    if top is not None and top <= bottom:
        return "the ceiling is not above the blind floor"
    if top is not None and sign * base < bottom + HALF_WAY * (top - bottom):
        share = 100 * (sign * base - bottom) / (top - bottom)
        return (
            f"the base arm is {share:.0f} % of the way from the blind floor to the ceiling: below {100 * HALF_WAY:.0f} % "
            "arms are compared in how they fail to see"
        )
    return None


def margin_problem(claim: Claim, effect: Effect) -> str | None:
    """Return why a margin in the metric's unit is no small difference here, or None."""
    if claim.margin_unit == "metric" and effect.learned > 0 and claim.margin > LARGEST_MARGIN * effect.learned:
        return (
            f"its margin of {claim.margin:g} is more than {100 * LARGEST_MARGIN:.0f} % of what the base arm learned "
            f"({effect.learned:.3g})"
        )
    return None


def at_floor(claim: Claim, means: Mapping[str, float], floor: float, ceiling: float | None) -> str | None:
    """Say that an arm is at the blind floor, where that spoils the claim; `means` as in `scale_problem`.

    "Better" needs the better arm off the floor, and so does a trend. The others need all arms off it: an arm that learned
    nothing would support "not better" and "equivalent" for the wrong reason, and cuts a gain short. A leave-one-out
    ceiling (references against each other) is passed as None, since a captioner may honestly exceed it.
    """
    sign = quality_sign(claim.metric)
    turned = [sign * means[arm] for arm in claim.compared]
    edge = 0.0 if ceiling is None else EDGE * sign * (ceiling - floor)
    if (max(turned) if claim.kind in ("better", "trend") else min(turned)) <= sign * floor + edge:
        return "an arm is at the blind floor: it has learned nothing from the images"
    return None


def at_ceiling(claim: Claim, means: Mapping[str, float], floor: float, ceiling: float | None) -> str | None:
    """Say that arms are at the ceiling, where that spoils the claim: all of them, or one whose gain is cut short.

    `means` as in `scale_problem`, `ceiling` as in `at_floor`.
    """
    if ceiling is None:
        return None
    sign = quality_sign(claim.metric)
    turned = [sign * means[arm] for arm in claim.compared]
    edge = sign * ceiling - EDGE * sign * (ceiling - floor)
    if min(turned) >= edge:
        return "both arms are at the ceiling, which leaves no room for a difference"
    if claim.kind == "interaction" and max(turned) >= edge:
        return "an arm is at the ceiling, which cuts its gain short"
    return None


def blind_problem(scores: Iterable[Scores]) -> str | None:
    """Return in which of these metrics the base arm does not beat the blind floor, or None.

    By the tests at a fixed number of seeds, under looking too: a look at few seeds must not end a study for good.
    """
    for own in scores:
        if own.learned and len(own.replicates(own.learned)) >= MIN_REPLICATES:
            fixed = dataclasses.replace(own, sequential=False)
            lead = fixed.effect(own.learned, quality_sign(own.metric))
            if lead.above().p >= SIDE:
                more = f"{abs(lead.mean):.3g} {'better' if lead.mean > 0 else 'worse'}"
                return f"the base arm does not credibly beat the blind floor in {display_name(own.metric)} ({more})"
    return None


def control_problem(claim: Claim, effect: Effect) -> str | None:
    """Return why a claim's positive control fails, or None: the gain that must be there is not shown to exceed the margin."""
    if claim.control is None or dataclasses.replace(effect, sequential=False).above(*margin_of(claim)).p < SIDE:
        return None
    treatment, reference = claim.control
    return (
        f"its positive control fails: {treatment} is not shown to gain over {reference} by the margin, so nothing shows "
        "that there was anything to gain"
    )
