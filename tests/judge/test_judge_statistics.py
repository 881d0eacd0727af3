"""The statistics keep their word: coverage, false-positive rates at the boundary, exactness, power."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gitbench.judge.compare import (
    paired_difference,
    power_one_sided,
    power_tost,
    sign_flip,
    smallest_n,
    smallest_n_sign_flip,
    t_test,
    tost,
)
from gitbench.judge.intervals import one_sided_bounds, t_interval


def simulation_slack(rate, trials):
    return 4 * np.sqrt(rate * (1 - rate) / trials)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_t_interval_covers_what_it_says_and_a_bootstrap_does_not(n):
    rng, trials = np.random.default_rng(n), 2000
    samples = rng.normal(7.0, 2.0, (trials, n))
    covered = boot = 0
    for sample in samples:
        interval = t_interval(sample)
        covered += interval.low <= 7.0 <= interval.high
        if n == 3:
            low, high = np.percentile(rng.choice(sample, (200, n)).mean(axis=1), (2.5, 97.5))
            boot += low <= 7.0 <= high
    assert abs(covered / trials - 0.95) < simulation_slack(0.95, trials)
    if n == 3:
        assert boot / trials < 0.85  # the reason why no interval here is a bootstrap over seeds


def test_interval_matches_scipy_and_states_n():
    values = [1.0, 2.5, 2.0, 4.5]
    found = t_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.n, found.mean) == (4, 2.5)
    assert found.low == pytest.approx(low) and found.high == pytest.approx(high)
    assert found.half_width == pytest.approx((high - low) / 2)


def test_one_value_has_no_interval():
    found = t_interval([3.0])
    assert (found.mean, found.n, found.low, found.high, found.sd, found.half_width) == (3.0, 1, None, None, None, None)
    assert one_sided_bounds([3.0]) is None


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0, 2.0]], [float("inf")]])
def test_interval_refuses_what_is_no_list_of_numbers(values):
    with pytest.raises(ValueError):
        t_interval(values)


def test_one_sided_bound_agrees_with_the_one_sided_test():
    rng = np.random.default_rng(0)
    for _ in range(100):
        sample = rng.normal(0.3, 1, 6)
        low, high = one_sided_bounds(sample)
        assert (high < 0.5) == (t_test(sample, 0.5, "less") < 0.05)
        assert (low > 0.0) == (t_test(sample, 0.0, "greater") < 0.05)


def test_pairing_is_by_replicate_and_drops_what_is_not_shared():
    first = pd.Series([1.0, 2.0, 9.0], index=[0, 1, 5])
    second = pd.Series([5.0, 0.5, 7.0], index=[1, 0, 2])
    pair = paired_difference(first, second)
    assert pair.replicates == (0, 1) and pair.differences == (0.5, -3.0)
    assert paired_difference(first, pd.Series([1.0], index=[7])) is None


@pytest.mark.parametrize("n", [3, 6])
def test_tost_false_positive_rate_at_the_margin_is_at_most_five_percent(n):
    rng, trials, margin = np.random.default_rng(n), 2000, 2.0
    for truth in (margin, -margin):
        reference = rng.normal(50, 3, (trials, n))
        treatment = reference + truth + rng.normal(0, 1.0, (trials, n))
        wrong = np.mean([tost(a, b, margin) < 0.05 for a, b in zip(treatment, reference, strict=True)])
        assert wrong <= 0.05 + simulation_slack(0.05, trials)


def test_tost_equals_both_bounds_within_the_margin():
    rng = np.random.default_rng(1)
    for _ in range(60):
        a, b = rng.normal(0, 1, (2, 5))
        low, high = one_sided_bounds(a - b)
        assert (tost(a, b, 1.5) < 0.05) == (low > -1.5 and high < 1.5)


def test_sign_flip_is_exact():
    assert sign_flip([1.0, 2.0, 3.0]) == 2 / 8
    assert sign_flip([1.0, 2.0, 3.0], alternative="greater") == 1 / 8
    assert sign_flip([1.0, 2.0, 3.0], alternative="less") == 1.0
    assert sign_flip([3.0, 3.0, 3.0, 3.0], margin=4.0, alternative="less") == 1 / 16
    assert sign_flip([0.0, 0.0]) == 1.0


def test_sign_flip_is_symmetric_and_holds_its_level():
    rng, trials = np.random.default_rng(2), 1500
    samples = rng.standard_t(2, (trials, 8))  # heavy tails: symmetry is all it needs
    p_values = np.array([sign_flip(sample) for sample in samples])
    assert (p_values <= 0.05).mean() <= 0.05 + simulation_slack(0.05, trials)
    assert p_values.min() >= 2 / 2**8
    assert sign_flip(-samples[0]) == sign_flip(samples[0])


def test_sign_flip_beyond_sixteen_replicates_stays_close_to_the_t_test():
    sample = np.random.default_rng(3).normal(0.5, 1, 20)
    assert sign_flip(sample) == pytest.approx(t_test(sample), abs=0.02)
    assert sign_flip(np.ones(30)) > 0


def test_smallest_n_at_which_the_exact_test_can_reach_its_threshold():
    assert smallest_n_sign_flip(0.05) == 6 and smallest_n_sign_flip(0.05, "one-sided") == 5
    assert sign_flip(np.arange(1.0, 7.0)) <= 0.05 < sign_flip(np.arange(1.0, 6.0))


def test_power_matches_simulation():
    rng, trials, n = np.random.default_rng(4), 2000, 5
    samples = rng.normal(1.0, 1.0, (trials, n))
    hits = np.mean([t_test(sample, 0.0, "greater") < 0.05 for sample in samples])
    assert power_one_sided(1.0, 1.0, n) == pytest.approx(hits, abs=simulation_slack(0.5, trials))
    inside = []
    for sample in rng.normal(0.0, 1.0, (trials, 8)):
        low, high = one_sided_bounds(sample)
        inside.append(low > -1 and high < 1)
    assert power_tost(0.0, 1.0, 1.0, 8) == pytest.approx(np.mean(inside), abs=simulation_slack(0.5, trials))
    assert power_tost(0.0, 1.0, 1.0, 10) == pytest.approx(0.80, abs=0.02)  # 0.80 at n = 10


def test_smallest_n_is_the_first_that_reaches_the_power():
    for effect in (0.2, 0.7, 1.5, 40.0):
        n = smallest_n(lambda size, effect=effect: power_one_sided(effect, 1.0, size))
        assert power_one_sided(effect, 1.0, n) >= 0.8 and (n == 2 or power_one_sided(effect, 1.0, n - 1) < 0.8)
    assert smallest_n(lambda size: power_one_sided(0.01, 1.0, size)) is None
    assert smallest_n(lambda size: power_one_sided(0.0, 1.0, size)) is None
