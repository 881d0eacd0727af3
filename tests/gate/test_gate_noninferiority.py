"""The test of the gate's quality: what it may get wrong, and how soon it is right."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_tools import load_tool
from scipy import stats

from gitbench.gate.noninferiority import FOUND, Rule, lower_bounds

POWER = load_tool("gate_power")
RULE = Rule()
ALIKE = POWER.Kind(sds=np.array([0.1, 0.45, 0.45]), between=np.full((3, 3), 0.5) + 0.5 * np.eye(3))
STUDIES = 4000
SIXTEEN = [0.3, -0.9, 0.5, 0.2, -0.4, -0.3, 0.8, -0.2, 0.1, 0.4, -0.7, 0.4, -0.1, 0.2, -0.1, 0.0]


def ends(kind, difference, where=(0, 1, 2), rule=RULE):
    """Return the share of studies that is red, and the mean number of seeds."""
    reference, change = kind.pairs(np.random.default_rng(0), STUDIES, rule.most)
    change[:, list(where)] += difference
    found, taken = POWER.judged(rule, change, reference)
    return (found != POWER.PASSED).mean(), taken.mean()


def test_the_levels_of_all_looks_together_are_the_level_of_the_rule():
    assert sum(RULE.level(seeds) for seeds in RULE.looks) == pytest.approx(RULE.good)
    assert len(RULE.looks) == len(RULE.shares)


@pytest.mark.parametrize("paired", [0.0, 0.8])
@pytest.mark.parametrize(("noise", "beyond"), [*zip(POWER.NOISES, (0.01, 0.01, 0.025), strict=True)])
def test_a_metric_that_is_worse_by_its_margin_passes_rarely(noise, beyond, paired):
    """What is beyond the level: three standard errors of so many studies; and what a t test loses to skewness."""
    kind = POWER.Kind(sds=ALIKE.sds, between=ALIKE.between, noise=noise, paired=paired)
    red, _ = ends(kind, -1.0, where=[2])
    assert 1 - red < RULE.good + beyond


def test_a_harmless_change_is_red_in_less_than_one_of_two_hundred_checks_and_takes_half_of_the_seeds():
    red, seeds = ends(ALIKE, 0.0)
    assert red < 0.005 and seeds < 10


def test_a_change_that_is_worse_by_two_margins_is_always_red_and_soon():
    red, seeds = ends(ALIKE, -2.0, where=[2])
    assert red == 1 and seeds < 12


@pytest.mark.parametrize("paired", [0.0, 0.9])
@pytest.mark.parametrize("metric", [0, 1, 2])
def test_what_is_said_to_be_found_is_red_in_nine_checks_of_ten(metric, paired):
    """Of metrics that vary as those of the reference that ships."""
    kind = POWER.Kind(sds=np.array([0.37, 0.56, 0.41]), between=ALIKE.between, paired=paired)
    assert ends(kind, -FOUND, where=[metric])[0] >= 0.9


def test_what_is_said_to_be_found_is_no_larger_than_it_has_to_be():
    kind = POWER.Kind(sds=np.array([0.37, 0.56, 0.41]), between=ALIKE.between)
    assert ends(kind, 0.05 - FOUND, where=[0])[0] < 0.9


def test_a_broken_model_is_red_at_two_seeds():
    assert ends(ALIKE, -8.0) == (1.0, 2.0)


def test_looking_without_sharing_out_the_level_would_be_wrong_too_often():
    greedy = Rule(shares=(0.0, 1.0, 1.0, 1.0, 1.0))
    kind = POWER.Kind(sds=np.array([0.45]), between=np.eye(1))
    assert 1 - ends(kind, -1.0, where=[0], rule=greedy)[0] > greedy.good + 0.02


def test_the_bound_is_welchs():
    change, reference = np.array([0.1, -0.3, 0.4, 0.0, -0.2, 0.1, 0.3, 0.2]), np.array(SIXTEEN)
    welch = stats.ttest_ind(change, reference, equal_var=False, alternative="greater").confidence_interval(0.96)
    assert lower_bounds(change[None], reference[None], 0.04)[0] == pytest.approx(welch.low)


def test_two_seeds_show_nothing_to_be_as_good_and_steady_ones_soon_do():
    reference = np.zeros((3, 20))
    assert not RULE.as_good(np.zeros((3, 2)), reference).any()
    assert RULE.as_good(np.zeros((3, 4)), reference).all()
    assert not RULE.as_good(np.full((3, 4), -1.0), reference).any()  # worse by the margin exactly


def test_an_unsteady_change_is_not_shown_to_be_as_good_however_steady_the_reference_is():
    change = np.array([[0.0, -3.0, 3.0, 0.0]])
    assert not RULE.as_good(change, np.zeros((1, 20))).any()


def test_holm_makes_it_harder_to_find_one_of_three_metrics_worse():
    reference = np.array([SIXTEEN])
    error = reference.std(ddof=1) * np.sqrt(1 / 4 + 1 / 16)
    border = reference.mean() + stats.t.ppf(RULE.bad / 5, 15) * error - 1.0  # of one metric alone
    just, three = np.full((1, 4), border - 0.01), np.repeat(reference, 3, axis=0)
    assert RULE.worse(just, reference).all()
    assert not RULE.worse(np.full((1, 4), border + 0.01), reference).any()
    assert not RULE.worse(np.concatenate([just, np.zeros((2, 4))]), three).any()
    assert RULE.worse(np.repeat(just, 3, axis=0) - 0.5, three).all()
