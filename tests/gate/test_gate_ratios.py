"""The statistic of the gate's speed: what is red, what cannot be told, and that spikes and drift carry nothing away."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from gitbench.gate.ratios import LEAST, LEVEL, left_out, ratio_of, ratio_of_memory


def series(ratio: float, pairs: int = 16, noise: float = 0.02, seed: int = 0) -> np.ndarray:
    return math.log(ratio) + noise * np.random.default_rng(seed).standard_normal(pairs)


@pytest.mark.parametrize(("ratio", "red", "told"), [(1.0, False, True), (1.15, True, True), (1.31, True, True)])
def test_a_ratio_is_judged_by_its_whole_interval(ratio: float, red: bool, told: bool) -> None:
    found = ratio_of(series(ratio))
    assert (found.red, found.told, found.settled) == (red, told, True)
    assert found.low <= ratio <= found.high and found.estimate == pytest.approx(ratio, rel=0.02)


def test_what_lies_near_the_limit_is_not_red_and_goes_on() -> None:
    found = ratio_of(series(1.105))
    assert not found.red and found.told and not found.settled


def test_spikes_make_nothing_red_and_hide_nothing() -> None:
    spikes = np.zeros(20)
    spikes[[1, 5, 8, 13, 17]] = math.log(4)  # a neighbour's work beside the change alone, in a quarter of the pairs
    assert not ratio_of(series(1.0, 20) + spikes).red
    assert ratio_of(series(1.25, 20) - spikes / 2).estimate == pytest.approx(1.25, abs=0.06)


def test_drift_strikes_both_of_a_pair() -> None:
    base = 0.1 * np.exp(np.linspace(0, 1.5, 24))  # a machine that becomes slower and slower
    shifts = (
        np.where(np.arange(24) % 2, 1, -1) * 0.03
    )  # the second of a pair has more of it, and either is second in turns
    assert not ratio_of(np.log(base * np.exp(shifts) / base)).red


def test_a_noisy_machine_is_told_as_such() -> None:
    found = ratio_of(series(1.0, 16, noise=0.6))
    assert not found.red and not found.told and not found.settled


def test_few_pairs_are_red_only_where_they_are_far_beyond() -> None:
    assert ratio_of(series(2.0, 5)).red
    assert not ratio_of(series(1.3, 10)).told
    assert not ratio_of(series(2.0, 4)).told


def test_the_interval_is_that_of_the_signed_rank_test() -> None:
    values = series(1.02, 15, seed=3)
    found = ratio_of(values)
    for end in (found.low, found.high):  # just within it the test accepts, just beyond it rejects
        accepted = [
            stats.wilcoxon(values - math.log(end) - step, mode="exact").pvalue > 1 - LEVEL for step in (1e-9, -1e-9)
        ]
        assert sorted(accepted) == [False, True]


def test_the_interval_holds_a_true_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.standard_t(2, (4000, LEAST)) * 0.1
    missed = sum(not found.low <= 1.0 <= found.high for found in map(ratio_of, drawn))
    assert missed <= 12  # 4 are expected


def test_eleven_pairs_are_the_fewest_of_such_an_interval() -> None:
    assert left_out(LEAST) == left_out(LEAST - 1) == 0
    assert 2 * 0.5**LEAST < 1 - LEVEL < 2 * 0.5 ** (LEAST - 1)


@pytest.mark.parametrize(
    ("ratios", "red", "told"),
    [((1.05,), False, True), ((1.3,), False, False), ((1.3, 1.25), True, True), ((1.3, 1.04), False, True)],
)
def test_memory_is_red_where_it_was_twice(ratios: tuple[float, ...], red: bool, told: bool) -> None:
    found = ratio_of_memory([math.log(each) for each in ratios])
    assert (found.red, found.told) == (red, told)


@pytest.mark.parametrize("pairs", [16, 40])
def test_what_is_found_is_red_in_nine_checks_of_ten(pairs: int) -> None:
    exact = float(np.median([ratio_of(series(1.0, pairs, seed=seed)).found for seed in range(200)]))
    assert 0.85 <= np.mean([ratio_of(series(exact, pairs, seed=seed)).red for seed in range(1000, 1400)]) <= 0.96
    assert ratio_of(series(1.0, LEAST - 1)).found is None and ratio_of_memory([0.1]).found is None
