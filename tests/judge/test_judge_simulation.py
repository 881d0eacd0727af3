"""The judge on thousands of synthetic studies with known truth: a small version of the tables in `docs/judge.md`."""

import math

import numpy as np
import pandas as pd
import pytest
from gitbench.judge.simulate import (
    ALONE,
    BEGIN,
    END,
    SEEDS,
    SETTINGS,
    coverage,
    error,
    family_error,
    power,
    write_into,
)
from test_judge_kinds import CLAIMS, frame_of, study_of

from gitbench.judge import judge_study
from gitbench.judge.rules import REFUTED, SUPPORTED, p_values, words
from gitbench.scores import orientation

STUDIES = 6000
SLACK = 4 * math.sqrt(0.05 * 0.95 / STUDIES)  # of one cell; a cell is the worst of up to four
BY_KIND = {setting.name: setting for setting in SETTINGS}


def test_every_kind_of_claim_is_simulated():
    assert {setting.kind for setting in SETTINGS} == set(CLAIMS)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
@pytest.mark.parametrize("n", SEEDS)
def test_neither_word_is_wrong_more_than_five_percent_at_the_boundary(setting, n):
    for word in (SUPPORTED, REFUTED):
        assert error(setting, "normal", n, word, studies=STUDIES, seed=1) <= 0.05 + SLACK
        assert error(setting, "t, 3 df", n, word, studies=STUDIES, seed=2) <= 0.05 + SLACK
    # and it spends what it may: a judge that never speaks would pass the rest
    assert error(setting, "normal", n, REFUTED, studies=STUDIES, seed=1) >= 0.05 - SLACK


@pytest.mark.parametrize("setting", [each for each in SETTINGS if len(each.weights) > 1], ids=lambda each: each.name)
def test_skewness_that_all_arms_share_does_no_harm(setting):
    for n in (3, 16):
        assert error(setting, "skewed", n, SUPPORTED, studies=STUDIES, seed=3) <= 0.05 + 1.5 * SLACK


def test_skewness_of_one_arm_alone_is_the_known_limit():
    """What docs/judge.md admits: were it to vanish, the text would be wrong."""
    for n in SEEDS:
        assert 0.10 < error(BY_KIND["threshold"], "skewed", n, SUPPORTED, studies=STUDIES) < 0.20
        assert 0.10 < error(BY_KIND["better"], ALONE, n, SUPPORTED, studies=STUDIES) < 0.20


@pytest.mark.parametrize("kind", ["better", "interaction", "trend", "threshold"])
@pytest.mark.parametrize("n", SEEDS)
def test_intervals_cover_93_to_97_percent(kind, n):
    assert 0.93 < coverage(BY_KIND[kind], "normal", n, studies=2500, seed=4) < 0.97


@pytest.mark.parametrize("setting", [*SETTINGS[:3], *SETTINGS[4:]], ids=lambda setting: setting.name)
def test_power_is_that_of_theory(setting):
    for n in SEEDS:
        for distance in (1.0, 2.0):
            measured, theory = power(setting, distance, n, studies=STUDIES, seed=5)
            assert measured == pytest.approx(theory, abs=0.025)


def test_a_family_is_wrong_in_five_percent_and_would_not_be_without_holm():
    for claims in (2, 6):
        for noise in ("normal", "t, 3 df"):
            for n in (3, 8):
                corrected, plain = family_error(claims, noise, n, studies=STUDIES, seed=6)
                assert corrected <= 0.05 + SLACK and plain > corrected + 0.02


def test_the_exact_test_and_the_sequential_one_keep_their_level_too():
    for kind in ("better", "equivalent, margin 3 sd"):
        for word in (SUPPORTED, REFUTED):
            found = error(BY_KIND[kind], "t, 3 df", 8, word, method="sign_flip", studies=800, seed=7)
            assert found <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 800)
            found = error(BY_KIND[kind], "normal", 12, word, method="sequential", studies=800, seed=8)
            assert found <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 800)


@pytest.mark.parametrize("kind", list(CLAIMS))
def test_whole_studies_get_the_words_that_the_simulation_counts(kind):
    """Frames through `judge_study`, around the boundary, against the vectorised functions on the same numbers."""
    claim, rng, found = CLAIMS[kind], np.random.default_rng(9), set()
    for _ in range(25):
        scores = pd.DataFrame(
            rng.normal(90.0, 3.0, (6, 4)) + np.array([0.0, 3, 6, 9]) * rng.normal(0.5, 1.5), columns=list("abcd")
        )
        verdict = judge_study(study_of(claim), frame_of(scores), "grammar")[0]
        turned = orientation(claim) * np.array(verdict.differences)
        support, refute = p_values(claim.kind, turned[None], verdict.margin)
        assert verdict.word == words(support, refute)[0]
        assert (verdict.p, verdict.p_refute) == (pytest.approx(support[0]), pytest.approx(refute[0]))
        found.add(verdict.word)
    assert len(found) >= 2  # the studies lie on both sides of something


def test_tables_go_between_their_marks_and_nowhere_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the lines"):
        write_into(page, "new")
