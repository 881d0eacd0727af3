"""Verdicts: each word under the numbers that call for it, what keeps a claim untestable, families, what a decision costs."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from helpers_judge import CEILING, CLAIMS, NOISE, frame_of, judged, pair, plan_of, steps

from gitbench.judge import answer, judge_study
from gitbench.judge.claims import words_over
from gitbench.judge.sentences import difference_numbers, difference_text, verdict_sentence
from gitbench.judge.verdict import INCOMPLETE, INCONCLUSIVE, NOT_TESTABLE, REFUTED, SUPPORTED


def claim(kind: str, **changes):
    return dataclasses.replace(CLAIMS[kind], **changes)


# ---- two arms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, shift, word",
    [
        ("not_better", -3.0, SUPPORTED),
        ("not_better", 0.0, SUPPORTED),
        ("not_better", 0.5, SUPPORTED),  # an improvement, but credibly less than the margin
        ("not_better", 1.5, INCONCLUSIVE),
        ("not_better", 3.1, REFUTED),
        ("better", 3.1, SUPPORTED),
        ("better", 2.2, INCONCLUSIVE),
        ("better", 0.5, REFUTED),
        ("equivalent", 0.0, SUPPORTED),
        ("equivalent", 1.6, INCONCLUSIVE),
        ("equivalent", -1.6, INCONCLUSIVE),
        ("equivalent", 3.1, REFUTED),
        ("equivalent", -3.5, REFUTED),
    ],
)
def test_word_by_where_the_interval_lies(kind, shift, word):
    (verdict,) = judged(claim(kind, margin=2.0), scores=pair(shift))
    assert verdict.word == word
    assert verdict.difference == pytest.approx(shift) and verdict.n == 5
    low, high = verdict.interval
    assert low < verdict.plain_interval[0] < shift < verdict.plain_interval[1] < high  # five seeds: a lower level
    inside = {"better": (2, np.inf), "not_better": (-np.inf, 2), "equivalent": (-2, 2)}[kind]
    assert (word != SUPPORTED) or (
        inside[0] < low and high < inside[1]
    )  # the interval that is printed is the one that decides
    assert (verdict.p < 0.025) == (word == SUPPORTED) and (verdict.p_refute < 0.025) == (word == REFUTED)
    assert (verdict.further_seeds is None) == (word != INCONCLUSIVE)


FINDINGS = {  # (lead, margin) of the treatment -> what is seen, and what with the arms exchanged
    (6.0, 4.0): ("BETTER", "WORSE"),
    (4.2, 4.0): ("BETTER, PERHAPS BELOW THE MARGIN", "WORSE, PERHAPS BELOW THE MARGIN"),
    (2.0, 4.0): ("BETTER BUT BELOW THE MARGIN", "WORSE BUT BELOW THE MARGIN"),
    (0.0, 4.0): ("EQUIVALENT", "EQUIVALENT"),
    (-0.5, 1.2): ("NOT BETTER BY THE MARGIN", "NOT WORSE BY THE MARGIN"),
    (0.0, 0.5): ("UNDECIDED", "UNDECIDED"),
}


@pytest.mark.parametrize("place", FINDINGS)
def test_what_is_seen_of_a_difference_and_its_mirror_image(place):
    (lead, margin), words = place, FINDINGS[place]
    both = [
        judged(claim("better", margin=margin, treatment=t, reference=r), scores=pair(lead))[0] for t, r in ("da", "ad")
    ]
    assert tuple(each.finding for each in both) == words
    low, high = both[0].interval
    assert both[1].interval == pytest.approx((-high, -low)) and both[1].difference == pytest.approx(-lead)
    said = verdict_sentence(both[0])
    number = difference_numbers(both[0])[0]
    assert said.startswith(f"d (arm d) against a (arm a): CIDEr difference {number} points, 95 % interval")
    assert (
        said.index(number)
        < said.index(words[0])
        < said.index(f"the claim is {'open' if both[0].further_seeds else ''}")
    )


@pytest.mark.parametrize("kind, signs", [("better", (1, -1)), ("not_better", (-1, 1)), ("equivalent", (-1, 1))])
def test_one_margin_for_every_claim_and_direction(kind, signs):
    """10 % of what the base learned, 9 points, whichever way the claim goes; better by 5 credible points is no "better"."""
    one = claim(kind, margin=0.1, margin_unit="learned", margin_reason="")
    words = {1: SUPPORTED, -1: REFUTED}
    for lead, sign in ((12.0, signs[0]), (5.0, signs[1])):
        (found,) = judged(one, scores=pair(lead))
        assert found.word == words[sign] and found.margin == pytest.approx(9.0) and found.learned == pytest.approx(90.0)
        assert found.share == pytest.approx(lead / 90) and found.share_interval[0] < lead / 90 < found.share_interval[1]
    (found,) = judged(one, scores=pair(9.0))
    assert found.word == INCONCLUSIVE and "(+9 to +11 %; margin 10 %)" in verdict_sentence(found)
    (small,) = judged(one, scores=pair(5.0))
    assert small.finding == "BETTER BUT BELOW THE MARGIN" and small.ahead == 5
    assert "BETTER BUT BELOW THE MARGIN of 9.00 points" in verdict_sentence(small)


def test_lower_is_better_turns_the_sign():
    losses = pair(-0.5, NOISE / 10, base=3.0).assign(a=lambda table: 3 + (table["a"] - 3) / 10)
    losses["d"] = losses["a"] - 0.5 + NOISE / 10
    options = {"scores": losses, "metric": "test_nll", "floor": 9.0, "ceiling": None}
    (verdict,) = judged(claim("better", metric="test_nll"), **options)
    assert verdict.word == SUPPORTED and verdict.difference < 0 and verdict.learned == pytest.approx(6.0)
    assert verdict.finding == "BETTER" and verdict.ahead == 5
    (swapped,) = judged(claim("better", metric="test_nll", treatment="a", reference="d"), **options)
    assert swapped.word == REFUTED and swapped.difference > 0 and swapped.finding == "WORSE"


# ---- trend --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slope, margin, direction, word",
    [
        (2.0, 0.0, "up", SUPPORTED),
        (-2.0, 0.0, "up", REFUTED),
        (0.5, 0.0, "up", INCONCLUSIVE),
        (-2.0, 0.0, "down", SUPPORTED),
        (2.0, 4.5, "up", INCONCLUSIVE),
        (2.0, 12.0, "up", REFUTED),
        (-2.0, 1.5, "down", SUPPORTED),
    ],
)
def test_a_trend_rises_at_every_step_and_by_the_margin_in_all(slope, margin, direction, word):
    (verdict,) = judged(claim("trend", margin=margin, direction=direction), scores=steps(slope))
    assert verdict.word == word and verdict.difference == pytest.approx(3 * slope) and verdict.n == 5
    assert verdict.differences == pytest.approx(3 * (slope + NOISE))
    assert [(each.reference, each.treatment) for each in verdict.steps] == [("a", "b"), ("b", "d")]
    assert [each.difference for each in verdict.steps] == pytest.approx([slope, 2 * slope])
    said = verdict_sentence(verdict)
    assert "from a (arm a) over b to d (arm d)" in said.lower() or "From a (arm a) over b to d (arm d)" in said
    assert "CIDEr change from first to last arm" in said


@pytest.mark.parametrize(
    "middle, word", [(4.0, SUPPORTED), (0.0, INCONCLUSIVE), (8.0, INCONCLUSIVE), (-4.0, REFUTED), (12.0, REFUTED)]
)
def test_the_middle_of_a_trend_counts(middle, word):
    """The whole rises by 8 each time; the middle arm lies between, at one of the ends, or beyond one of them."""
    base, other = 110 + np.linspace(-3, 3, 5), NOISE[[2, 0, 4, 1, 3]]
    scores = pd.DataFrame({"a": base, "b": base + middle + other, "d": base + 8 + NOISE})
    (found,) = judged(claim("trend", margin=2.0), scores=scores)
    assert found.word == word and found.difference == pytest.approx(8.0)
    assert word != INCONCLUSIVE or "each step must go its way by itself" in found.reason


def test_a_falling_loss_is_a_trend_down():
    """The direction is the number's own: a likelihood loss that falls goes down, though less is better."""
    scores = steps(-0.1, NOISE * 0.05, start=3.0) * 0.1 + 1.8
    options = {"scores": scores, "floor": 4.0, "ceiling": 1.0, "metric": "test_nll"}
    down, up = (claim("trend", metric="test_nll", direction=each) for each in ("down", "up"))
    assert judged(down, **options)[0].word == SUPPORTED and judged(up, **options)[0].word == REFUTED


def test_each_step_of_a_trend_has_its_own_pairs_and_needs_room():
    scores = steps(2.0)
    scores.loc[4, "b"] = np.nan
    (verdict,) = judged(CLAIMS["trend"], scores=scores)
    assert verdict.n == 5 and verdict.differences == pytest.approx(3 * (2.0 + NOISE))  # of first and last arm
    assert verdict.steps[0].difference == pytest.approx((2.0 + NOISE)[:4].mean())
    (missing,) = judged(CLAIMS["trend"], scores=scores[["a", "d"]])
    assert missing.word == INCOMPLETE
    (flat,) = judged(CLAIMS["trend"], scores=steps(0.1, start=CEILING))
    assert flat.word == NOT_TESTABLE and "ceiling" in flat.reason


# ---- what is missing ------------------------------------------------------------------------------------------------


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


# ---- several claims -----------------------------------------------------------------------------------------------


def family(lead: float, sign: int = 1) -> pd.DataFrame:
    """Return the scores of a, of b which leads by so much, of c which hardly leads, and of d which does by 6."""
    shared = 110 + np.linspace(-3, 3, 5)
    leads = {"a": 0.0, "b": lead + NOISE, "c": 0.1 + NOISE[::-1], "d": 6 + NOISE[[1, 2, 0, 3, 4]]}
    return pd.DataFrame({arm: shared + sign * own for arm, own in leads.items()})


def test_holm_takes_back_a_word_that_stands_alone():
    """b leads a by what is p = 0.017 by itself; two more claims of the ablation leave it open."""
    near, wide, third = (claim("better", name=arm, treatment=arm) for arm in ("b", "d", "c"))
    (alone,) = judged(near, scores=family(1.2))
    assert alone.word == SUPPORTED and alone.p == alone.p_holm and 0.0125 < alone.p < 0.025 and alone.family_size == 1
    first, second, last = judged(near, wide, third, scores=family(1.2))
    assert (first.word, second.word) == (INCONCLUSIVE, SUPPORTED)
    assert first.p == alone.p and first.p_holm == pytest.approx(2 * alone.p) and first.family_size == 3
    assert "by itself it would be SUPPORTED (p = 0.01" in first.reason and "the 3 claims" in first.reason
    assert first.further_seeds is not None and "further seed" in verdict_sentence(first)
    # over a whole board: the claims of other studies count as well
    assert words_over([alone]) == [SUPPORTED] and words_over([alone, first, last]) == [INCONCLUSIVE] * 3
    assert words_over([second, second, alone]) == [SUPPORTED, SUPPORTED, SUPPORTED]
    below = family(1.2, -1).assign(c=family(1.25, -1)["b"])  # refuted each by itself
    claims = [claim("better", name=arm, treatment=arm) for arm in "bc"]
    both, single = judged(*claims, scores=below), [judged(each, scores=below)[0] for each in claims]
    assert {each.word for each in single} == {REFUTED} and {each.word for each in both} == {INCONCLUSIVE}
    assert both[0].p_refute_holm == pytest.approx(max(2 * both[1].p_refute, both[0].p_refute))


def test_a_claim_that_is_not_judged_counts_all_the_same():
    """So that nothing that arrives later can take a word back."""
    near = claim("better", name="near", treatment="b")
    plan, scores = plan_of(near, CLAIMS["better"], runs=(("d", 0),)), family(1.2)[["a", "b", "c"]]
    first, second = judge_study(plan, frame_of(scores), "grammar")
    assert second.word == INCOMPLETE and second.p is None and second.p_holm is None
    assert first.word == INCONCLUSIVE and first.p_holm == pytest.approx(2 * first.p)


# ---- what a decision costs ----------------------------------------------------------------------------------------


def test_further_seeds_shrink_as_the_difference_leaves_the_margin():
    near, nearer, far, never = (
        judged(claim("not_better"), scores=pair(shift, 2 * NOISE))[0].further_seeds for shift in (1.2, 1.4, 1.0, 2.0)
    )
    assert nearer > near > far > 0 and never is None
    (verdict,) = judged(claim("not_better"), scores=pair(2.0))
    assert "more than 1000 further seeds" in verdict_sentence(verdict)


def test_further_seeds_come_with_the_time_they_take():
    (verdict,) = judged(CLAIMS["better"], scores=pair(0.5))
    assert verdict.word == INCONCLUSIVE and verdict.further_seeds > 2
    # two arms and the blind one of 30 s on a machine that runs two at a time
    assert verdict.further_seconds == pytest.approx(verdict.further_seeds * 45.0)
    (one,) = judged(CLAIMS["better"], scores=pair(0.5), machine="h100")
    assert one.further_seconds == pytest.approx(verdict.further_seeds * 90.0)
    assert judged(CLAIMS["better"], scores=pair(5.0))[0].further_seconds is None


# ---- words --------------------------------------------------------------------------------------------------------


def test_the_answer_is_one_sentence_with_n_units_and_interval():
    plan = plan_of(CLAIMS["not_better"])
    (verdict,) = judged(CLAIMS["not_better"], scores=pair(0.0))
    said = answer(plan, [verdict])
    assert said.startswith("On x at the x profile, d (arm d)") and "\n" not in said
    for number in (
        "0.00 points",
        "\N{MINUS SIGN}1.03 to +1.03",
        "n = 5",
        "at most +1.03 points",
        "less than +2.00 points",
    ):
        assert number in said, number
    (other,) = judged(CLAIMS["not_better"], scores=pair(3.5))
    assert ", of 2 claims 1 supported, 1 refuted: " in answer(plan, [verdict, other])
    assert "states no claim" in answer(plan, [])


def test_a_difference_is_worded_in_one_place():
    (verdict,) = judged(CLAIMS["better"], scores=pair(1.2))
    assert difference_numbers(verdict) == ("+1.20", "+0.17", "+2.23")
    assert difference_text(verdict, short=True) == "CIDEr +1.20 points (+0.17 to +2.23), n = 5"
    assert difference_text(dataclasses.replace(verdict, difference=None)) == "no difference measured"


@pytest.mark.parametrize("kind", list(CLAIMS))
def test_every_verdict_is_plain_json_and_a_sentence(kind):
    rng, found = np.random.default_rng(9), set()
    for _ in range(10):
        leads = np.array([0.0, 3, 6, 9]) * rng.normal(0.5, 2.5)
        scores = pd.DataFrame(rng.normal(120.0, 2.0, (6, 4)) + leads, columns=list("abcd"))
        (verdict,) = judged(CLAIMS[kind], scores=scores)
        assert json.loads(json.dumps(dataclasses.asdict(verdict), allow_nan=False))["claim"]["kind"] == kind
        assert verdict_sentence(verdict).endswith(".") and verdict.reason and verdict.finding
        found.add(verdict.word)
    assert len(found) >= 2  # the studies lie on both sides of something
