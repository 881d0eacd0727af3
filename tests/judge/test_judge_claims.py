"""Verdicts: each word under the numbers that call for it, what keeps a claim untestable, families, what a decision costs."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from helpers_judge import CEILING, CLAIMS, FLOOR, NOISE, frame_of, judged, pair, plan_of, steps

from gitbench.judge import answer, judge_study
from gitbench.judge.sentences import difference_numbers, difference_text, verdict_sentence
from gitbench.judge.statistics import decide, p_values
from gitbench.judge.verdict import INCOMPLETE, INCONCLUSIVE, NOT_TESTABLE, REFUTED, SUPPORTED
from gitbench.metric_info import orientation


def claim(kind: str, **changes):
    return dataclasses.replace(CLAIMS[kind], **changes)


# ---- two arms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, shift, word",
    [
        ("not_better", -3.0, SUPPORTED),
        ("not_better", 0.0, SUPPORTED),
        ("not_better", 1.2, SUPPORTED),  # an improvement, but credibly less than the margin
        ("not_better", 1.5, INCONCLUSIVE),
        ("not_better", 3.0, REFUTED),
        ("better", 3.0, SUPPORTED),
        ("better", 2.2, INCONCLUSIVE),
        ("better", 1.0, REFUTED),
        ("equivalent", 0.0, SUPPORTED),
        ("equivalent", 1.6, INCONCLUSIVE),
        ("equivalent", -1.6, INCONCLUSIVE),
        ("equivalent", 3.0, REFUTED),
        ("equivalent", -3.0, REFUTED),
    ],
)
def test_word_by_where_the_bounds_lie(kind, shift, word):
    (verdict,) = judged(claim(kind, margin=2.0), scores=pair(shift))
    assert verdict.word == word
    assert verdict.difference == pytest.approx(shift) and verdict.n == 5
    low, high = verdict.bounds
    assert verdict.interval[0] < low < shift < high < verdict.interval[1]
    assert (verdict.p < 0.05) == (word == SUPPORTED)
    assert (verdict.further_seeds is None) == (word != INCONCLUSIVE)


def test_margin_as_a_share_of_the_range():
    (verdict,) = judged(claim("not_better", margin=0.05, margin_unit="range"), scores=pair(0.0))
    assert verdict.margin == pytest.approx(0.05 * (CEILING - FLOOR))


def test_lower_is_better_turns_the_sign():
    losses = pair(-0.5, NOISE / 10, base=2.0)
    options = {"scores": losses, "metric": "test_nll", "floor": 9.0, "ceiling": None}
    (verdict,) = judged(claim("better", metric="test_nll"), **options)
    assert verdict.word == SUPPORTED and verdict.difference < 0
    (swapped,) = judged(claim("better", metric="test_nll", treatment="a", reference="d"), **options)
    assert swapped.word == REFUTED and swapped.difference > 0


# ---- trend --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slope, margin, direction, word",
    [
        (2.0, 0.0, "up", SUPPORTED),
        (-2.0, 0.0, "up", REFUTED),
        (0.5, 0.0, "up", INCONCLUSIVE),
        (-2.0, 0.0, "down", SUPPORTED),
        (2.0, 1.5, "up", INCONCLUSIVE),
        (2.0, 4.0, "up", REFUTED),
        (-2.0, 1.0, "down", SUPPORTED),
    ],
)
def test_trend_by_its_slope_per_step(slope, margin, direction, word):
    (verdict,) = judged(claim("trend", margin=margin, direction=direction), scores=steps(slope))
    assert verdict.word == word and verdict.difference == pytest.approx(slope) and verdict.n == 5
    assert verdict.differences == pytest.approx(slope + NOISE)
    assert verdict.treatment_mean - verdict.reference_mean == pytest.approx(3 * slope)
    said, verb = verdict_sentence(verdict), {"up": "rise", "down": "fall"}[direction]
    assert "points per doubling of the images" in said and "from a (arm a) over b to d (arm d)" in said
    assert word == INCONCLUSIVE or f"CIDEr does not {verb}" in said or (word == SUPPORTED and f"CIDEr {verb}s" in said)


def test_a_falling_loss_is_a_trend_down():
    """The direction is the number's own: a likelihood loss that falls goes down, though less is better."""
    options = {"scores": steps(-0.1, NOISE * 0.05, start=3.0), "floor": 4.0, "ceiling": 1.0, "metric": "test_nll"}
    down, up = (claim("trend", metric="test_nll", direction=each) for each in ("down", "up"))
    assert judged(down, **options)[0].word == SUPPORTED and judged(up, **options)[0].word == REFUTED


def test_a_trend_needs_all_its_arms_in_a_replicate_and_room_for_its_size():
    scores = steps(2.0)
    scores.loc[4, "b"] = np.nan
    (verdict,) = judged(CLAIMS["trend"], scores=scores)
    assert verdict.n == 4 and verdict.differences == pytest.approx((2.0 + NOISE)[:4])
    low = steps(12.0, start=FLOOR)  # the smallest arm is at the floor: fine for "rises", not for "by so much"
    assert judged(CLAIMS["trend"], scores=low)[0].word == SUPPORTED
    (sized,) = judged(claim("trend", margin=1.0), scores=low)
    assert sized.word == NOT_TESTABLE and "at the blind floor" in sized.reason
    (flat,) = judged(CLAIMS["trend"], scores=steps(0.1, start=CEILING))
    assert flat.word == NOT_TESTABLE and "ceiling" in flat.reason


# ---- what cannot be judged or tested, and what is missing -------------------------------------------------------------------


@pytest.mark.parametrize(
    "scores, options, reason",
    [
        (pair(1.0, base=25.0), {}, "does not reach 1.5 times the blind floor"),
        (pair(-68.0), {}, "at the blind floor"),
        (pair(1.0, base=178.0), {}, "at the ceiling"),
        (pair(1.0), {"floor": None}, "no blind floor"),
        (pair(1.0, NOISE[:2]), {}, "2 paired replicates of the 3"),
        (pair(1.0, NOISE[:1]), {}, "1 paired replicate of the 3"),
        (pair(1.0), {"ceiling": None}, "that range is unknown"),
        (pair(1.0), {"ceiling": 10.0}, "range is unknown or empty"),
        (pair(0.0, 0 * NOISE), {}, "equal in every replicate"),
        (pair(1 / 3, 0 * NOISE), {}, "do not vary at all"),  # but for rounding
    ],
)
def test_what_makes_a_claim_untestable(scores, options, reason):
    (verdict,) = judged(claim("not_better", margin=0.05, margin_unit="range"), scores=scores, **options)
    assert verdict.word == NOT_TESTABLE and reason in verdict.reason and verdict.p is None
    assert "cannot be tested" in verdict_sentence(verdict)


def test_better_may_rest_on_an_arm_that_learned_nothing():
    assert judged(CLAIMS["better"], scores=pair(70.0, base=21.0))[0].word == SUPPORTED


def test_a_leave_one_out_ceiling_may_be_exceeded():
    options = {"scores": pair(0.0, base=100.0), "ceiling": 95.0}
    assert judged(CLAIMS["not_better"], kind="leave-one-out", **options)[0].word == SUPPORTED
    assert judged(CLAIMS["not_better"], kind="grammar", **options)[0].word == NOT_TESTABLE


def test_missing_runs_of_a_claim_make_it_incomplete():
    frame = frame_of(pair(0.0))
    for arm, word in (("d", INCOMPLETE), ("blind", INCOMPLETE), ("b", SUPPORTED)):
        runs = tuple((each, at) for at in range(5) for each in ("a", "d", "blind"))
        verdict = judge_study(plan_of(CLAIMS["not_better"], runs=(*runs, (arm, 5))), frame)[0]
        assert verdict.word == word
        assert word != INCOMPLETE or ("1 of 16 runs" in verdict.reason and f"{arm} #5" in verdict.reason)
    nothing = judge_study(plan_of(CLAIMS["not_better"], runs=runs), frame[:0])[0]
    assert nothing.word == INCOMPLETE and "15 of 15 runs" in nothing.reason
    assert verdict_sentence(nothing).startswith("No verdict yet")


def test_overridden_runs_never_enter_a_claim():
    frame = frame_of(pair(0.0))
    frame.loc[(frame["arm"] == "d") & (frame["replicate"] == 1), "overridden"] = True
    (verdict,) = judge_study(plan_of(CLAIMS["not_better"]), frame)
    assert verdict.n == 4 and verdict.differences == pytest.approx(tuple(NOISE[[0, 2, 3, 4]]))
    assert len(verdict.notes) == 1 and verdict.notes[0].startswith("1 run(s) changed by --cfg-options")
    (verdict,) = judge_study(plan_of(CLAIMS["not_better"]), frame.assign(overridden=True))
    assert verdict.word == INCOMPLETE and "--cfg-options" in verdict.reason


def test_signatures_must_agree_and_machines_are_noted():
    frame = frame_of(pair(0.0))
    one = (frame["arm"] == "d") & (frame["replicate"] == 0) & (frame["metric"] == "CIDEr")
    (verdict,) = judge_study(plan_of(CLAIMS["not_better"]), frame.assign(signature=np.where(one, "other", "s")))
    assert verdict.word == INCOMPLETE and "2 different signatures" in verdict.reason
    (verdict,) = judge_study(plan_of(CLAIMS["not_better"]), frame.assign(machine=np.where(one, "gpu1", "cpu2")))
    assert verdict.word == SUPPORTED and "(cpu2, gpu1)" in verdict.notes[0]


def test_noise_of_one_arm_alone_is_noted():
    assert not judged(CLAIMS["better"], scores=steps(2.0))[0].notes
    wide = pd.DataFrame({"a": 90 + NOISE[::-1] / 30, "d": 95 + 4 * NOISE})
    (note,) = judged(CLAIMS["better"], scores=wide)[0].notes
    assert note.startswith("arm d varies 120 times as much as any other")
    still = pd.DataFrame({"a": 90 + 0 * NOISE, "d": 95 + 4 * NOISE})
    assert "arm d varies alone" in judged(CLAIMS["better"], scores=still)[0].notes[0]


# ---- several claims -----------------------------------------------------------------------------------------------


def test_holm_takes_back_a_word_that_stands_alone():
    """b leads a by what is p = 0.03 by itself; two more claims of the ablation leave it open."""
    scores = pd.DataFrame({"a": 90.0 + np.zeros(5)})
    scores["b"], scores["c"], scores["d"] = 90.85 + NOISE, 90.1 + NOISE[::-1], 96 + NOISE
    near, wide, third = (claim("better", name=arm, treatment=arm) for arm in ("b", "d", "c"))
    (alone,) = judged(near, scores=scores)
    assert alone.word == SUPPORTED and alone.p == alone.p_holm and 0.025 < alone.p < 0.05 and alone.family_size == 1
    first, second, _ = judged(near, wide, third, scores=scores)
    assert (first.word, second.word) == (INCONCLUSIVE, SUPPORTED)
    assert first.p == alone.p and first.p_holm == pytest.approx(2 * alone.p) and first.family_size == 3
    assert "by itself it would be SUPPORTED (p = 0.0" in first.reason and "the 3 claims" in first.reason
    assert first.further_seeds is not None and "further seed" in verdict_sentence(first)
    below = pd.DataFrame(
        {"a": 90.0 + np.zeros(5), "b": 89.15 + NOISE, "c": 89.1 + NOISE[::-1]}
    )  # refuted each by itself
    claims = [claim("better", name=arm, treatment=arm) for arm in "bc"]
    both, single = judged(*claims, scores=below), [judged(each, scores=below)[0] for each in claims]
    assert {each.word for each in single} == {REFUTED} and {each.word for each in both} == {INCONCLUSIVE}
    assert both[0].p_refute_holm == pytest.approx(max(2 * both[1].p_refute, both[0].p_refute))


def test_a_claim_that_is_not_judged_counts_all_the_same():
    """So that nothing that arrives later can take a word back."""
    scores = pd.DataFrame({"a": 90.0 + np.zeros(5), "b": 90.85 + NOISE})
    near = claim("better", name="near", treatment="b")
    first, second = judge_study(plan_of(near, CLAIMS["better"], runs=(("d", 0),)), frame_of(scores), "grammar")
    assert second.word == INCOMPLETE and second.p is None and second.p_holm is None
    assert first.word == INCONCLUSIVE and first.p_holm == pytest.approx(2 * first.p)


# ---- what a decision costs ----------------------------------------------------------------------------------------


def test_further_seeds_shrink_as_the_difference_leaves_the_margin():
    near, nearer, far, never = (
        judged(claim("not_better"), scores=pair(shift, 2 * NOISE))[0].further_seeds for shift in (1.6, 1.8, 1.4, 2.0)
    )
    assert nearer > near > far > 0 and never is None
    (verdict,) = judged(claim("not_better"), scores=pair(2.0))
    assert "more than 1000 further seeds" in verdict_sentence(verdict)


def test_further_seeds_come_with_the_time_they_take():
    (verdict,) = judged(CLAIMS["better"], scores=pair(0.5))
    assert verdict.word == INCONCLUSIVE and verdict.further_seeds > 2
    # two arms of 30 s on a machine that runs two at a time
    assert verdict.further_seconds == pytest.approx(verdict.further_seeds * 30.0)
    (one,) = judged(CLAIMS["better"], scores=pair(0.5), machine="h100")
    assert one.further_seconds == pytest.approx(verdict.further_seeds * 60.0)
    assert judged(CLAIMS["better"], scores=pair(5.0))[0].further_seconds is None


# ---- words --------------------------------------------------------------------------------------------------------


def test_the_answer_is_one_sentence_with_n_units_and_interval():
    plan = plan_of(CLAIMS["not_better"])
    (verdict,) = judged(CLAIMS["not_better"], scores=pair(0.0))
    said = answer(plan, [verdict])
    assert said.startswith("On x at the x profile, d (arm d)") and "\n" not in said
    for number in ("0.00 points", "\N{MINUS SIGN}0.93 to +0.93", "n = 5", "+0.72", "margin of 2.00"):
        assert number in said, number
    (other,) = judged(CLAIMS["not_better"], scores=pair(3.0))
    assert ", of 2 claims 1 supported, 1 refuted: " in answer(plan, [verdict, other])
    assert "states no claim" in answer(plan, [])


def test_a_difference_is_worded_in_one_place():
    (verdict,) = judged(CLAIMS["better"], scores=pair(1.2))
    assert difference_numbers(verdict) == ("+1.20", "+0.27", "+2.13")
    assert difference_text(verdict, short=True) == "CIDEr +1.20 points (+0.27 to +2.13), n = 5"
    assert difference_text(dataclasses.replace(verdict, difference=None)) == "no difference measured"


@pytest.mark.parametrize("kind", list(CLAIMS))
def test_whole_studies_get_the_words_of_the_tests_on_the_same_numbers(kind):
    """Frames through `judge_study`, around the boundary; every verdict is plain JSON and a sentence."""
    rng, found = np.random.default_rng(9), set()
    for _ in range(10):
        leads = np.array([0.0, 3, 6, 9]) * rng.normal(0.5, 1.5)
        scores = pd.DataFrame(rng.normal(90.0, 3.0, (6, 4)) + leads, columns=list("abcd"))
        (verdict,) = judged(CLAIMS[kind], scores=scores)
        turned = orientation(CLAIMS[kind]) * np.array(verdict.differences)
        support, refute = p_values(kind, turned, verdict.margin)
        assert verdict.word == decide(support, refute)
        assert (verdict.p, verdict.p_refute) == (pytest.approx(float(support)), pytest.approx(float(refute)))
        assert json.loads(json.dumps(dataclasses.asdict(verdict), allow_nan=False))["claim"]["kind"] == kind
        assert verdict_sentence(verdict).endswith(".") and verdict.sign_flip_needs == 5
        found.add(verdict.word)
    assert len(found) >= 2  # the studies lie on both sides of something
