"""The rules: what tests a claim of each kind needs, and the word for what is seen of a difference.

The one place that knows the kinds of claims as tests; the table at the top of `gitbench.judge.claims` says the same in
words. Everything is about an `Effect`, turned so that more is better (of a trend: goes its way).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gitbench.judge import verdict as words
from gitbench.judge.effects import Effect, Tail
from gitbench.judge.statistics import SIDE
from gitbench.spec import Claim


@dataclass(frozen=True, kw_only=True)
class Tests:
    """The unadjusted p-values of a claim: to support and to refute it, by the mean and by the typical seed."""

    support: Tail
    refute: Tail

    @property
    def p(self) -> tuple[np.ndarray, np.ndarray]:
        """(support, refute), each the larger of mean and typical seed."""
        return self.support.p, self.refute.p


def margin_of(claim: Claim) -> tuple[float, float]:
    """Return a claim's margin as (share of what the base arm learned, points of the metric): one of the two is 0."""
    return (claim.margin, 0.0) if claim.margin_unit == "learned" else (0.0, claim.margin)


def tests_of(claim: Claim, effect: Effect, steps: Sequence[Effect] = ()) -> Tests:
    """Return the tests of a claim; `steps` are those of a trend from arm to arm."""
    share, points = margin_of(claim)
    above, below = effect.above(share, points), effect.above(share, points, sign=-1)
    if claim.kind == "not_better":
        return Tests(support=below, refute=above)
    if claim.kind == "equivalent":
        over, under = effect.above(-share, -points), effect.above(-share, -points, sign=-1)
        return Tests(support=_all([below, over]), refute=_any([above, under], 1))
    if claim.kind == "trend":
        rises, falls = [step.above() for step in steps], [step.above(sign=-1) for step in steps]
        return Tests(support=_all([above, *rises]), refute=_any([below, *falls], 1 + len(falls)))
    return Tests(support=above, refute=below)


def findings(claim: Claim, effect: Effect) -> dict[str, Any]:
    """Return what is seen of a difference, as fields of a verdict: by both tests, by the mean, by the typical seed."""
    share, points = margin_of(claim)
    if share and effect.learned <= 0:  # nothing was learned, or no blind floor run: no margin
        return {}
    sides = {
        "above": effect.above(share, points),
        "below": effect.above(share, points, sign=-1),
        "positive": effect.above(),
        "negative": effect.above(sign=-1),
        "over": effect.above(-share, -points),
        "under": effect.above(-share, -points, sign=-1),
    }
    return {
        name: _finding({side for side, tail in sides.items() if getattr(tail, which) < SIDE})
        for name, which in (("finding", "p"), ("mean_finding", "mean"), ("typical_finding", "typical"))
    }


def _finding(shown: set[str]) -> str:
    """Return the most that can be said of a difference of which this is shown."""
    known: tuple[tuple[set[str], str], ...] = (
        ({"above"}, words.BETTER),
        ({"under"}, words.WORSE),
        ({"positive", "below"}, words.BETTER_BELOW),
        ({"negative", "over"}, words.WORSE_BELOW),
        ({"below", "over"}, words.EQUIVALENT),
        ({"positive"}, words.BETTER_OPEN),
        ({"negative"}, words.WORSE_OPEN),
        ({"below"}, words.NOT_BETTER),
        ({"over"}, words.NOT_WORSE),
    )
    return next((word for needed, word in known if needed <= shown), words.OPEN)


def turned(interval: tuple[float, float] | None, sign: int) -> tuple[float, float] | None:
    """Return an interval in the metric's own sign."""
    return None if interval is None else (min(sign * end for end in interval), max(sign * end for end in interval))


def _all(tails: Sequence[Tail]) -> Tail:
    """Return the p-values that all of these hold (intersection-union test)."""
    mean, typical = (np.maximum.reduce([getattr(each, which) for each in tails]) for which in ("mean", "typical"))
    return Tail(mean=mean, typical=typical)


def _any(tails: Sequence[Tail], times: int) -> Tail:
    """Return the p-values that any of these holds, Bonferroni's correction for `times` of them."""
    found = (np.minimum.reduce([getattr(each, which) for each in tails]) for which in ("mean", "typical"))
    mean, typical = (np.minimum(1.0, times * each) for each in found)
    return Tail(mean=mean, typical=typical)
