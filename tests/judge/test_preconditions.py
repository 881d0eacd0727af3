"""What keeps a claim from being tested at this scale: the yardsticks, the margin, the base arm, the positive control."""

import dataclasses

import pandas as pd
import pytest
from helpers_judge import CLAIMS, NOISE, frame_of, judged, pair, plan_of, steps

from gitbench.judge import judge_study
from gitbench.judge.sentences import verdict_sentence
from gitbench.judge.verdict import NOT_TESTABLE, SUPPORTED


def claim(kind: str, **changes):
    return dataclasses.replace(CLAIMS[kind], **changes)


@pytest.mark.parametrize(
    "scores, options, reason",
    [
        (pair(1.0, base=92.0), {}, "the base arm is 45 % of the way from the blind floor to the ceiling"),
        (pair(-88.0), {}, "at the blind floor"),
        (pair(1.0, base=178.0), {}, "at the ceiling"),
        (pair(1.0), {"floor": None}, "no blind floor"),
        (pair(1.0, NOISE[:2]), {}, "2 paired replicates of the 3"),
        (pair(1.0, NOISE[:1]), {}, "1 paired replicate of the 3"),
        (pair(1.0), {"ceiling": 10.0}, "the ceiling is not above the blind floor"),
        (pair(0.0, 0 * NOISE), {}, "equal in every replicate"),
        (pair(1 / 3, 0 * NOISE), {}, "do not vary at all"),  # but for rounding
        (pair(1.0, NOISE[:3]).add([-80.0, 0.0, 80.0], axis=0), {}, "does not credibly beat the blind floor in CIDEr"),
    ],
)
def test_what_makes_a_claim_untestable(scores, options, reason):
    (verdict,) = judged(claim("not_better", margin=0.1, margin_unit="learned"), scores=scores, **options)
    assert verdict.word == NOT_TESTABLE and reason in verdict.reason and verdict.p is None
    assert "NOT TESTABLE AT THIS SCALE: " in verdict_sentence(verdict)


def test_a_margin_of_its_own_may_be_a_fifth_of_what_was_learned_at_most():
    words = [judged(claim("not_better", margin=margin), scores=pair(0.0))[0] for margin in (17.9, 18.1)]
    assert [each.word for each in words] == [SUPPORTED, NOT_TESTABLE]
    assert "its margin of 18.1 is more than 20 % of what the base arm learned (90" in words[1].reason


def test_the_base_must_beat_blind_in_likelihood_too():
    for floor, word in ((9.0, SUPPORTED), (2.0, NOT_TESTABLE)):
        losses = frame_of(pair(0.0, base=2.0) / 2 + 1, metric="test_nll", floor=floor)
        frame = pd.concat([frame_of(pair(0.0)), losses[losses["metric"] == "test_nll"]], ignore_index=True)
        (found,) = judge_study(plan_of(CLAIMS["not_better"]), frame, "grammar")
        assert found.word == word
    assert "does not credibly beat the blind floor in test loss" in found.reason.replace("test NLL", "test loss")


def test_a_positive_control_must_gain_by_the_margin():
    """ "Saturates": the largest arm gains nothing, which says something only where a smaller one gains."""
    scores = steps(0.0).assign(c=110.0 + NOISE)
    scores["d"] = scores["a"] + NOISE[::-1]
    one = claim("not_better", margin=4.0, control=("b", "c"))
    for gain, word in ((8.0, SUPPORTED), (4.5, NOT_TESTABLE), (0.0, NOT_TESTABLE)):
        (found,) = judged(one, scores=scores.assign(b=scores["c"] + gain + NOISE))
        assert found.word == word
    assert "its positive control fails: b is not shown to gain over c by the margin" in found.reason
    assert judged(dataclasses.replace(one, control=None), scores=scores)[0].word == SUPPORTED


def test_better_may_rest_on_an_arm_that_learned_nothing():
    assert judged(claim("better", treatment="a", reference="d"), scores=pair(-89.0))[0].word == SUPPORTED


def test_a_leave_one_out_ceiling_may_be_exceeded():
    options = {"scores": pair(0.0, base=100.0), "ceiling": 95.0}
    assert judged(CLAIMS["not_better"], kind="leave-one-out", **options)[0].word == SUPPORTED
    assert judged(CLAIMS["not_better"], kind="grammar", **options)[0].word == NOT_TESTABLE
