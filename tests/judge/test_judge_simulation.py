"""The judge on synthetic studies with known truth: a small version of the tables in `docs/judge.md`."""

import math

import pytest
from helpers_judge import CLAIMS
from helpers_tools import load_tool

from gitbench.judge.verdict import REFUTED, SUPPORTED

tool = load_tool("simulate")
SETTINGS = {setting.name: setting for setting in tool.SETTINGS}
STUDIES = 6000


def slack(studies: int) -> float:
    """Four standard errors of one cell; a cell is the worst of up to four."""
    return 4 * math.sqrt(0.05 * 0.95 / studies)


def test_every_kind_of_claim_is_simulated_and_a_small_simulation_keeps_its_level():
    assert {setting.kind for setting in tool.SETTINGS} == set(CLAIMS)
    for setting in tool.SETTINGS:
        for word in (SUPPORTED, REFUTED):
            assert 0.02 < tool.error(setting, "normal", 5, word, studies=1000, seed=1) <= 0.05 + slack(1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_neither_word_is_wrong_more_than_five_percent_at_the_boundary(name):
    for n in tool.SEEDS:
        for word in (SUPPORTED, REFUTED):
            for noise in ("normal", "t, 3 df", "skewed"):
                more = 1.5 if noise == "skewed" else 1.0
                found = tool.error(SETTINGS[name], noise, n, word, studies=STUDIES, seed=2)
                assert found <= 0.05 + more * slack(STUDIES)
        # it spends what it may: a judge that never speaks would pass the rest
        assert tool.error(SETTINGS[name], "normal", n, REFUTED, studies=STUDIES, seed=1) >= 0.05 - slack(STUDIES)
        for distance in (1.0, 2.0) if name != "equivalent, margin 3 sd" else ():
            measured, theory = tool.power(SETTINGS[name], distance, n, studies=STUDIES, seed=5)
            assert measured == pytest.approx(theory, abs=0.025)


@pytest.mark.slow
def test_skewness_of_one_arm_alone_is_the_known_limit_and_intervals_cover():
    for n in tool.SEEDS:  # what docs/judge.md admits: were it to vanish, the text would be wrong
        assert 0.10 < tool.error(SETTINGS["better"], tool.ALONE, n, SUPPORTED, studies=STUDIES) < 0.20
        for name in ("better", "interaction", "trend"):
            assert 0.93 < tool.coverage(SETTINGS[name], "normal", n, studies=2500, seed=4) < 0.97


@pytest.mark.slow
def test_a_family_is_wrong_in_five_percent_and_would_not_be_without_holm():
    for claims in (2, 6):
        for n in (3, 8):
            corrected, plain = tool.family_error(claims, "normal", n, studies=STUDIES, seed=6)
            assert corrected <= 0.05 + slack(STUDIES) and plain > corrected + 0.02


@pytest.mark.slow
def test_the_sequential_test_keeps_its_level_under_looking():
    for setting in tool.SETTINGS:
        for word in (SUPPORTED, REFUTED):
            assert tool.error(setting, "normal", 12, word, sequential=True, studies=800, seed=8) <= 0.05 + slack(800)


def test_tables_go_between_their_marks_and_nowhere_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tool.BEGIN}\nold\n{tool.END}\nafter\n")
    tool.write_into(page, "new")
    assert page.read_text() == f"before\n{tool.BEGIN}\n\nnew\n\n{tool.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the lines"):
        tool.write_into(page, "new")
