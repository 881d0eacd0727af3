"""The judge on synthetic studies with known truth: a small version of the tables in `docs/judge.md`."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers_judge import CLAIMS, claim_of, judged
from helpers_tools import load_tool

from gitbench.judge.statistics import SIDE

tool = load_tool("simulate")
SETTINGS = {setting.kind: setting for setting in tool.SETTINGS}
ARMS = {  # the arms of the tool's weights, by the names of the helpers
    "interaction": {"treatment": "b", "treatment_from": "a", "reference": "d", "reference_from": "c"},
    "trend": {"treatment": "c", "reference": "a", "along": ("a", "b", "c")},
}
STUDIES = 4000


def slack(studies: int) -> float:
    """Four standard errors of one cell, which is the worst of up to forty."""
    return 4 * math.sqrt(SIDE * (1 - SIDE) / studies)


@pytest.mark.parametrize("kind", list(CLAIMS))
def test_whole_studies_get_the_words_of_the_simulation(kind):
    """Frames through `judge_study` against the arrays of the tool, around the boundary and with every noise."""
    setting, words = SETTINGS[kind], set()
    sides = {"treatment": "b", "reference": "a"} | ARMS.get(kind, {})
    claim = claim_of(kind, margin=0.1, margin_unit="learned", margin_reason="", **sides)
    for at, noise in enumerate(tool.NOISES):
        draw = tool.draws(noise, setting)[-1]
        for factor in (0.0, 1.0, 3.0):
            means = factor * tool.true_means(setting, setting.boundaries[0], draw) + tool.LEARNED
            scores = means[:, None] + draw.scores(np.random.default_rng([at, 5]), 1, 6)
            (expected,) = tool.judged(setting, scores)
            frame = pd.DataFrame(scores[0].T, columns=list("abcde"))
            (verdict,) = judged(claim, scores=frame, floor=0.0, ceiling=None)
            assert verdict.word == expected, (noise, factor, verdict.reason)
            words.add(expected)
    assert len(words) >= 2


def test_a_draw_is_at_its_boundary_and_the_odd_arm_may_be_any():
    rng = np.random.default_rng(3)
    for setting in tool.SETTINGS:
        for boundary in setting.boundaries:
            for draw in tool.draws("one arm collapses: 20 % of seeds, 12 sd", setting):
                scores = tool.true_means(setting, boundary, draw)[:, None] + tool.LEARNED + draw.scores(rng, 4000, 20)
                base = np.array(tool.BASE)
                whole = np.median((np.array(setting.weights) - boundary[0] * tool.MARGIN * base) @ scores)
                assert abs(whole) < 0.06
                if boundary[1] is not None:
                    assert abs(np.median(np.array(tool.STEPS[boundary[1]]) @ scores)) < 0.06
        named = {arm for arm, weight in enumerate(setting.weights) if weight} | {0, 1}
        odd = {arm for arms in setting.odd for arm in arms}
        assert odd >= (named if setting.kind != "interaction" else {0, 1}) and 4 in odd


def test_a_small_simulation_keeps_its_level_and_is_not_mute():
    for setting in tool.SETTINGS:
        for noise in ("normal", "one arm 3 times noisier"):
            assert max(tool.error(setting, noise, 5, studies=500, seed=1)) <= SIDE + slack(500)
    own, plain = tool.power(SETTINGS["better"], 3.0, 8, studies=500, seed=2)
    assert own > 0.9 and plain >= own


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(CLAIMS))
@pytest.mark.parametrize("noise", list(tool.NOISES))
def test_neither_word_is_wrong_more_than_promised_at_any_boundary(kind, noise):
    for n in tool.SEEDS:
        assert max(tool.error(SETTINGS[kind], noise, n, studies=STUDIES, seed=2)) <= SIDE + slack(STUDIES)


@pytest.mark.slow
def test_what_the_rules_cost_is_what_the_page_says():
    """The judge needs more than a plain t-test, and with eight seeds it sees what is 2 sd from the margin."""
    for kind in CLAIMS:
        for n in tool.SEEDS:
            own, plain = tool.power(SETTINGS[kind], 2.0, n, studies=STUDIES, seed=5)
            assert own <= plain + 0.01
            assert n < 8 or kind in ("trend", "equivalent") or own > 0.95, (kind, n, own)


@pytest.mark.slow
def test_intervals_cover_normal_means():
    for n in tool.SEEDS:
        for kind in ("better", "interaction"):
            assert tool.coverage(SETTINGS[kind], "normal", n, studies=4000, seed=4) > 0.94


@pytest.mark.slow
def test_a_family_is_wrong_as_rarely_as_one_claim_and_would_not_be_without_holm():
    for claims in (2, 6):
        for n in (5, 16):
            corrected, plain = tool.family_error(claims, "normal", n, studies=STUDIES, seed=6)
            assert corrected <= SIDE + slack(STUDIES) and plain > corrected


@pytest.mark.slow
def test_the_sequential_test_keeps_its_level_under_looking():
    for setting in tool.SETTINGS:
        assert max(tool.error(setting, "normal", 12, sequential=True, studies=800, seed=8)) <= SIDE + slack(800)


@pytest.mark.slow
def test_variances_that_are_only_raised_keep_what_limma_and_a_plain_t_do_not():
    other = load_tool("variances")
    found = other.errors("one arm 3 times noisier", 5, studies=6000)
    assert found["judge"] <= SIDE + slack(6000) and found["limma"] > 2 * SIDE
    found = other.errors("one arm collapses: 20 % of seeds, 12 sd", 16, studies=6000)
    assert found["judge"] <= SIDE + slack(6000) and found["plain t"] > 0.1


def test_tables_go_between_their_marks_and_nowhere_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tool.BEGIN}\nold\n{tool.END}\nafter\n")
    tool.write_into(page, "new")
    assert page.read_text() == f"before\n{tool.BEGIN}\n\nnew\n\n{tool.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the lines"):
        tool.write_into(page, "new")
