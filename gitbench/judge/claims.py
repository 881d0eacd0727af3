"""Judge the claims of one study on its frame.

Let d be the difference that a claim is about, turned so that more is better: treatment - reference; of an "interaction"
the difference of two gains; of a "trend" last arm - first arm. m > 0 is the margin: 10 % of what the base arm learned
(its score less the blind floor's), in every claim and direction, unless the claim states another with a reason.

What is seen of d is a word of its own (`gitbench.judge.verdict`: BETTER, BETTER BUT BELOW THE MARGIN, EQUIVALENT, ...):
what its 95 % interval lies in. What that means for the claim:

| kind                | SUPPORTED: it is shown that                | REFUTED: it is shown that              |
|---------------------|--------------------------------------------|----------------------------------------|
| better, interaction | d > m                                      | d < m                                  |
| not_better          | d < m                                      | d > m                                  |
| equivalent          | -m < d < m                                 | d > m or d < -m                        |
| trend               | d > m, and every step between two arms > 0 | d < m, or a step < 0                   |

Each is a test at 2.5 % a side of the mean over seeds *and* of the typical seed, their median (`gitbench.judge.statistics`);
where the two would give different words the claim is open. The errors are those of other seeds and other test images.
A p-value above 2.5 % supports nothing: what no test shows is INCONCLUSIVE. A decided claim names the seeds without any one
of which it would be open.

The p-values of the support tests of all claims of the ablation are adjusted by Holm's method, and those of the refute
tests likewise, apart from them; a claim that cannot be judged counts with p = 1. Intervals are each claim's own.

Every claim is judged a second time, by the same rules, by the test likelihood (`gitbench.judge.likelihood`). That word stands
beside the claim's, which is that of its own metric alone: neither metric gives or takes the other's word, and a
contradiction of the two is told (`Verdict.agreement`). The two are two families, each with its own Holm correction. So in each
of them some claim is falsely SUPPORTED (or, apart from that, REFUTED) in at most 2.5 % of studies; in either of the two, in up
to 5 %: that is the rate for who takes a claim as shown where one of its words says so. Of a claim that both support it is at
most 2.5 %. Arms that do not see in a claim's own metric (base arm not half of the way from floor to ceiling or no better than
blind, an arm at the floor) are not compared by likelihood either.

INCONCLUSIVE comes with the number of further replicates that would decide at 80 % power, if the difference and its
spread are as found, and the time that these take (`gitbench.judge.power`). Before any of that a claim can fail to be
testable (`gitbench.judge.preconditions`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from gitbench.judge.effects import scores_of
from gitbench.judge.likelihood import by_likelihood
from gitbench.judge.measure import Evidence, Images, Measured, measure
from gitbench.judge.power import further_seeds, heads_to_support, seconds_per_seed
from gitbench.judge.sentences import reason_of
from gitbench.judge.statistics import Adjusted, adjust, decide
from gitbench.judge.verdict import INCOMPLETE, INCONCLUSIVE, REFUTED, SUPPORTED, Verdict
from gitbench.metrics.aggregate import LOSS
from gitbench.plan import Plan


def judge_study(
    plan: Plan, frame: pd.DataFrame, ceiling_kind: str | None = None, *, looks: int = 0, images: Images | None = None
) -> list[Verdict]:
    """Judge every claim of a study on its finished, un-overridden runs; `ceiling_kind` as in `Study.yardstick`.

    `looks` says how often seeds were added after looking (`gitbench.study.interim`): where that is not 0, words, intervals
    and p-values are those of the sequential test. `images` gives the per-image scores of a run by its key, or what the
    choice of images was found to add before (`Verdict.image_errors`); without it the words hold for these images alone.
    Claims are those that `gitbench.ablations.check_claim` lets pass.
    """
    counted = frame[np.isfinite(frame["value"]) & ~frame["overridden"]]
    scores = scores_of(plan, counted, looks > 0)
    evidence = Evidence(
        plan=plan,
        frame=frame,
        counted=counted,
        scores=scores,
        ceiling_kind=ceiling_kind,
        looks=looks,
        images=images,
    )
    verdicts = _decided([measure(evidence, claim) for claim in plan.claims], frame)
    if LOSS not in scores:
        return verdicts
    others = [own for own in verdicts if own.claim.metric != LOSS]
    beside = _decided([_by_likelihood(evidence, own) for own in others], frame)
    likelihoods = {own.claim: found for own, found in zip(others, beside, strict=True) if own.word != INCOMPLETE}
    return [dataclasses.replace(own, likelihood=likelihoods.get(own.claim)) for own in verdicts]


def _by_likelihood(evidence: Evidence, own: Verdict) -> Measured:
    """Return what the runs say of a claim by likelihood; where its own runs are missing there is nothing to say."""
    return Measured(verdict=own) if own.word == INCOMPLETE else measure(evidence, by_likelihood(own.claim), own.claim)


def _decided(family: Sequence[Measured], frame: pd.DataFrame) -> list[Verdict]:
    """Give the claims of a family their words."""
    size = len(family)
    found = [dataclasses.replace(each, verdict=dataclasses.replace(each.verdict, family_size=size)) for each in family]
    adjusted = _adjusted([each.verdict for each in found])
    return [_decide(one, own, frame) for one, own in zip(found, adjusted, strict=True)]


def words_over(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the words of the claims of many studies, Holm's correction taken over all of them at once."""
    return [
        str(decide(own.support, own.refute)) if each.word in (SUPPORTED, REFUTED) else each.word
        for each, own in zip(verdicts, _adjusted(verdicts), strict=True)
    ]


def _adjusted(verdicts: Sequence[Verdict]) -> list[Adjusted]:
    """Adjust the p-values of verdicts; one that has none counts as p = 1."""
    return adjust([None if each.p is None or each.p_refute is None else (each.p, each.p_refute) for each in verdicts])


def _decide(found: Measured, adjusted: Adjusted, frame: pd.DataFrame) -> Verdict:
    """Give a claim that can be tested its word, by the module's table of rules."""
    verdict, effect, tests = found.verdict, found.effect, found.tests
    if effect is None or tests is None:
        return verdict
    word = str(decide(adjusted.support, adjusted.refute))
    further, seconds = None, None
    if word == INCONCLUSIVE:
        left = adjusted.open_support if heads_to_support(verdict) else adjusted.open_refute
        further, each = further_seeds(verdict, left), seconds_per_seed(frame, verdict.arms)
        seconds = None if further is None or each is None else further * each
    verdict = dataclasses.replace(
        verdict,
        word=word,
        p_holm=adjusted.support,
        p_refute_holm=adjusted.refute,
        hangs_on=found.hangs_on if word != INCONCLUSIVE else (),
        further_seeds=further,
        further_seconds=seconds,
    )
    return dataclasses.replace(verdict, reason=reason_of(verdict, tests))
