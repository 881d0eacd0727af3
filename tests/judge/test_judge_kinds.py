"""The kinds of claims beyond two arms, Holm's families, the exact test, what a decision costs, and what a file may state."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from gitbench.ablations import check_ablation, check_claims
from gitbench.errors import GitbenchError
from gitbench.judge import judge_claim, judge_study
from gitbench.judge.claims import INCOMPLETE, INCONCLUSIVE, NOT_TESTABLE, REFUTED, SUPPORTED
from gitbench.judge.family import holm
from gitbench.judge.rules import least_p, p_values
from gitbench.judge.sample import slopes
from gitbench.judge.sequential import sequential_p
from gitbench.judge.words import answer, measured_difference, verdict_sentence
from gitbench.report.figures import claim_sides, difference_figure
from gitbench.spec import Ablation, Arm, Claim, TaskSpec
from gitbench.study.records import COLUMNS, PlannedRun, Study, StudyArm, load_study
from gitbench.tasks import claims_for

FLOOR, CEILING = 20.0, 180.0


def claim_of(kind: str, **changes) -> Claim:
    values = {"name": kind, "kind": kind, "metric": "CIDEr", "treatment": "d", "reference": "a", "margin": 0.0}
    values |= {"margin_unit": "metric", "margin_reason": "why", "says": "It is so.", "quote": "so", "where": "p. 1"}
    return Claim(**{**values, "confidence": "SQ", **changes})


ALONG = (("a", 0.0), ("b", 1.0), ("d", 3.0))
CLAIMS = {
    "better": claim_of("better"),
    "not_better": claim_of("not_better", margin=2.0),
    "equivalent": claim_of("equivalent", margin=4.0),
    "interaction": claim_of("interaction", treatment_from="c", reference="b", reference_from="a"),
    "trend": claim_of("trend", along=ALONG, along_unit="doubling of the images"),
    "threshold": claim_of("threshold", reference="", level=92.0),
}


def study_of(*claims: Claim, arms: str = "abcd", runs: tuple[PlannedRun, ...] = ()) -> Study:
    listed = [StudyArm(name=name, role="arm", variants={}, label=f"arm {name}") for name in arms]
    listed.append(StudyArm(name="blind", role="floor", variants={}, label="blind"))
    texts = dict.fromkeys(("profile", "data", "data_fingerprint", "command", "title", "question", "axis"), "x")
    return Study(ablation="ab", base="a", claims=claims, arms=tuple(listed), runs=runs, yardstick_key=None, **texts)


def frame_of(scores: pd.DataFrame, *, floor=FLOOR, ceiling=CEILING, metric="CIDEr", seconds=30.0, machine="cpu2"):
    """Return the frame of a study: `scores` is replicate x arm, `floor` a number or a list by replicate, and costs."""
    shared = dict.fromkeys(COLUMNS) | {"overridden": False, "signature": "s", "machine": machine, "metric": metric}
    rows = [
        shared | {"arm": arm, "role": "arm", "replicate": replicate, "value": value}
        for arm in scores.columns
        for replicate, value in scores[arm].dropna().items()
    ]
    rows += [{**row, "metric": "seconds", "value": seconds, "signature": None} for row in rows]
    floors = floor if isinstance(floor, list) else [floor] * len(scores)
    rows += [
        shared | {"arm": "blind", "role": "floor", "replicate": at, "value": value} for at, value in enumerate(floors)
    ]
    if ceiling is not None:
        rows.append(shared | {"arm": "ceiling", "role": "ceiling", "value": ceiling, "machine": None})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"replicate": "Int64", "value": "float64", "overridden": "bool"})


NOISE = np.array([-1.0, 0.4, 0.9, -0.5, 0.2])  # mean 0


def steps(slope: float, noise: np.ndarray = NOISE, start: float = 90.0) -> pd.DataFrame:
    """Arms on a line over their places: a at 0, b at 1, c at 2, d at 3; the slope varies by replicate as `noise`."""
    base = start + np.linspace(-3, 3, len(noise))  # what the arms of one replicate have in common
    return pd.DataFrame({arm: base + place * (slope + noise) for place, arm in enumerate("abcd")})


# ---- trend --------------------------------------------------------------------------------------------------------


def test_slopes_are_those_of_least_squares():
    scores = np.random.default_rng(0).normal(0, 1, (7, 4))
    places = (0.0, 1.0, 2.5, 7.0)
    assert slopes(scores, places) == pytest.approx([np.polyfit(places, row, 1)[0] for row in scores])


@pytest.mark.parametrize(
    "slope, margin, direction, word",
    [
        (2.0, 0.0, "up", SUPPORTED),
        (-2.0, 0.0, "up", REFUTED),
        (0.5, 0.0, "up", INCONCLUSIVE),
        (-2.0, 0.0, "down", SUPPORTED),
        (2.0, 0.0, "down", REFUTED),
        (2.0, 1.0, "up", SUPPORTED),
        (2.0, 1.5, "up", INCONCLUSIVE),
        (2.0, 4.0, "up", REFUTED),
        (-2.0, 1.0, "down", SUPPORTED),
    ],
)
def test_trend_by_its_slope_per_step(slope, margin, direction, word):
    claim = dataclasses.replace(CLAIMS["trend"], margin=margin, direction=direction)
    study = study_of(claim)
    verdict = judge_study(study, frame_of(steps(slope)), "grammar")[0]
    assert verdict.word == word and verdict.difference == pytest.approx(slope) and verdict.n == 5
    assert verdict.differences == pytest.approx(slope + NOISE)
    assert verdict.treatment_mean - verdict.reference_mean == pytest.approx(3 * slope)
    said = answer(study, [verdict])
    assert "CIDEr slope" in said and "points per doubling of the images" in said
    if word in (SUPPORTED, REFUTED):
        verb = {"up": ("rises", "does not rise"), "down": ("falls", "does not fall")}[direction][word == REFUTED]
        by = " by more than the margin" * bool(margin)
        assert f"CIDEr {verb}{by} from a (arm a) over b to d (arm d): " in said
    else:
        assert "it stays open for the trend from a (arm a)" in said


def test_a_falling_loss_is_a_trend_down():
    """The direction is the number's own: a likelihood loss that falls goes down, though less is better."""
    losses = steps(-0.1, NOISE * 0.05, start=3.0)
    claim = dataclasses.replace(CLAIMS["trend"], metric="test_nll", direction="down")
    frame = frame_of(losses, floor=4.0, ceiling=1.0, metric="test_nll")
    verdict = judge_study(study_of(claim), frame, "grammar")[0]
    assert verdict.word == SUPPORTED and "the upper one-sided 95 % bound" in verdict.reason and verdict.difference < 0
    assert judge_study(study_of(dataclasses.replace(claim, direction="up")), frame, "grammar")[0].word == REFUTED


def test_a_trend_needs_all_its_arms_in_a_replicate_and_room_for_its_size():
    scores = steps(2.0)
    scores.loc[4, "b"] = np.nan
    verdict = judge_study(study_of(CLAIMS["trend"]), frame_of(scores), "grammar")[0]
    assert verdict.n == 4 and verdict.differences == pytest.approx((2.0 + NOISE)[:4])
    runs = (PlannedRun(arm="b", replicate=4, run_key="k"),)
    verdict = judge_study(study_of(CLAIMS["trend"], runs=runs), frame_of(scores), "grammar")[0]
    assert verdict.word == INCOMPLETE and "1 of 1 runs" in verdict.reason and "b #4" in verdict.reason
    low = steps(12.0, start=FLOOR)  # the smallest arm is at the floor: fine for "rises", not for "by so much"
    assert judge_study(study_of(CLAIMS["trend"]), frame_of(low), "grammar")[0].word == SUPPORTED
    sized = judge_study(study_of(dataclasses.replace(CLAIMS["trend"], margin=1.0)), frame_of(low), "grammar")[0]
    assert sized.word == NOT_TESTABLE and "at the blind floor" in sized.reason
    flat = judge_study(study_of(CLAIMS["trend"]), frame_of(steps(0.1, start=CEILING)), "grammar")[0]
    assert flat.word == NOT_TESTABLE and "ceiling" in flat.reason


# ---- threshold ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "level, direction, margin, word",
    [
        (88.0, "up", 0.0, SUPPORTED),
        (92.0, "up", 0.0, REFUTED),
        (90.5, "up", 0.0, INCONCLUSIVE),
        (92.0, "down", 0.0, SUPPORTED),
        (88.0, "down", 0.0, REFUTED),
        (88.0, "up", 1.0, SUPPORTED),
        (88.0, "up", 5.0, REFUTED),
    ],
)
def test_threshold_by_where_the_mean_lies(level, direction, margin, word):
    claim = dataclasses.replace(CLAIMS["threshold"], level=level, direction=direction, margin=margin)
    study = study_of(claim)
    verdict = judge_study(study, frame_of(pd.DataFrame({"d": 90.0 + NOISE})), "grammar")[0]
    assert verdict.word == word and verdict.difference == pytest.approx(90 - level)
    assert (verdict.treatment_mean, verdict.reference_mean) == (pytest.approx(90.0), level)
    said = verdict_sentence(verdict)
    if word == SUPPORTED:
        assert said.startswith(
            f"d (arm d) lies {'above' if direction == 'up' else 'below'} the level of {level:g} points"
        )
    assert "distance from the level" in said and "n = 5 seeds" in said


def test_a_level_in_the_range_carries_the_floor_s_own_spread():
    claim = dataclasses.replace(CLAIMS["threshold"], level=0.5, level_unit="range")
    floors = [16.0, 24.0, 18.0, 22.0, 20.0]
    frame = frame_of(pd.DataFrame({"d": 101.0 + NOISE}), floor=floors)
    verdict = judge_study(study_of(claim), frame, "grammar")[0]
    levels = np.array(floors) + 0.5 * (CEILING - np.array(floors))
    assert verdict.differences == pytest.approx(101.0 + NOISE - levels) and verdict.word == INCONCLUSIVE
    assert (
        verdict.reference == "50 % of the range from floor to ceiling"
        and "n = 5 paired seeds" in measured_difference(verdict)
    )
    steady = judge_study(study_of(claim), frame_of(pd.DataFrame({"d": 101.0 + NOISE})), "grammar")[0]
    assert steady.word == SUPPORTED
    unknown = judge_study(study_of(claim), frame_of(pd.DataFrame({"d": 101.0 + NOISE}), ceiling=None), None)[0]
    assert unknown.word == NOT_TESTABLE and "that range is unknown" in unknown.reason


@pytest.mark.parametrize("level", [FLOOR, 10.0, CEILING, 200.0])
def test_a_level_outside_the_range_says_nothing(level):
    claim = dataclasses.replace(CLAIMS["threshold"], level=level)
    verdict = judge_study(study_of(claim), frame_of(pd.DataFrame({"d": 90.0 + NOISE})), "grammar")[0]
    assert verdict.word == NOT_TESTABLE and "between the blind floor and the ceiling" in verdict.reason


def test_an_arm_at_the_floor_supports_no_threshold():
    claim = dataclasses.replace(CLAIMS["threshold"], level=60.0, direction="down")
    verdict = judge_study(study_of(claim), frame_of(pd.DataFrame({"d": 21.0 + NOISE})), "grammar")[0]
    assert verdict.word == NOT_TESTABLE and "blind floor" in verdict.reason


# ---- families -----------------------------------------------------------------------------------------------------


def test_holm_is_that_of_statsmodels():
    rng = np.random.default_rng(1)
    for size in (1, 2, 3, 7):
        p = rng.uniform(0, 0.2, (2, size))
        assert holm(p) == pytest.approx(np.array([multipletests(row, method="holm")[1] for row in p]))
    assert holm([0.03]).tolist() == [0.03]


def judged(*claims: Claim, scores: pd.DataFrame, **options):
    return judge_study(study_of(*claims, **options), frame_of(scores), "grammar")


def test_holm_takes_back_a_word_that_stands_alone():
    """b leads a by what is p = 0.03 by itself; two more claims of the ablation leave it open, a family of its own not."""
    scores = pd.DataFrame({"a": 90.0 + np.zeros(5)})
    scores["b"], scores["c"], scores["d"] = 90.85 + NOISE, 90.1 + NOISE[::-1], 96 + NOISE
    near, wide, third = (dataclasses.replace(CLAIMS["better"], name=arm, treatment=arm) for arm in ("b", "d", "c"))
    alone = judged(near, scores=scores)[0]
    assert alone.word == SUPPORTED and alone.p == alone.p_holm and 0.025 < alone.p < 0.05
    assert (alone.family, alone.family_size) == ("ab", 1)
    first, second, _ = judged(near, wide, third, scores=scores)
    assert (first.word, second.word) == (INCONCLUSIVE, SUPPORTED)
    assert first.p == alone.p and first.p_holm == pytest.approx(2 * alone.p) and first.family_size == 3
    assert (
        "by itself it would be SUPPORTED (p = 0.0" in first.reason
        and "among the 3 claims of its family" in first.reason
    )
    assert first.further_seeds is not None and "further seed" in verdict_sentence(first)
    own = judged(dataclasses.replace(near, family="own"), wide, third, scores=scores)
    assert own[0].word == SUPPORTED and own[0].family == "own" and own[1].family_size == 2
    study = study_of(near, wide, third)
    assert judge_claim(study, near, frame_of(scores), "grammar") == first  # one claim is judged among its family too
    stranger = dataclasses.replace(near, name="stranger")
    assert judge_claim(study, stranger, frame_of(scores), "grammar").family_size == 1


def test_refutations_are_corrected_by_themselves():
    scores = pd.DataFrame({"a": 90.0 + np.zeros(5)})
    scores["b"], scores["c"] = 89.15 + NOISE, 89.1 + NOISE[::-1]
    claims = [dataclasses.replace(CLAIMS["better"], name=arm, treatment=arm) for arm in "bc"]
    alone = [judged(claim, scores=scores)[0].word for claim in claims]
    both = judged(*claims, scores=scores)
    assert alone == [REFUTED, REFUTED] and [each.word for each in both] == [INCONCLUSIVE, INCONCLUSIVE]
    assert both[0].p_refute_holm == pytest.approx(max(2 * both[1].p_refute, both[0].p_refute))


def test_a_claim_that_is_not_judged_counts_all_the_same():
    """So that nothing that arrives later can take a word back."""
    scores = pd.DataFrame({"a": 90.0 + np.zeros(5), "b": 90.85 + NOISE})
    near = dataclasses.replace(CLAIMS["better"], name="near", treatment="b")
    runs = (PlannedRun(arm="d", replicate=0, run_key="k"),)
    first, second = judged(near, CLAIMS["better"], scores=scores, runs=runs)
    assert second.word == INCOMPLETE and second.p is None and second.p_holm is None
    assert first.word == INCONCLUSIVE and first.p_holm == pytest.approx(2 * first.p)


# ---- the exact test -----------------------------------------------------------------------------------------------


def test_too_few_seeds_for_the_exact_test():
    claim = dataclasses.replace(CLAIMS["better"], test="sign_flip")
    rng = np.random.default_rng(2)
    scores = pd.DataFrame(rng.normal(90, 1, (7, 4)) + [0, 0, 20, 20], columns=list("abcd"))
    few = judged(claim, scores=scores[:4])[0]
    assert few.word == NOT_TESTABLE and few.p is None
    assert "4 paired replicates are too few for the exact test" in few.reason
    assert "its smallest p is 0.062; 5 replicates can" in few.reason
    enough = judged(claim, scores=scores[:5])[0]
    assert enough.word == SUPPORTED and enough.p == enough.p_sign_flip == 1 / 32
    assert enough.reason == "the exact sign-flip test decides: p = 0.031"
    # two exact claims: 5 seeds reach 2/32 at best, 6 reach 2/64
    two = (claim, dataclasses.replace(claim, name="second", treatment="c"))
    words = [[each.word for each in judged(*two, scores=scores[:n])] for n in (5, 6)]
    assert words == [[NOT_TESTABLE] * 2, [SUPPORTED] * 2]
    assert "Holm multiplies that by up to 2; 6 replicates can" in judged(*two, scores=scores[:5])[0].reason
    assert judged(dataclasses.replace(claim, test="t"), scores=scores[:4])[0].word == SUPPORTED


def test_least_p_is_what_the_largest_effect_gives():
    for n in (3, 5, 8):
        huge = 1e9 + np.arange(n, dtype=float)
        for method in ("sign_flip", "sequential"):
            assert least_p(method, n) == pytest.approx(float(p_values("better", huge, 0.0, method)[0]), rel=1e-3)
    assert least_p("t", 3) == 0.0 and least_p("sequential", 2) == 1.0


def test_sequential_p_values_are_those_of_the_sequential_test():
    rng = np.random.default_rng(3)
    data = rng.normal(0.3, 1, (12, 6))
    above, below = p_values("better", data, 0.2, "sequential")
    assert above == pytest.approx([sequential_p(row, 0.2, "greater") for row in data])
    assert below == pytest.approx([sequential_p(row, 0.2, "less") for row in data])


def test_no_margin_makes_refuting_equivalence_a_two_sided_test():
    data = np.random.default_rng(4).normal(0, 1, (4000, 5))
    refuted = p_values("equivalent", data, 0.0)[1] < 0.05
    assert refuted.mean() == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 4000))


# ---- what a decision costs ----------------------------------------------------------------------------------------


def test_further_seeds_come_with_the_time_they_take():
    study, scores = study_of(CLAIMS["better"]), pd.DataFrame({"a": 90.0 + np.zeros(5), "d": 90.5 + NOISE})
    verdict = judge_study(study, frame_of(scores, seconds=30.0), "grammar")[0]
    assert verdict.word == INCONCLUSIVE and verdict.further_seeds > 2
    # two arms of 30 s on a machine that runs two at a time
    assert verdict.further_seconds == pytest.approx(verdict.further_seeds * 30.0)
    assert "on this kind of machine) would decide it with 80 % power" in verdict_sentence(verdict)
    one = judge_study(study, frame_of(scores, machine="h100"), "grammar")[0]
    assert one.further_seconds == pytest.approx(verdict.further_seeds * 60.0)
    four = judge_study(study, frame_of(scores), "grammar", at_once=4)[0]
    assert four.further_seconds == pytest.approx(verdict.further_seeds * 15.0)
    decided = judge_study(study, frame_of(scores + pd.DataFrame({"a": [0] * 5, "d": [5] * 5})), "grammar")[0]
    assert decided.word == SUPPORTED and decided.further_seconds is None


def test_a_claim_among_others_needs_more_seeds_than_alone():
    scores = pd.DataFrame({"a": 90.0 + np.zeros(5), "b": 90.1 + NOISE, "d": 90.5 + NOISE})
    claims = (CLAIMS["better"], dataclasses.replace(CLAIMS["better"], name="other", treatment="b"))
    alone, among = judged(claims[0], scores=scores)[0], judged(*claims, scores=scores)[0]
    assert among.further_seeds > alone.further_seeds


# ---- what an ablation may state -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claim, problem",
    [
        (claim_of("trend"), "names the arms that it runs along"),
        (claim_of("trend", along=(("a", 0.0), ("d", 1.0))), "at least 3 different arms"),
        (claim_of("trend", along=(("a", 0.0), ("b", 0.0), ("d", 1.0))), "must rise, and are 0, 0, 1"),
        (claim_of("trend", along=(("b", 0.0), ("a", 1.0), ("d", 2.0))), "use reference='b', treatment='d'"),
        (claim_of("better", along=ALONG), "a trend, and nothing else"),
        (claim_of("threshold", reference=""), "has a level in place of a reference"),
        (claim_of("threshold", level=5.0), "has a level in place of a reference"),
        (claim_of("better", level=5.0), "has a level in place of a reference"),
        (claim_of("better", reference=""), "has a level in place of a reference"),
        (claim_of("better", direction="down"), "swap treatment and reference"),
        (claim_of("better", test="bootstrap"), "test 'bootstrap' is unknown: use t or sign_flip"),
        (claim_of("better", margin=-1.0), "margin of -1 is negative"),
        (claim_of("worse"), "unknown kind of claim 'worse' of ab"),
        (claim_of("interaction"), "names treatment_from and reference_from"),
        (claim_of("better", margin=math.nan), "must be finite numbers"),
        (claim_of("threshold", reference="", level=math.inf), "must be finite numbers"),
        (claim_of("trend", along=(("a", 0.0), ("b", math.nan), ("d", 1.0))), "must be finite numbers"),
        (claim_of("better", margin=5.0, margin_unit="range"), "margin of 5 is the whole range .* use a share"),
        (claim_of("equivalent"), "within a margin of 0: state one above 0"),
        (claim_of("better", margin_reason=" "), "gives no margin_reason"),
        (claim_of("better", confidence="U"), "confidence 'U' is none of S, SQ, D, H"),
    ],
)
def test_claims_that_cannot_be_judged_are_refused(claim, problem):
    with pytest.raises(GitbenchError, match=problem) as caught:
        check_claims(Ablation(name="ab", title="", question="", axis="decoder", arms={}, claims=(claim,)))
    assert "\n" not in str(caught.value)


def test_good_claims_are_accepted_and_names_must_differ():
    ablation = Ablation(name="ab", title="", question="", axis="decoder", arms={}, claims=tuple(CLAIMS.values()))
    check_claims(ablation)
    assert CLAIMS["trend"].arms == ("d", "a", "b") and CLAIMS["threshold"].arms == ("d",)
    with pytest.raises(GitbenchError, match="two claims have one name"):
        check_claims(dataclasses.replace(ablation, claims=(CLAIMS["better"], CLAIMS["better"])))


def test_names_that_latex_could_not_tell_apart_are_refused_before_anything_runs():
    def with_claims(*names: str) -> Ablation:
        claims = tuple(claim_of("better", name=name) for name in names)
        return Ablation(name="ab", title="", question="", axis="decoder", arms={}, claims=claims)

    check_claims(with_claims("a-b", "a-c", "ab2"))
    for names, said in (
        (("a-b", "aB"), "'a-b' and 'aB' differ in no letter"),
        (("a", "\N{GREEK SMALL LETTER BETA}"), "has no letter of a to z"),
    ):
        with pytest.raises(GitbenchError, match=said):
            check_claims(with_claims(*names))
    arms = tuple(Arm(name=name, variants={"decoder": "self_1x64"}) for name in ("base", "Large", "large"))
    with pytest.raises(GitbenchError, match="'Large' and 'large' differ in no letter: rename one"):
        check_ablation(Ablation(name="ab", title="", question="", axis="decoder", arms={"smoke": arms}))


def test_another_task_drops_what_is_in_points_of_captions():
    level = claim_of("threshold", reference="", level=0.5, level_unit="range")
    claims = (*CLAIMS.values(), level)
    kept = claims_for(claims, TaskSpec(name="vqa"))
    assert [claim.name for claim in kept] == ["better", "interaction", "trend", "threshold"]
    assert kept[-1].level_unit == "range" and {claim.metric for claim in kept} == {"VQA"}
    assert claims_for(claims, TaskSpec()) == claims


# ---- what a reader is told of skewed noise, and what is no draw at all ----------------------------------------------


def test_noise_of_one_arm_alone_is_said():
    even = judged(CLAIMS["better"], scores=steps(2.0))[0]
    assert not even.notes
    (note,) = judged(CLAIMS["threshold"], scores=steps(2.0))[0].notes
    assert "rests on the noise of one arm, d" in note and "up to 17 % of studies" in note
    wide = pd.DataFrame({"a": 90 + NOISE[::-1] / 30, "d": 95 + 4 * NOISE})
    (note,) = judged(CLAIMS["better"], scores=wide)[0].notes
    assert note.startswith("arm d varies 120 times as much as any other")
    still = pd.DataFrame({"a": 90 + 0 * NOISE, "d": 95 + 4 * NOISE})
    assert "arm d varies alone" in judged(CLAIMS["better"], scores=still)[0].notes[0]


def test_differences_that_vary_by_rounding_alone_are_no_draws():
    scores = pd.DataFrame({"a": 96 + 40 * NOISE})
    scores["d"] = scores["a"] + 1 / 3
    assert scores["d"].sub(scores["a"]).std() > 0  # by rounding
    verdict = judged(CLAIMS["better"], scores=scores)[0]
    assert verdict.word == NOT_TESTABLE and "do not vary at all" in verdict.reason


DAMAGE = {
    "twice": ("runs", {"replicate": 0}),
    "no arm": ("runs", {"arm": "z"}),
    "a way out": ("runs", {"run_key": "../../b"}),
    "kind": ("claims", {"kind": "sure"}),
    "margin": ("claims", {"margin": math.nan}),
    "text": ("claims", {"margin": "wide"}),
}


@pytest.mark.parametrize("change", DAMAGE)
def test_a_study_that_does_not_fit_together_is_damaged(tmp_path, change):
    runs = tuple(PlannedRun(arm="a", replicate=each, run_key=str(each)) for each in (0, 1))
    values = dataclasses.asdict(study_of(CLAIMS["better"], runs=runs))
    part, update = DAMAGE[change]
    values[part] = [*values[part][:-1], values[part][-1] | update]
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "ab.x.x.json").write_text(json.dumps(values))
    with pytest.raises(GitbenchError, match="damaged: delete it and run the ablation again"):
        load_study(tmp_path, "ab", "x", "x")


@pytest.mark.parametrize("kind", list(CLAIMS))
def test_every_kind_is_written_read_and_drawn(tmp_path, kind):
    study = study_of(CLAIMS[kind])
    values = {**dataclasses.asdict(study), "claims": [{**dataclasses.asdict(CLAIMS[kind]), "gone": 1}]}
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "ab.x.x.json").write_text(json.dumps(values))
    assert load_study(tmp_path, "ab", "x", "x").claims == (CLAIMS[kind],)
    scores = steps(2.0)
    verdict = judge_study(study, frame_of(scores), "grammar")[0]
    json.dumps(verdict.as_json(), allow_nan=False)
    assert all(claim_sides(verdict.claim)) and difference_figure([verdict]).axes
    assert answer(study, [verdict]).endswith(".")


def test_a_study_from_before_these_fields_reads_as_it_was(tmp_path):
    old = {key: value for key, value in dataclasses.asdict(CLAIMS["better"]).items() if key in OLD}
    values = {**dataclasses.asdict(study_of()), "claims": [old]}
    del values["task"]
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "ab.x.x.json").write_text(json.dumps(values))
    study = load_study(tmp_path, "ab", "x", "x")
    assert study.claims == (CLAIMS["better"],) and study.task == "caption"


OLD = (
    *("name", "kind", "metric", "treatment", "reference", "margin", "margin_unit", "margin_reason"),
    *("says", "quote", "where", "confidence"),
)
