"""What one seed can do: collapsed seeds, arms in two groups, mean against typical seed; and metrics that disagree."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers_judge import CLAIMS, NOISE, claim_of, frame_of, judged, pair, plan_of, steps
from scipy import stats

from gitbench.judge import judge_study
from gitbench.judge.robustness import ahead, collapses
from gitbench.judge.sentences import collapse_text, leave_one_out_text, verdict_sentence
from gitbench.judge.statistics import multiplier
from gitbench.judge.verdict import INCONCLUSIVE, REFUTED, SUPPORTED

SKEWED = -stats.expon.ppf((np.arange(16) + 0.5) / 16)  # a long tail to the left: mean -0.97, median -0.69


# ---- one seed -----------------------------------------------------------------------------------------------------------


def test_where_a_test_shows_anything_no_single_seed_can_turn_it():
    """Leaving one seed out turns the mean only where |t| <= 1, and no level of the judge lies there (`docs/judge.md`)."""
    rng = np.random.default_rng(0)
    for n in (3, 5, 8):
        samples = np.concatenate([rng.standard_normal((20_000, n)), rng.standard_t(2, (20_000, n)) + 0.4])
        samples = np.concatenate([samples, [[n, *[0.0] * (n - 1)]]])
        total = samples.sum(1, keepdims=True)
        turned = ((total - samples) * total <= 0).any(1)
        t = samples.mean(1) / stats.sem(samples, axis=1)
        assert np.abs(t[turned]).max() == pytest.approx(1.0) and multiplier(n) > 2


def test_seeds_that_a_word_hangs_on_are_named():
    near, far, few = (
        judged(CLAIMS["better"], scores=pair(lead, noise))[0]
        for lead, noise in ((1.15, NOISE), (9.0, NOISE), (9.0, NOISE[1:4] / 9))
    )
    assert near.word == far.word == few.word == SUPPORTED and far.hangs_on == few.hangs_on == ()
    for seed in range(5):
        left = np.delete(1.15 + NOISE, seed)
        (without,) = judged(CLAIMS["better"], scores=pair(0.0, left))
        assert (without.word != SUPPORTED) == (seed in near.hangs_on)
    assert near.hangs_on and "one seed decides this: without" in leave_one_out_text(near)
    assert leave_one_out_text(far) == "the word stands without any one of the seeds"
    assert leave_one_out_text(few) == "not asked of 3 seeds"
    (open_one,) = judged(CLAIMS["better"], scores=pair(0.3))
    assert open_one.hangs_on == () and leave_one_out_text(open_one) == "no word to lose"


def test_a_step_that_falls_refutes_whatever_one_seed_does_to_the_whole():
    """The whole rises by little more than the margin, thanks to one seed; the middle step falls in all of them."""
    base = 110 + np.linspace(-3, 3, 5)
    scores = pd.DataFrame({"a": base, "b": base + 20 + NOISE, "d": base + 5 + NOISE + np.array([9.0, 0, 0, 0, 0])})
    claim = claim_of("trend", along=("a", "b", "d"), margin=6.0)
    (found,) = judged(claim, scores=scores)
    assert found.difference > 6.0 > np.sort(found.differences)[:4].mean() and found.word == REFUTED


def test_a_collapsed_seed_opens_a_claim_and_is_counted_apart():
    """Four of five seeds gain 9 points; the fifth learned nothing: no word, and its rate with its interval."""
    lead = 9 + NOISE
    assert judged(CLAIMS["better"], scores=pair(0.0, lead))[0].word == SUPPORTED
    lead[2] = -80.0
    (found,) = judged(CLAIMS["better"], scores=pair(0.0, lead))
    assert found.word == INCONCLUSIVE and found.typical == pytest.approx(8.5) and found.difference < 0
    assert found.ahead == 4 and found.ahead_interval == pytest.approx((0.2836, 0.9949), abs=1e-4)
    (collapsed, whole) = found.collapses
    assert (collapsed.arm, collapsed.seeds, collapsed.n) == ("d", (2,), 5) and whole.seeds == ()
    assert (collapsed.low, collapsed.high) == pytest.approx((0.0051, 0.7164), abs=1e-4)  # Clopper and Pearson
    assert (whole.low, whole.high) == pytest.approx((0.0, 1 - 0.05**0.2)) and 0.45 < whole.high < 0.46
    assert collapse_text(collapsed) == "d: 1 of 5 seeds collapsed (#2; 1 to 72 % of seeds may)"
    assert collapse_text(whole) == "a: 0 of 5 seeds collapsed (up to 45 % of seeds may)"


def test_a_collapse_is_of_what_was_learned_whichever_way_is_better():
    values = {"a": pd.Series([1.0, 1.1, 3.0], index=[4, 5, 6]), "b": pd.Series([4.1, 4.2, 5.0])}
    first, second = collapses(values, 4.0, "test_nll")
    assert first.seeds == (6,) and second.seeds == (0, 1, 2)  # b learned nothing at all, where others did
    assert collapses({"b": values["b"]}, 4.0, "test_nll")[0].seeds == ()  # nobody learned anything


def test_p_of_being_ahead_is_exact():
    assert ahead([1.0, 2.0, 3.0, 0.5, 1.0]) == (5, (pytest.approx(0.025**0.2), 1.0))
    assert ahead([1.0, -2.0, 0.0])[0] == 1


# ---- mean and typical seed ------------------------------------------------------------------------------------------------


def test_where_mean_and_typical_seed_disagree_both_are_said_and_the_claim_is_open():
    (found,) = judged(claim_of("better", margin=0.3), scores=pair(0.6, SKEWED))
    assert found.mean_finding != found.typical_finding and found.word == INCONCLUSIVE
    assert found.difference < found.typical < 0
    assert "mean and typical seed do not say the same: by the mean it would be REFUTED" in found.reason
    said = verdict_sentence(found)
    assert f"mean alone: {found.mean_finding}" in said and f"typical seed alone: {found.typical_finding}" in said
    (mirrored,) = judged(claim_of("better", margin=0.3), scores=pair(0.0, -SKEWED))
    assert mirrored.mean_finding != mirrored.typical_finding and mirrored.word == INCONCLUSIVE
    (agreed,) = judged(claim_of("better", margin=0.3), scores=pair(5.0, SKEWED))
    assert agreed.word == SUPPORTED and "alone" not in verdict_sentence(agreed)


# ---- notes ----------------------------------------------------------------------------------------------------------------


def test_arms_in_two_groups_are_noted():
    scores = steps(2.0)
    assert not judged(CLAIMS["better"], scores=scores)[0].notes
    scores["d"] = scores["a"] + 5 + np.array([0.0, 0.0, 40.0, 40.0, 40.5])
    notes = judged(CLAIMS["better"], scores=scores)[0].notes
    assert [note for note in notes if "the seeds of arm d fall into two groups, 2 below and 3 above" in note]
    assert not any("arm a fall" in note for note in notes)
    assert not judged(CLAIMS["better"], scores=scores[:4])[0].notes  # four seeds are no groups


def disagreeing(lead: float, other: str, difference: float, spread: float = 1.0) -> tuple[str, ...]:
    """Return the notes on a claim about CIDEr with this lead, where another metric differs by so much."""
    second = frame_of(pair(difference, spread * NOISE), metric=other, floor=200.0 if other == "test_nll" else 20.0)
    frame = pd.concat([frame_of(pair(lead)), second[second["metric"] == other]], ignore_index=True)
    return judge_study(plan_of(CLAIMS["better"]), frame, "grammar")[0].notes


def test_metrics_that_disagree_are_noted():
    (note,) = disagreeing(3.0, "SceneF1", -4.0)
    assert "says the opposite: worse by 4" in note and "its 95 % interval excludes zero" in note
    (note,) = disagreeing(-3.0, "SceneF1", 4.0)
    assert "better by 4" in note
    (note,) = disagreeing(3.0, "false-attributes", 4.0)  # more that is false is worse
    assert "worse by 4" in note
    told_already = ("test_nll", 4.0)  # by its own word, beside the claim's
    for other in (
        ("SceneF1", 4.0),
        ("SceneF1", -0.5),
        ("false-attributes", -4.0),
        told_already,
        ("train_seconds", -4.0),
    ):
        assert disagreeing(3.0, *other) == (), other
    assert math.isclose(judged(CLAIMS["better"], scores=pair(3.0))[0].difference, 3.0)
