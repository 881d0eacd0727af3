"""Whether a claim can be tested at this scale at all, by the two yardsticks of every study, and what its margin is.

The blind floor is what a model scores that never sees the image; the ceiling what the data's own grammar (or its
references against each other) scores. An arm that learned nothing supports "no difference" for the wrong reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gitbench.judge.statistics import PairedDifference
from gitbench.metric_info import lower_is_better
from gitbench.spec import Claim

MIN_REPLICATES = 3  # two pairs give one degree of freedom: valid on paper, and a t multiplier of 6.3 to 12.7
BEST_OVER_FLOOR = 1.5  # the better arm must reach this multiple of the blind floor (or half the range, if that is less)
ROUNDING = 1e-12  # of the scores: what differences that are all the same may differ by
EDGE = 0.05  # an arm within this share of the floor-to-ceiling range from either end counts as being at that end


def margin_of(claim: Claim, floor: float | None, ceiling: float | None) -> float | None:
    """Return the margin in the metric's unit; None when it is a share of a range that is unknown or empty."""
    if claim.margin_unit == "metric":
        return claim.margin
    if floor is None or ceiling is None:
        return None
    span = floor - ceiling if lower_is_better(claim.metric) else ceiling - floor
    return claim.margin * span if span > 0 else None


def scale_problem(
    claim: Claim,
    pair: PairedDifference,
    means: Sequence[float],
    floor: float | None,
    ceiling: float | None,
    margin: float | None,
) -> str | None:
    """Return why these runs cannot test the claim, or None; `means` are those of all arms that it rests on.

    "Better" needs the better arm off the floor and the worse one off the ceiling, and so does a trend. "Not better" and
    "equivalent" need both arms off the floor too: an arm that learned nothing would support them for the wrong reason. An
    interaction, and a trend of a stated size, need all arms off both ends, where a gain would be cut short. A leave-one-out
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
    if not any(pair.differences):
        return (
            "both sides are equal in every replicate: arms that share their runs, or say the same, cannot be compared"
        )
    if float(np.ptp(pair.differences)) <= ROUNDING * max(1.0, *map(abs, pair.treatment), *map(abs, pair.reference)):
        return "the paired differences do not vary at all, so the replicates are no independent draws"
    sign = -1.0 if lower_is_better(claim.metric) else 1.0
    bottom, top = sign * floor, None if ceiling is None else sign * ceiling
    if top is not None and top <= bottom:
        return "the ceiling is not above the blind floor"
    return _at_an_end(claim, [sign * mean for mean in means], sign, bottom, top, margin)


def _at_an_end(
    claim: Claim, means: Sequence[float], sign: float, bottom: float, top: float | None, margin: float
) -> str | None:
    """Return which end the arms are at, where that spoils the claim; everything is turned so that more is better."""
    worse, better = min(means), max(means)
    if sign > 0:
        needed = BEST_OVER_FLOOR * bottom if bottom > 0 else bottom
        needed = needed if top is None else min(needed, bottom + (top - bottom) / 2)
        if better <= needed:
            return f"the better arm does not reach {BEST_OVER_FLOOR:g} times the blind floor"
    edge = EDGE * (top - bottom) if top is not None else 0.0
    sized = claim.kind == "interaction" or (claim.kind == "trend" and margin > 0)
    lenient = claim.kind == "better" or (claim.kind == "trend" and not sized)
    if (better if lenient else worse) <= bottom + edge:
        return "an arm is at the blind floor: it has learned nothing from the images"
    if top is None:
        return None
    if worse >= top - edge:
        return "both arms are at the ceiling, which leaves no room for a difference"
    if sized and better >= top - edge:
        return "an arm is at the ceiling, which cuts its gain short"
    return None
