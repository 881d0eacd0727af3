"""Judge the claims of one study on its frame.

Let d be the true mean, over replicates, of what the claim is about, turned so that more is what it claims: treatment -
reference; of an "interaction" the difference of two gains; of a "trend" the slope over its arms
(`gitbench.judge.sample`). m >= 0 is the margin stated beforehand.

| kind                       | SUPPORTED: it is shown that | REFUTED: it is shown that |
|----------------------------|-----------------------------|---------------------------|
| better, interaction, trend | d > m                       | d < m                     |
| not_better                 | d < m                       | d > m                     |
| equivalent                 | -m < d < m                  | d > m or d < -m           |

Each is a test at 5 % (`gitbench.judge.statistics` says which; one-sided 95 % bounds show the same), so "not better" is half
of an equivalence test, and it is refuted only when the improvement is credibly above zero *and* credibly at least the
margin. A p-value above 0.05 supports nothing: what neither test shows is INCONCLUSIVE.

Several claims (Holm). The p-values of the support tests of all claims of the ablation are adjusted by Holm's method, and
those of the refute tests likewise, apart from them. A word is given where the *adjusted* p-value of its side is below
5 %. So in a whole ablation the probability of any false SUPPORTED is at most 5 %, and that of any false REFUTED too. A
claim that cannot be judged counts with p = 1; a single claim is not adjusted. Bounds and intervals are each claim's own,
unadjusted.

INCONCLUSIVE comes with the number of further replicates that would decide at 80 % power, if the difference and its
spread are as found, and the time that these take (`gitbench.judge.power`). Before any of that a claim can fail to be
testable, where arms are at the ends of the yardsticks (`gitbench.judge.preconditions`).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd

from gitbench.judge.claim_data import ClaimData, gather_claim_data
from gitbench.judge.power import further_seeds, heads_to_support
from gitbench.judge.statistics import SIGN_FLIP_NEEDS, Adjusted, Method, adjust, p_values, sign_flip_p, words
from gitbench.judge.verdict import INCONCLUSIVE, Verdict
from gitbench.judge.words import reason_of
from gitbench.scores import orientation
from gitbench.spec import Plan


def judge_study(plan: Plan, frame: pd.DataFrame, ceiling_kind: str | None = None, *, looks: int = 0) -> list[Verdict]:
    """Judge every claim of a study on its finished, un-overridden runs; `ceiling_kind` as in `Study.yardstick`.

    `looks` says how often seeds were added after looking (`Study.looks`): where that is not 0, the words, bounds and
    p-values are those of the sequential test.
    """
    found = [gather_claim_data(plan, claim, frame, ceiling_kind, looks) for claim in plan.claims]
    numbers = [_p_values(data) for data in found]
    return [_decide(data, p, adjusted) for data, p, adjusted in zip(found, numbers, adjust(numbers), strict=True)]


def _method(verdict: Verdict) -> Method:
    return "sequential" if verdict.sequential else "t"


def _p_values(data: ClaimData) -> tuple[float, float] | None:
    """Return p to support and p to refute; None where the claim cannot be tested."""
    verdict = data.verdict
    if data.turned is None or verdict.margin is None:
        return None
    support, refute = p_values(verdict.claim.kind, data.turned, verdict.margin, _method(verdict))
    return float(support), float(refute)


def _decide(data: ClaimData, p: tuple[float, float] | None, adjusted: Adjusted) -> Verdict:
    """Apply the module's table of rules to a claim that is testable."""
    verdict = dataclasses.replace(data.verdict, family_size=adjusted.claims)
    turned, margin, claim = data.turned, verdict.margin, verdict.claim
    if p is None or turned is None or margin is None:
        return verdict
    word = str(words(adjusted.support, adjusted.refute))
    further = None
    if word == INCONCLUSIVE:
        mean, sd = float(turned.mean()), float(np.std(turned, ddof=1))
        left = adjusted.open_support if heads_to_support(claim.kind, mean, margin) else adjusted.open_refute
        further = further_seeds(claim.kind, mean, margin, sd, len(turned), _method(verdict), left)
    low, high = sorted(orientation(claim) * bound for bound in verdict.bounds or (-math.inf, math.inf))
    return dataclasses.replace(
        verdict,
        word=word,
        reason=reason_of(claim, word, (low, high), margin, p, adjusted),
        p=p[0],
        p_holm=adjusted.support,
        p_refute=p[1],
        p_refute_holm=adjusted.refute,
        # nothing stands in for the exact test under looking, where it does not stay valid
        p_sign_flip=None if verdict.sequential else sign_flip_p(claim.kind, turned, margin),
        sign_flip_needs=SIGN_FLIP_NEEDS,
        further_seeds=further,
        further_seconds=None if further is None or data.seconds is None else further * data.seconds,
    )
