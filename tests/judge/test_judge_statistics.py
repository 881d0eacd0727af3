"""Intervals, tests, Holm's correction and power: those of other libraries, or counted by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from gitbench.judge.power import power_one_sided, smallest_n
from gitbench.judge.statistics import (
    SIGN_FLIP_NEEDS,
    adjust,
    holm,
    p_values,
    paired_difference,
    sign_flip_p,
    t_interval,
)


def test_intervals_are_those_of_scipy():
    samples = np.random.default_rng(3).normal(7.0, 2.0, (20, 3))
    found = [t_interval(sample) for sample in samples]
    low, high = stats.t.interval(0.95, 2, loc=samples.mean(1), scale=stats.sem(samples, axis=1))
    assert ([each.low for each in found], [each.high for each in found]) == (pytest.approx(low), pytest.approx(high))
    assert found[0].half_width == pytest.approx((high - low)[0] / 2) and found[0].n == 3
    single = t_interval([3.0])
    assert (single.mean, single.n, single.low, single.high, single.half_width) == (3.0, 1, None, None, None)
    for values in ([], [1.0, math.nan], [[1.0, 2.0]]):
        with pytest.raises(ValueError):
            t_interval(values)


def test_pairing_is_by_replicate_and_drops_what_is_not_shared():
    first = pd.Series([1.0, 2.0, 9.0], index=[0, 1, 5])
    pair = paired_difference(first, pd.Series([5.0, 0.5, 7.0], index=[1, 0, 2]))
    assert pair.replicates == (0, 1) and pair.differences == (0.5, -3.0)
    assert paired_difference(first, pd.Series([1.0], index=[7])) is None
    assert paired_difference(first, pd.Series([1.0], index=[5])).bounds is None


def test_bounds_and_tests_say_the_same_and_tests_are_those_of_others():
    rng = np.random.default_rng(0)
    for sample in rng.normal(0.3, 1, (60, 6)):
        low, high = paired_difference(pd.Series(sample), pd.Series(np.zeros(6))).bounds
        for kind, margin, support, refute in (
            ("better", 0.2, low > 0.2, high < 0.2),
            ("not_better", 0.5, high < 0.5, low > 0.5),
            ("equivalent", 1.1, low > -1.1 and high < 1.1, None),
        ):
            found = p_values(kind, sample, margin)
            assert (found[0] < 0.05) == support
            assert refute is None or (found[1] < 0.05) == refute
        above = stats.ttest_1samp(sample, 0.2, alternative="greater").pvalue
        assert p_values("better", sample, 0.2)[0] == pytest.approx(above)
        assert p_values("equivalent", sample, 1.1)[0] == pytest.approx(ttost_paired(sample, 0 * sample, -1.1, 1.1)[0])
        assert p_values("equivalent", sample, 0.0)[1] == pytest.approx(stats.ttest_1samp(sample, 0.0).pvalue)


def test_the_exact_test_counts_sign_patterns():
    assert sign_flip_p("better", [1.0, 2.0, 3.0], 0.0) == 1 / 8
    assert sign_flip_p("not_better", [1.0, 2.0, 3.0], 0.0) == 1.0
    assert sign_flip_p("not_better", [3.0, 3.0, 3.0, 3.0], 4.0) == 1 / 16
    assert sign_flip_p("equivalent", [0.1, -0.1, 0.2], 1.0) == 1 / 8
    assert sign_flip_p("better", np.ones(SIGN_FLIP_NEEDS), 0.0) < 0.05 < sign_flip_p("better", np.ones(4), 0.0)
    many = np.random.default_rng(3).normal(0.5, 1, 20)  # beyond 16 replicates patterns are drawn
    assert sign_flip_p("better", many, 0.0) == pytest.approx(float(p_values("better", many, 0.0)[0]), abs=0.02)


def test_holm_is_that_of_statsmodels():
    rng = np.random.default_rng(1)
    for size in (1, 2, 3, 7):
        p = rng.uniform(0, 0.2, (2, size))
        assert holm(p) == pytest.approx(np.array([multipletests(row, method="holm")[1] for row in p]))
    assert holm([0.03]).tolist() == [0.03]
    first, second, third = adjust([(0.01, 0.9), None, (0.04, 0.2)])
    assert (first.support, second.support, third.support) == pytest.approx((0.03, 1.0, 0.08))
    assert (first.open_support, first.open_refute) == (2, 3) and adjust([]) == []


def test_smallest_n_is_the_first_that_reaches_the_power():
    for effect in (0.2, 0.7, 1.5, 40.0):
        n = smallest_n(lambda size, effect=effect: power_one_sided(effect, 1.0, size))
        assert power_one_sided(effect, 1.0, n) >= 0.8 and (n == 2 or power_one_sided(effect, 1.0, n - 1) < 0.8)
    assert smallest_n(lambda size: power_one_sided(0.01, 1.0, size)) is None
    assert smallest_n(lambda size: power_one_sided(0.0, 1.0, size)) is None
