"""Moderated variances: the prior is that of limma, a variance that is small by luck is raised, and none is ever lowered."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers_judge import CLAIMS, NOISE, judged
from scipy import optimize, special, stats

from gitbench.judge.effects import effect_of
from gitbench.judge.moderation import moderated, prior, residual_variances
from gitbench.judge.verdict import INCONCLUSIVE, SUPPORTED


def fit_f_dist(variances: np.ndarray, df: float) -> tuple[float, float]:
    """Return (d0, s0^2) as limma's `fitFDist` does (Smyth 2004, section 6.2), written down from the paper."""
    logs = np.log(variances) - special.digamma(df / 2) + math.log(df / 2)
    excess = logs.var(ddof=1) - float(special.polygamma(1, df / 2))
    if excess <= 0:
        return math.inf, math.exp(logs.mean())
    half = optimize.brentq(lambda y: float(special.polygamma(1, y)) - excess, 1e-6, 1e9)
    return 2 * half, math.exp(logs.mean() + float(special.digamma(half)) - math.log(half))


def test_the_prior_is_that_of_limma_but_for_its_cap():
    rng, seen = np.random.default_rng(0), set()
    for sds in ((1, 1, 1, 1, 1), (0.2, 1, 1, 3, 5), (0.5, 1, 2, 1, 1, 2)):
        for _ in range(6):
            scores = np.array(sds)[:, None] * rng.standard_normal((len(sds), 8)) + 5 * rng.standard_normal(8)
            wanted, centre = fit_f_dist(residual_variances(scores), 7 * (len(sds) - 1) / len(sds))
            d0, s0 = prior(scores)
            assert float(s0) == pytest.approx(centre, rel=1e-5) and float(d0) == pytest.approx(min(wanted, 7), rel=1e-5)
            seen.add(wanted < 7)
    assert seen == {True, False}
    assert prior(np.ones((2, 8)))[0] == 0 and prior(np.ones((5, 1)))[0] == 0  # too few arms, too few seeds


def test_variances_by_hand():
    """Two degrees of freedom of a prior of 4, four of a pair of 1: (2 x 4 x 2 + 4 x 1) / 6, for a difference of two arms."""
    own = np.array([[1.0, 0.3], [0.3, 5.0]])
    raised = moderated(own, 2.0, np.array(2.0), np.array(4.0), 5)
    assert raised == pytest.approx(np.array([[20 / 6, 0.3], [0.3, 5.0]]))
    assert moderated(own, 2.0, np.array(2.0), np.array(0.1), 5) == pytest.approx(own)
    assert moderated(own, 2.0, np.array(0.0), np.array(9.0), 5) == pytest.approx(own)


def test_what_the_arms_of_a_replicate_share_is_no_noise_of_theirs_nor_is_another_arm():
    rng = np.random.default_rng(2)
    noise, shared = rng.standard_normal((4000, 5, 8)), 10 * rng.standard_normal((4000, 1, 8))
    own, loud = noise + shared, noise * np.array([1, 1, 1, 1, 30.0])[:, None]
    for scores, arms in ((noise, slice(0, 5)), (own, slice(0, 5)), (loud, slice(0, 4))):
        assert residual_variances(scores).mean(0)[arms] == pytest.approx(1.0, rel=0.25)


def test_no_contrast_has_less_variance_than_its_own():
    """Not even where what was learned varies much more than any arm: its noise must not be shrunk to that of the arms."""
    rng = np.random.default_rng(1)
    scores = 0.2 * rng.standard_normal((300, 6, 6)) + rng.standard_normal((300, 1, 6))
    scores[:, 5] = 3 * rng.standard_normal((300, 6))
    effect = effect_of(scores, [[-1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, -1]], scores[:, :5])
    for share in (0.0, 0.1, -0.1, 0.5):
        weights = np.array([1.0, -share])
        used = weights @ (effect.seeds @ weights)[..., None]
        found = effect.contrast(share).var(-1, ddof=1) / 6
        assert (used[:, 0] >= found * (1 - 1e-9)).all() and (used[:, 0] > 1.1 * found).any()


def study(lead: float, pair_sd: float, others: float) -> pd.DataFrame:
    """Return five arms of which d leads a by so much with this spread, and the others have theirs."""
    shared, rng = 110 + np.linspace(-3, 3, 5), np.random.default_rng(4)
    arms = {"a": shared, "d": shared + lead + NOISE * pair_sd}
    return pd.DataFrame(arms | {name: shared + others * rng.standard_normal(5) for name in "bce"})


def test_a_pair_that_is_alike_by_luck_gets_the_spread_that_is_usual():
    alone, among = (judged(CLAIMS["better"], scores=study(1.2, 1.0, 3.0)[list(arms)])[0] for arms in ("ad", "abcde"))
    assert alone.word == SUPPORTED and alone.raised == 1 and alone.plain_interval == among.plain_interval
    assert among.word == INCONCLUSIVE and among.raised > 1.3 and among.interval[1] > alone.interval[1]
    assert (among.interval[1] - 1.2) / (alone.interval[1] - 1.2) == pytest.approx(among.raised)


def test_a_noisy_pair_keeps_its_own_spread_among_quiet_arms():
    (found,) = judged(CLAIMS["better"], scores=study(3.0, 4.0, 0.1))
    assert found.raised == 1 and found.word == INCONCLUSIVE
    half = stats.t.isf(0.0125 * 1.48, 4) * stats.sem(4 * NOISE)  # 74 % of 2.5 % at five seeds
    assert found.interval == pytest.approx((3 - half, 3 + half))
