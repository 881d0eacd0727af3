"""The test likelihood beside a claim's own metric: both words, their families, what they share and what they do not."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from helpers_judge import CLAIMS, NOISE, claim_of, frame_of, pair, plan_of, steps

from gitbench.judge import Verdict, judge_study
from gitbench.judge.likelihood import by_likelihood
from gitbench.judge.sentences import verdict_sentence
from gitbench.judge.verdict import (
    AGREE,
    CONTRADICT,
    INCOMPLETE,
    INCONCLUSIVE,
    NEITHER,
    NOT_TESTABLE,
    ONE_DECIDES,
    REFUTED,
    SUPPORTED,
)
from gitbench.spec import Claim

LEARNED = claim_of("better", margin=0.1, margin_unit="learned")


def losses(scores: pd.DataFrame) -> pd.DataFrame:
    """Turn scores around 110 above a floor of 20 into losses in nats: 3.0 is the floor, 1.2 are 110 points."""
    return 3.0 - (scores - 20.0) / 50.0


def both(scores: pd.DataFrame, nll: pd.DataFrame, floor: float = 3.0, **options) -> pd.DataFrame:
    """Return the frame of a study with CIDEr and test likelihood; `options` are those of `frame_of`, for CIDEr."""
    beside = frame_of(nll, metric="test_nll", floor=floor, ceiling=None)
    frames = [frame_of(scores, **options), beside[beside["metric"] == "test_nll"]]
    return pd.concat(frames, ignore_index=True)


def judged(*claims: Claim, frame: pd.DataFrame, kind: str = "grammar") -> list[Verdict]:
    return judge_study(plan_of(*claims), frame, kind)


# a lead of 30 is above the margin of 9 points (0.18 nats), one of 0 below it, one of 9 open
@pytest.mark.parametrize(
    ("lead", "lead_in_loss", "words", "agreement", "said"),
    [
        (30.0, 30.0, (SUPPORTED, SUPPORTED), AGREE, "both metrics say so"),
        (0.0, 0.0, (REFUTED, REFUTED), AGREE, "both metrics say so"),
        (30.0, 0.0, (SUPPORTED, REFUTED), CONTRADICT, "CIDEr and the likelihood CONTRADICT each other"),
        (0.0, 30.0, (REFUTED, SUPPORTED), CONTRADICT, "CIDEr and the likelihood CONTRADICT each other"),
        (30.0, 9.0, (SUPPORTED, INCONCLUSIVE), ONE_DECIDES, "CIDEr decides, the likelihood does not"),
        (9.0, 0.0, (INCONCLUSIVE, REFUTED), ONE_DECIDES, "the likelihood decides, CIDEr does not"),
        (9.0, 9.0, (INCONCLUSIVE, INCONCLUSIVE), NEITHER, "neither CIDEr nor the likelihood decides"),
    ],
)
def test_both_words_are_given_and_a_contradiction_is_told(lead, lead_in_loss, words, agreement, said):
    (found,) = judged(LEARNED, frame=both(pair(lead), losses(pair(lead_in_loss))))
    assert (found.word, found.likelihood.word) == words and found.agreement == agreement
    assert f"by likelihood {words[1]} (test NLL" in verdict_sentence(found) and said in verdict_sentence(found)
    assert found.likelihood.claim.name == found.claim.name and found.likelihood.likelihood is None


def test_a_word_rests_on_its_own_metric_alone():
    frames = {each: both(pair(each[0]), losses(pair(each[1]))) for each in ((30.0, 0.0), (30.0, 30.0), (0.0, 0.0))}
    mixed, high, low = (judged(LEARNED, frame=frame)[0] for frame in frames.values())
    assert dataclasses.replace(mixed, notes=(), likelihood=None) == dataclasses.replace(high, notes=(), likelihood=None)
    assert dataclasses.replace(mixed.likelihood, notes=()) == dataclasses.replace(low.likelihood, notes=())
    assert mixed.word != low.word and mixed.likelihood.word != high.likelihood.word


def test_the_margin_is_the_claims_share_of_the_nats_learned():
    for changes, share in (({"margin": 0.05}, 0.05), ({"margin": 12.0, "margin_unit": "metric"}, 0.1)):
        claim = dataclasses.replace(LEARNED, **changes)
        (found,) = judged(claim, frame=both(pair(30.0), losses(pair(30.0))))
        assert found.likelihood.margin == pytest.approx(share * 1.8) and found.likelihood.learned == pytest.approx(1.8)
        assert found.claim == claim


@pytest.mark.parametrize("kind", ["better", "not_better", "equivalent", "interaction", "trend"])
def test_a_claim_of_any_kind_means_the_same_by_likelihood(kind):
    """Losses that are the scores turned round get the same word, whatever it is."""
    claim = dataclasses.replace(CLAIMS[kind], margin=0.1, margin_unit="learned")
    found = set()
    for slope in (-15.0, 0.0, 3.0, 15.0):
        scores = steps(slope)
        scores["d"] += slope + NOISE[::-1]  # so that an interaction is not nothing
        (verdict,) = judged(claim, frame=both(scores, losses(scores)))
        assert verdict.word == verdict.likelihood.word and verdict.p == pytest.approx(verdict.likelihood.p)
        found.add(verdict.word)
    assert found & {SUPPORTED, REFUTED}
    assert by_likelihood(CLAIMS["trend"]).direction == "down"


def test_each_metric_is_a_family_of_its_own():
    """Two claims share a level within a metric; what the other metric says takes none of it."""
    twice = (LEARNED, dataclasses.replace(LEARNED, name="other"))
    scores, nll = pair(12.0, 1.8 * NOISE), losses(pair(30.0))
    (alone,) = judged(LEARNED, frame=both(scores, nll))
    first, second = judged(*twice, frame=both(scores, nll))
    assert alone.p_holm == alone.p and first.p_holm == pytest.approx(2 * first.p) and first.p == alone.p
    assert first.family_size == second.likelihood.family_size == 2
    assert second.likelihood.p_holm == pytest.approx(2 * alone.likelihood.p_holm)
    of_loss = dataclasses.replace(LEARNED, name="nll", metric="test_nll")
    own, beside = judged(LEARNED, of_loss, frame=both(scores, nll))
    assert beside.likelihood is None and beside.family_size == 2 and own.likelihood.family_size == 1


@pytest.mark.parametrize(
    ("scores", "options", "reason"),
    [
        (pair(5.0, base=92.0), {}, "45 % of the way from the blind floor"),
        (pair(5.0), {"ceiling": 10.0}, "the ceiling is not above the blind floor"),
        (pair(-88.0), {}, "an arm is at the blind floor"),
        (pair(5.0, NOISE[:3]).add([-80.0, 0.0, 80.0], axis=0), {}, "does not credibly beat the blind floor in CIDEr"),
    ],
)
def test_arms_that_do_not_see_in_the_own_metric_are_not_compared_by_likelihood(scores, options, reason):
    nll = losses(pair(0.0, NOISE[: len(scores)]))
    claim = dataclasses.replace(CLAIMS["not_better"], margin=0.1, margin_unit="learned")
    (found,) = judged(claim, frame=both(scores, nll, **options))
    assert found.word == found.likelihood.word == NOT_TESTABLE and found.agreement == NEITHER
    assert reason in found.reason and reason in found.likelihood.reason
    (sees,) = judged(claim, frame=both(pair(0.0, NOISE[: len(scores)]), nll))
    assert sees.likelihood.word == SUPPORTED


def test_a_base_arm_that_does_not_beat_blind_by_likelihood_makes_both_untestable():
    (found,) = judged(LEARNED, frame=both(pair(30.0), losses(pair(30.0)), floor=1.2))
    assert found.word == found.likelihood.word == NOT_TESTABLE
    assert "does not credibly beat the blind floor in test NLL" in found.reason


def test_what_keeps_one_metric_from_telling_leaves_the_other_its_word():
    """At the ceiling of CIDEr there is no room, and no control can gain; in nats there is."""
    (found,) = judged(LEARNED, frame=both(pair(1.0, base=178.0), losses(pair(30.0))))
    assert (found.word, found.likelihood.word) == (NOT_TESTABLE, SUPPORTED) and found.agreement == ONE_DECIDES
    controlled = dataclasses.replace(CLAIMS["not_better"], margin=0.1, margin_unit="learned", control=("b", "c"))
    flat = steps(0.0).assign(b=110.0 + NOISE, c=110.0 + NOISE[::-1], d=110.0 - NOISE)
    (found,) = judged(controlled, frame=both(flat, losses(flat.assign(b=flat["c"] + 30.0 + NOISE))))
    assert found.word == NOT_TESTABLE and found.likelihood.word == SUPPORTED
    assert "the likelihood decides, CIDEr does not" in verdict_sentence(found)


def test_the_choice_of_images_enters_by_likelihood_too():
    scores, rng = pair(30.0), np.random.default_rng(0)
    nll = losses(scores)
    tables = {f"blind{at}": (20.0, 3.0) for at in range(len(scores))}
    tables |= {f"{arm}{at}": (scores[arm][at], nll[arm][at]) for arm in scores for at in scores.index}
    tokens = rng.integers(8, 13, 40)
    hard = {arm: rng.normal(0, 1, 40) for arm in ("a", "d", "blind")}  # images that are hard for an arm

    def images(key: str) -> pd.DataFrame:
        cider, loss = tables[key]
        own = hard[key.rstrip("0123456789")]
        spread = own - (own * tokens).sum() / tokens.sum()
        table = pd.DataFrame({"image_id": range(40), "CIDEr": cider + own - own.mean(), "tokens": tokens})
        return table.assign(nll=tokens * (loss + 0.3 * spread))

    frame = both(scores, nll)
    (found,) = judge_study(plan_of(LEARNED), frame, "grammar", images=images)
    (without,) = judge_study(plan_of(LEARNED), frame, "grammar")
    assert found.likelihood.images == 40 and found.likelihood.image_share > 0.1
    assert found.likelihood.interval[1] > without.likelihood.interval[1]
    known = {**found.image_errors, **found.likelihood.image_errors}
    assert judge_study(plan_of(LEARNED), frame, "grammar", images=known)[0] == found
    (own_alone,) = judge_study(plan_of(LEARNED), frame, "grammar", images=found.image_errors)
    assert own_alone.word == found.word and own_alone.likelihood.word == NOT_TESTABLE
    assert "keep no test_nll by image" in own_alone.likelihood.reason


def test_nothing_stands_beside_a_claim_without_likelihoods():
    assert judged(LEARNED, frame=frame_of(pair(30.0)))[0].likelihood is None
    runs = tuple((arm, at) for arm in ("a", "d", "blind") for at in range(5))
    frame = both(pair(30.0), losses(pair(30.0)))
    (missing,) = judge_study(plan_of(LEARNED, runs=(*runs, ("a", 5))), frame, "grammar")
    assert missing.word == INCOMPLETE and missing.likelihood is None and missing.agreement == ""
    (found,) = judge_study(
        plan_of(LEARNED, runs=runs), frame[(frame["metric"] != "test_nll") | (frame["replicate"] > 0)]
    )
    assert found.word == SUPPORTED and found.likelihood.word == INCOMPLETE and found.agreement == ONE_DECIDES
    assert "3 of 15 runs that this claim rests on have no test_nll yet" in verdict_sentence(found)
