"""Judge the claims of one study on its runs.

Let d be the true mean, over replicates, of what the claim is about, turned so that more is what it claims: treatment -
reference; of an "interaction" the difference of two gains; of a "trend" the slope over its arms; of a "threshold" the
distance from its level (`gitbench.judge.sample`). m >= 0 is the margin stated beforehand.

| kind                                  | SUPPORTED: it is shown that | REFUTED: it is shown that |
|---------------------------------------|-----------------------------|---------------------------|
| better, interaction, trend, threshold | d > m                       | d < m                     |
| not_better                            | d < m                       | d > m                     |
| equivalent                            | -m < d < m                  | d > m or d < -m           |

Each is a test at 5 % (`gitbench.judge.rules` says which; one-sided 95 % bounds show the same), so "not better" is half of
an equivalence test, and it is refuted only when the improvement is credibly above zero *and* credibly at least the
margin. A p-value above 0.05 supports nothing: what neither test shows is INCONCLUSIVE.

Several claims (Holm). The p-values of the support tests of all claims of a family are adjusted by Holm's method, and
those of the refute tests likewise, apart from them. A word is given where the *adjusted* p-value of its side is below
5 %. So in a whole family the probability of any false SUPPORTED is at most 5 %, and that of any false REFUTED too. The
family is the ablation, unless a claim names another; a claim that cannot be judged counts in it with p = 1; a family of
one is not adjusted (`gitbench.judge.family`). Bounds and intervals are each claim's own, unadjusted.

INCONCLUSIVE comes with the number of further replicates that would decide at 80 % power, if the difference and its
spread are as seen, and the time that these take (`gitbench.judge.power`). Before any of that a claim can fail to be
testable: arms at the yardsticks' ends (`gitbench.judge.preconditions`), or, where the exact test decides, too few replicates
for it to reach 5 % at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from gitbench.judge.claim_data import INCOMPLETE, NOT_TESTABLE, Case, gather_case
from gitbench.judge.compare import PairedDifference, smallest_n_sign_flip
from gitbench.judge.family import Place, family_of, holm, members, places
from gitbench.judge.power import further_seeds as _further_seeds
from gitbench.judge.power import heads_to_support
from gitbench.judge.reason import reason_for, too_few
from gitbench.judge.rules import ALPHA, INCONCLUSIVE, REFUTED, SUPPORTED, Method, least_p, p_values, words
from gitbench.judge.sequential import sequential_bounds
from gitbench.scores import orientation
from gitbench.spec import Claim
from gitbench.study.records import Study

__all__ = [
    "ALPHA",
    "INCOMPLETE",
    "INCONCLUSIVE",
    "NOT_TESTABLE",
    "REFUTED",
    "SUPPORTED",
    "Verdict",
    "decide",
    "judge_claim",
    "judge_study",
]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the runs say about one claim. Differences are in the metric's own unit and sign (`gitbench.judge.sample`)."""

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
    p: float | None = None  # of the test that would support the claim, unadjusted
    p_holm: float | None = None  # the same, adjusted within the family; below 5 %: SUPPORTED
    p_refute: float | None = None  # of the test that would refute it, unadjusted
    p_refute_holm: float | None = None
    family: str = ""  # whose claims were corrected together
    family_size: int = 1
    p_sign_flip: float | None = None  # exact check of the same hypothesis (one-sided), without normality
    sign_flip_needs: int | None = None  # replicates below which the exact test cannot reach 5 %
    further_seeds: int | None = None  # INCONCLUSIVE only; None there means more than 1000
    further_seconds: float | None = None  # what they take on the machine of the runs, as many at a time as it runs
    notes: tuple[str, ...] = ()
    sequential: bool = False  # bounds, interval and p are those that stay valid when seeds are added after looking
    looks: int = 0  # how often the study was looked at while seeds were added

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values (no NaN)."""
        return asdict(self)


def judge_study(
    study: Study, frame: pd.DataFrame, yardstick_kind: str | None = None, *, looks: int = 0, at_once: int | None = None
) -> list[Verdict]:
    """Judge every claim of a study; `yardstick_kind` is "grammar" or "leave-one-out".

    `looks` (`gitbench.judge.sequential.looks_of`) says how often seeds were added after looking: where that is not 0,
    the words, bounds and p-values are those of the sequential test. `at_once` is how many runs the machine runs at a
    time, for the cost of further seeds; None: as many as the machine the runs come from.
    """
    families = list(dict.fromkeys(family_of(claim, study.ablation) for claim in study.claims))
    found: dict[int, Verdict] = {}
    for family in families:
        own = [at for at, claim in enumerate(study.claims) if family_of(claim, study.ablation) == family]
        cases = [gather_case(study, study.claims[at], frame, yardstick_kind, looks, at_once) for at in own]
        found |= dict(zip(own, _judge_family(family, cases), strict=True))
    return [found[at] for at in range(len(study.claims))]


def judge_claim(
    study: Study, claim: Claim, frame: pd.DataFrame, yardstick_kind: str | None = None, *, looks: int = 0
) -> Verdict:
    """Judge one claim, among those of its family, on the finished, un-overridden runs of its study."""
    own = members(claim, study.claims, study.ablation)
    cases = [gather_case(study, each, frame, yardstick_kind, looks, None) for each in own]
    return _judge_family(family_of(claim, study.ablation), cases)[own.index(claim)]


def _judge_family(family: str, cases: list[Case]) -> list[Verdict]:
    """Correct the p-values of a whole family, and decide each of its claims."""
    least = holm([1.0 if case.pair is None else least_p(case.method, len(case.pair.replicates)) for case in cases])
    numbers = [case.p_values() for case in cases]
    found = places(family, {str(at): each for at, each in enumerate(numbers)})
    verdicts = []
    for at, case in enumerate(cases):
        place = found[str(at)]
        basis = {**case.basis, "family": family, "family_size": place.size}
        word, reason = case.word, case.reason
        if case.pair is not None and case.method == "sign_flip" and least[at] >= ALPHA:
            word, reason = NOT_TESTABLE, too_few(len(case.pair.replicates), place.size)
        if word or case.pair is None or case.margin is None:
            verdicts.append(Verdict(**basis, margin=case.margin, word=word, reason=reason, notes=tuple(case.notes)))
        else:
            verdicts.append(decide(basis, case.claim, case.pair, case.margin, case.notes, place, case.seconds))
    return verdicts


def decide(
    basis: Mapping[str, Any],
    claim: Claim,
    pair: PairedDifference,
    margin: float,
    notes: list[str],
    place: Place | None = None,
    seconds: float | None = None,
) -> Verdict:
    """Apply the module's table of rules to a pair that is testable; `margin` is in the metric's unit.

    `place` holds the p-values as the claim's family adjusts them (None: it is the only one); `seconds` are those of one
    more replicate.
    """
    looked = bool(basis.get("sequential"))
    method: Method = "sequential" if looked else claim.test
    sign = orientation(claim)
    case = Case(claim=claim, basis=basis, notes=notes, pair=pair, margin=margin, method=method)
    p, p_refute = case.p_values() or (1.0, 1.0)
    place = place or Place(family=str(basis.get("family", "")), support=p, refute=p_refute)
    word = str(words(place.support, place.refute))
    turned = case.turned
    mean, sd, n = float(turned.mean()), float(turned.std(ddof=1)), len(turned)
    bounds = sequential_bounds(pair.differences) if looked else pair.bounds
    assert bounds is not None
    low, high = sorted(sign * bound for bound in bounds)
    further = None
    if word == INCONCLUSIVE:
        left = place.open_support if heads_to_support(claim.kind, mean, margin) else place.open_refute
        further = _further_seeds(claim.kind, mean, margin, sd, n, method, left)
    # the exact test does not stay valid under looking: nothing stands in for it there
    exact = None if looked else float(p_values(claim.kind, turned, margin, "sign_flip")[0])
    return Verdict(
        **basis,
        margin=margin,
        word=word,
        reason=reason_for(claim, word, (low, high), margin, (p, p_refute), place, method),
        p=p,
        p_holm=place.support,
        p_refute=p_refute,
        p_refute_holm=place.refute,
        p_sign_flip=exact,
        sign_flip_needs=smallest_n_sign_flip(ALPHA, "one-sided"),
        further_seeds=further,
        further_seconds=None if further is None or seconds is None else further * seconds,
        notes=tuple(notes),
    )
