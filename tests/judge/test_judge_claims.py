"""Verdicts: each word under the numbers that call for it, error rates at the margin, what keeps a claim untestable."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers_runs import CLAIM, make_work_dir, run_key

from gitbench.files import write_json
from gitbench.judge import judge_study
from gitbench.judge import words as answer
from gitbench.judge.claims import INCOMPLETE, INCONCLUSIVE, NOT_TESTABLE, REFUTED, SUPPORTED, decide
from gitbench.judge.compare import paired_difference, smallest_n_sign_flip
from gitbench.judge.words import verdict_sentence
from gitbench.spec import Claim
from gitbench.study.records import build_frame, load_study


def judge(tmp_path, differences=None, *, kind="grammar", change=None, **options):
    """Judge the claim on a fabricated directory; `differences` are written as exact large - base CIDEr by replicate."""
    claim = CLAIM | (change or {})
    if differences is not None:
        options["replicates"] = len(differences)
    work_dir = make_work_dir(tmp_path / "work", claims=(claim,), kind=kind, records_only=True, **options)
    for replicate, difference in enumerate(differences if differences is not None else ()):
        base, large = (work_dir / "runs" / run_key(arm, replicate) / "record.json" for arm in ("base", "large"))
        record = json.loads(large.read_text())
        value = json.loads(base.read_text())["metrics"]["CIDEr"]["value"] + difference
        record["metrics"]["CIDEr"]["value"] = value
        large.write_text(json.dumps(record))
    study = load_study(work_dir, "decoder_size", "cpu", "scenes")
    verdicts = judge_study(study, build_frame(work_dir, [study]), kind)
    return study, verdicts[0]


NOISE = np.array([-1.0, 0.4, 0.9, -0.5, 0.2])  # mean 0, sd 0.74; one-sided 95 % bound at 0.72
IN_POINTS = {"margin": 2.0, "margin_unit": "metric"}


@pytest.mark.parametrize(
    "kind, shift, word",
    [
        ("not_better", -3.0, SUPPORTED),
        ("not_better", 0.0, SUPPORTED),
        ("not_better", 1.2, SUPPORTED),  # an improvement, but credibly less than the margin
        ("not_better", 1.5, INCONCLUSIVE),
        ("not_better", 2.5, INCONCLUSIVE),
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
def test_word_by_where_the_bounds_lie(tmp_path, kind, shift, word):
    _, verdict = judge(tmp_path, NOISE + shift, change=IN_POINTS | {"kind": kind})
    assert verdict.word == word
    assert verdict.difference == pytest.approx(shift) and verdict.n == 5
    low, high = verdict.bounds
    assert verdict.interval[0] < low < shift < high < verdict.interval[1]
    assert (verdict.p < 0.05) == (word == SUPPORTED)
    assert (verdict.further_seeds is None) == (word != INCONCLUSIVE)


def test_improvement_below_the_margin_is_said(tmp_path):
    study, verdict = judge(tmp_path, NOISE + 1.2, change=IN_POINTS)
    assert "small improvement is there, but it is credibly less than the margin" in answer(study, [verdict])


def test_a_sentence_begins_with_a_capital_unless_it_begins_with_an_arm(tmp_path):
    _, decided = judge(tmp_path / "a", NOISE - 3, change=IN_POINTS)
    assert verdict_sentence(decided).startswith("large (4 x 256) brings no improvement")
    _, left = judge(tmp_path / "b", NOISE + 1.5, change=IN_POINTS)
    assert verdict_sentence(left).startswith("It stays open for large (4 x 256)")


def test_improvement_of_unclear_size_is_said(tmp_path):
    _, verdict = judge(tmp_path, NOISE + 1.5, change=IN_POINTS)
    assert "there is an improvement, but it may be smaller or larger than the margin of 2.00 points" in verdict.reason


def test_margin_as_a_share_of_the_range(tmp_path):
    _, verdict = judge(tmp_path, NOISE, ceiling=180.0)
    assert verdict.margin == pytest.approx(0.05 * (180.0 - verdict.floor))


def test_lower_is_better_turns_the_sign(tmp_path):
    """test_nll falls when CIDEr rises: nll = 3 - CIDEr / 50 in the fabricated runs."""
    change = {"metric": "test_nll", "margin": 0.0, "margin_unit": "metric", "kind": "better"}
    means = {"blind": 21.0, "small": 78.0, "base": 80.0, "large": 100.0}
    _, verdict = judge(tmp_path, change=change, means=means, ceiling=None)
    assert verdict.word == SUPPORTED and verdict.difference < 0
    assert "the upper one-sided 95 % bound, \N{MINUS SIGN}0." in verdict.reason and "lies below zero" in verdict.reason
    swapped = change | {"treatment": "base", "reference": "large"}
    _, verdict = judge(tmp_path / "swapped", change=swapped, means=means, ceiling=None)
    assert verdict.word == REFUTED and verdict.difference > 0


@pytest.mark.parametrize("kind", ["not_better", "better", "equivalent"])
def test_error_rates_at_the_margin(kind):
    """At the very edge of a claim, neither SUPPORTED nor REFUTED comes up more often than 5 % of the time."""
    claim = Claim(**CLAIM | IN_POINTS | {"kind": kind})
    basis = {"claim": claim, "treatment": "", "reference": ""}
    rng, trials, words = np.random.default_rng(5), 400, []  # many more: test_judge_simulation.py
    for _ in range(trials):
        base = pd.Series(rng.normal(90.0, 3.0, 5))
        pair = paired_difference(base + rng.normal(2.0, 1.5, 5), base)
        words.append(decide(basis, claim, pair, 2.0, []).word)
    slack = 4 * np.sqrt(0.05 * 0.95 / trials)
    assert words.count(SUPPORTED) / trials <= 0.05 + slack
    assert words.count(REFUTED) / trials <= 0.05 + slack
    assert words.count(INCONCLUSIVE) / trials >= 0.85


def test_further_seeds_shrink_as_the_difference_leaves_the_margin(tmp_path):
    needed = []
    for step, shift in enumerate((1.8, 1.6, 1.4)):
        wide = NOISE * 2 + shift
        _, verdict = judge(tmp_path / str(step), wide, change=IN_POINTS)
        assert verdict.word == INCONCLUSIVE
        needed.append(verdict.further_seeds)
    assert needed[0] > needed[1] > needed[2] > 0


def test_difference_at_the_margin_needs_more_than_a_thousand_seeds(tmp_path):
    study, verdict = judge(tmp_path, NOISE + 2.0, change=IN_POINTS)
    assert verdict.word == INCONCLUSIVE and verdict.further_seeds is None
    assert "more than 1000 further seeds" in answer(study, [verdict])


@pytest.mark.parametrize(
    "options, reason",
    [
        (
            {"means": {"blind": 21.0, "small": 22.0, "base": 25.0, "large": 26.0}},
            "does not reach 1.5 times the blind floor",
        ),
        ({"means": {"blind": 21.0, "small": 80.0, "base": 90.0, "large": 22.0}}, "at the blind floor"),
        ({"means": {"blind": 21.0, "small": 80.0, "base": 178.0, "large": 179.0}}, "at the ceiling"),
        ({"means": {"small": 80.0, "base": 90.0, "large": 91.0}}, "no blind floor"),
        ({"replicates": 2}, "2 paired replicates of the 3"),
        ({"replicates": 1}, "1 paired replicate of the 3"),
        ({"ceiling": None}, "that range is unknown"),
        ({"ceiling": 10.0}, "range is unknown or empty"),
        ({"sd": 0.0}, "do not vary at all"),
    ],
)
def test_what_makes_a_claim_untestable(tmp_path, options, reason):
    study, verdict = judge(tmp_path, **options)
    assert verdict.word == NOT_TESTABLE and reason in verdict.reason
    assert "cannot be tested" in answer(study, [verdict])


def test_better_may_rest_on_an_arm_that_learned_nothing(tmp_path):
    means = {"blind": 21.0, "small": 78.0, "base": 21.5, "large": 91.0}
    _, verdict = judge(tmp_path, change={"kind": "better", "margin": 0.0}, means=means)
    assert verdict.word == SUPPORTED


def test_leave_one_out_ceiling_may_be_exceeded(tmp_path):
    means = {"blind": 21.0, "small": 78.0, "base": 100.0, "large": 101.0}
    _, verdict = judge(tmp_path, kind="leave-one-out", means=means, ceiling=95.0, sd=0.5)
    assert verdict.word == SUPPORTED
    _, verdict = judge(tmp_path / "grammar", kind="grammar", means=means, ceiling=95.0, sd=0.5)
    assert verdict.word == NOT_TESTABLE


@pytest.mark.parametrize("lost", [("large", 4), ("base", 0), ("blind", 2)])
def test_missing_run_of_a_claim_makes_it_incomplete(tmp_path, lost):
    study, verdict = judge(tmp_path, missing=(lost,))
    assert verdict.word == INCOMPLETE and "1 of 15 runs" in verdict.reason
    assert f"{lost[0]} #{lost[1]}" in answer(study, [verdict])


def test_missing_run_of_another_arm_does_not_matter(tmp_path):
    _, verdict = judge(tmp_path, missing=(("small", 1),))
    assert verdict.word == SUPPORTED


def test_overridden_runs_never_enter_a_claim(tmp_path):
    _, clean = judge(tmp_path / "clean")
    study, verdict = judge(tmp_path / "mixed", overridden=(("large", 1),))
    assert verdict.n == 4 and len(verdict.differences) == 4
    assert verdict.differences == tuple(clean.differences[i] for i in (0, 2, 3, 4))
    assert verdict.notes == ("1 run(s) changed by --cfg-options are left out of this verdict",)
    everything = tuple((arm, replicate) for arm in ("blind", "small", "base", "large") for replicate in range(5))
    study, verdict = judge(tmp_path / "all", overridden=everything)
    assert verdict.word == INCOMPLETE and "--cfg-options" in answer(study, [verdict])


def test_scores_with_different_signatures_are_not_compared(tmp_path):
    work_dir = make_work_dir(tmp_path, records_only=True)
    path = work_dir / "runs" / run_key("large", 0) / "record.json"
    record = json.loads(path.read_text())
    record["metrics"]["CIDEr"]["signature"] = "CIDEr-D|another tokenizer"
    path.write_text(json.dumps(record))
    study = load_study(work_dir, "decoder_size", "cpu", "scenes")
    verdict = judge_study(study, build_frame(work_dir, [study]))[0]
    assert verdict.word == INCOMPLETE and "2 different signatures" in verdict.reason


def test_runs_from_two_kinds_of_machine_are_noted(tmp_path):
    work_dir = make_work_dir(tmp_path, records_only=True)
    path = work_dir / "runs" / run_key("large", 0) / "record.json"
    record = json.loads(path.read_text())
    record["cost"]["machine"] = "gpu1"
    path.write_text(json.dumps(record))
    study = load_study(work_dir, "decoder_size", "cpu", "scenes")
    verdict = judge_study(study, build_frame(work_dir, [study]))[0]
    assert verdict.notes == ("runs come from different kinds of machine (cpu2, gpu1)",)


def test_answer_is_one_sentence_with_n_units_and_interval(tmp_path):
    study, verdict = judge(tmp_path, NOISE, change=IN_POINTS)
    assert answer(study, [verdict]) == (
        "On scenes at the cpu profile, large (4 x 256) brings no improvement that reaches the margin over "
        "base (2 x 128): CIDEr difference 0.00 points, 95 % interval \N{MINUS SIGN}0.93 to +0.93, n = 5 paired seeds; "
        "the upper one-sided 95 % bound, +0.72, lies below the margin of 2.00 points."
    )


def test_answer_over_several_claims_counts_them(tmp_path):
    study, verdict = judge(tmp_path, NOISE, change=IN_POINTS)
    _, other = judge(tmp_path / "other", NOISE + 3, change=IN_POINTS)
    text = answer(study, [verdict, other])
    assert text.startswith("On scenes at the cpu profile, of 2 claims 1 supported, 1 refuted: ")
    assert "states no claim" in answer(study, [])


def test_verdict_is_plain_json(tmp_path):
    _, verdict = judge(tmp_path, NOISE)
    write_json(tmp_path / "verdict.json", verdict.as_json())
    values = json.loads((tmp_path / "verdict.json").read_text())
    assert values["word"] == SUPPORTED and values["claim"]["name"] == "larger-no-better"
    assert values["sign_flip_needs"] == smallest_n_sign_flip(0.05, "one-sided") == 5
    assert values["p_sign_flip"] >= 1 / 32


def test_empty_frame_is_incomplete(tmp_path):
    everything = tuple((arm, replicate) for arm in ("blind", "small", "base", "large") for replicate in range(5))
    _, verdict = judge(tmp_path, missing=everything, ceiling=None)
    assert verdict.word == INCOMPLETE and "15 of 15 runs" in verdict.reason
