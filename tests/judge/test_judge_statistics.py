"""Intervals, tests, Holm's correction and power: those of other libraries, or counted by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers_judge import claim_of
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from gitbench.judge import rules
from gitbench.judge.effects import Effect, effect_of
from gitbench.judge.power import power_above, smallest_n
from gitbench.judge.statistics import (
    FEW,
    SIDE,
    adjust,
    decide,
    half_width,
    holm,
    median_factor,
    multiplier,
    p_above,
    paired_difference,
    t_interval,
)
from gitbench.judge.verdict import INCONCLUSIVE, REFUTED, SUPPORTED


def effect(sample: np.ndarray) -> Effect:
    """Return the effect of a sample of differences; nothing was learned, and no other arm tells what is usual."""
    scores = np.stack([sample, 0 * sample])
    return effect_of(scores, [[1.0, 0.0], [0.0, 1.0]], scores)


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
    assert paired_difference(first, pd.Series([1.0], index=[5])).interval.ends is None


def test_the_interval_decides_and_the_tests_are_those_of_others():
    """Eight seeds, so that no level is lowered; the mean alone, which is what other libraries test."""
    rng = np.random.default_rng(0)
    for sample in rng.normal(0.3, 1, (60, 8)):
        found, other = effect(sample), stats.ttest_1samp(sample, 0.0).confidence_interval(0.95)
        low, high = found.interval()
        assert (low, high) == pytest.approx((other.low, other.high))
        for kind, margin, support, refute in (
            ("better", 0.2, low > 0.2, high < 0.2),
            ("not_better", 0.5, high < 0.5, low > 0.5),
            ("equivalent", 1.1, low > -1.1 and high < 1.1, None),
        ):
            tests = rules.tests_of(claim_of(kind, margin=margin), found)
            assert (tests.support.mean < SIDE) == support
            assert refute is None or (tests.refute.mean < SIDE) == refute
            assert np.all(tests.p[0] >= tests.support.mean) and np.all(tests.p[1] >= tests.refute.typical)
        above = stats.ttest_1samp(sample, 0.2, alternative="greater").pvalue
        assert rules.tests_of(claim_of("better", margin=0.2), found).support.mean == pytest.approx(above)
        tests = rules.tests_of(claim_of("equivalent", margin=1.1), found)
        assert tests.support.mean == pytest.approx(ttost_paired(sample, 0 * sample, -1.1, 1.1)[0])
        sides = [
            stats.ttest_1samp(sample, 1.1 * side, alternative=name).pvalue
            for side, name in ((1, "greater"), (-1, "less"))
        ]
        assert tests.refute.mean == pytest.approx(min(sides))  # an equivalence can be refuted


def test_the_typical_seed_is_tested_by_its_own_error():
    """`MEDIAN` is how much more than the mean the median of n normal values varies: by simulation, and in the limit."""
    draws = np.random.default_rng(1).standard_normal((40_000, 16))
    for n in range(2, 17):
        assert np.median(draws[:, :n], axis=1).std() * math.sqrt(n) == pytest.approx(median_factor(n), rel=0.02)
    assert median_factor(1) == 1 and median_factor(900) == pytest.approx(math.sqrt(math.pi / 2))
    sample = np.array([1.0, 1.2, 0.9, 1.1, 0.8, 1.3, 1.0, -6.0])  # one collapsed seed: the mean is 0.16, the median 1.0
    tail = effect(sample).above()
    by_hand = stats.t.sf(1.0 / (median_factor(8) * stats.sem(sample)), 7)
    assert tail.typical == pytest.approx(by_hand) and tail.p == tail.mean > tail.typical


def test_few_seeds_are_tested_at_a_lower_level_and_their_interval_says_so():
    for n in range(3, 9):
        level = SIDE * FEW.get(n, 1.0)
        assert multiplier(n) == pytest.approx(stats.t.isf(level, n - 1)) and half_width(2.0, n) == 2 * multiplier(n)
        assert float(p_above(multiplier(n), 1.0, n)) == pytest.approx(SIDE)
    wider = [multiplier(n) / stats.t.isf(SIDE, n - 1) - 1 for n in (3, 6, 7)]
    assert wider == pytest.approx([0.52, 0.02, 0.0], abs=0.005) and multiplier(1) == math.inf


@pytest.mark.parametrize("sequential", [False, True])
def test_bounds_and_p_values_say_the_same_with_images_too(sequential):
    for n in (5, 9):
        for images, count in ((0.0, None), (0.3, 40), (2.0, 40)):
            for side in (0.04, SIDE, 0.004):
                half = half_width(0.5, n, images, count, side, sequential=sequential)
                assert float(p_above(half, 0.5, n, images, count, sequential=sequential)) == pytest.approx(
                    side, rel=1e-6
                )
                against = float(p_above(-half, 0.5, n, images, count, sequential=sequential))
                assert against >= 0.5 and (sequential or n == 5 or against == pytest.approx(1 - side, rel=1e-6))
    images = half_width(0.0, 9, 1.0, 40)
    assert images == pytest.approx(stats.t.isf(SIDE, 39))  # images alone
    assert half_width(1.0, 9, 1.0, 40) == pytest.approx(math.hypot(multiplier(9), images))
    assert float(p_above(500.0, 0.5, 3, 0.2, 50, sequential=True)) > SIDE  # three seeds show nothing under looking


def test_a_word_needs_a_p_value_below_two_and_a_half_percent_and_none_has_two():
    assert decide([0.02, 0.03, 0.5, 0.025], [0.9, 0.9, 0.02, 0.9]).tolist() == [
        SUPPORTED,
        INCONCLUSIVE,
        REFUTED,
        INCONCLUSIVE,
    ]
    rng, claims = (
        np.random.default_rng(5),
        [claim_of(kind, margin=0.4) for kind in ("better", "not_better", "equivalent")],
    )
    for sample in rng.normal(0, 0.5, (200, 5)):
        for claim in claims:
            support, refute = rules.tests_of(claim, effect(sample)).p
            assert support + refute > 2 * SIDE


def test_holm_is_that_of_statsmodels():
    rng = np.random.default_rng(1)
    for size in (1, 2, 3, 7):
        p = rng.uniform(0, 0.2, (2, size))
        assert holm(p) == pytest.approx(np.array([multipletests(row, method="holm")[1] for row in p]))
    assert holm([0.03]).tolist() == [0.03]
    first, second, third = adjust([(0.01, 0.9), None, (0.04, 0.2)])
    assert (first.support, second.support, third.support) == pytest.approx((0.03, 1.0, 0.08))
    assert (first.open_support, first.open_refute) == (3, 3) and adjust([]) == []


def test_smallest_n_is_the_first_that_reaches_the_power():
    for effect in (0.2, 0.7, 1.5, 40.0):
        n = smallest_n(lambda size, effect=effect: power_above(effect, 1.0, size))
        assert power_above(effect, 1.0, n) >= 0.8 and (n == 2 or power_above(effect, 1.0, n - 1) < 0.8)
    assert smallest_n(lambda size: power_above(0.01, 1.0, size)) is None
    assert smallest_n(lambda size: power_above(0.0, 1.0, size)) is None
