"""The test that stays valid under looking: its evidence, its levels, its bounds, and the judge that uses it."""

import math

import numpy as np
import pytest
from helpers_judge import CLAIMS, judged, pair
from helpers_tools import load_tool
from scipy import integrate, stats

from gitbench.judge.sentences import difference_text
from gitbench.judge.sequential import (
    EARLY,
    FIRST,
    LATE,
    LEVELS,
    SCALE,
    level_of,
    log_evidence,
    multiplier,
    score,
    threshold,
)
from gitbench.judge.statistics import FEW, SIDE, p_above
from gitbench.judge.verdict import INCONCLUSIVE, SUPPORTED


@pytest.mark.parametrize("t, n", [(-2.0, 3), (0.0, 5), (2.5, 4), (6.0, 9), (3.0, 40)])
def test_the_evidence_is_the_mixture_of_noncentral_densities(t, n):
    def weighted(effect: float) -> float:
        return 2 * stats.norm.pdf(effect, scale=SCALE) * stats.nct.pdf(t, n - 1, effect * math.sqrt(n))

    mixture = integrate.quad(weighted, 0, 12 * SCALE, limit=200)[0]
    assert float(log_evidence(t, n)) == pytest.approx(math.log(mixture / stats.t.pdf(t, n - 1)), abs=1e-5)


def test_the_levels_are_those_that_the_tool_makes():
    """A small simulation of another seed finds the committed table again; none exceeds Ville's bound, 1 / threshold."""
    thresholds, committed = zip(*LEVELS, strict=True)
    found = load_tool("calibrate").levels(paths=2000, seed=11, thresholds=(2, 20, 1000))
    for value, probability in found:
        assert probability == pytest.approx(dict(LEVELS)[value], rel=0.12)
    assert all(p <= min(1.0, 1 / c) for c, p in LEVELS)
    assert list(thresholds) == sorted(thresholds) and list(committed) == sorted(committed, reverse=True)


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.025, 0.01, 0.001, 1e-7])
def test_threshold_and_level_are_each_others_inverse(alpha):
    assert level_of(math.log(threshold(alpha))) == pytest.approx(alpha, rel=1e-9)


def test_bounds_p_values_and_multipliers_say_the_same():
    rng = np.random.default_rng(3)
    for n in (4, 5, 30, 31):
        values = rng.normal(0.4, 1.3, n)
        for alpha in (0.05, 0.025):
            half = multiplier(n, alpha) * stats.sem(values)
            for side in (0, 1) if math.isfinite(half) else ():
                bound = values.mean() + (2 * side - 1) * half
                inward = 0.1 * (1 - 2 * side)
                at, before, after = (
                    float(p_above((1 - 2 * side) * (values.mean() - each), stats.sem(values), n, sequential=True))
                    for each in (bound, bound - inward, bound + inward)
                )
                level = alpha / FEW.get(n, 1.0)
                assert at == pytest.approx(level, rel=1e-6) and before < level < after


def test_what_few_seeds_can_show():
    assert multiplier(2, 0.05) == multiplier(FIRST, 0.025) == math.inf
    assert 25 < multiplier(FIRST, 0.05) < 30 and 4 < multiplier(4, 0.05) < 5  # Student's are 2.9 and 2.4
    assert p_above(5.0, 0.05, 2, sequential=True) == 1.0
    assert 0.03 < FEW[3] * p_above(5.0, 1e-4, 3, sequential=True) < 0.05
    late, early = multiplier(EARLY + 1, 0.025), multiplier(EARLY, 0.025)
    assert late > early > stats.t.isf(0.025, EARLY - 1)
    assert float(score(3.0, EARLY + 1)) == pytest.approx(float(log_evidence(3.0, EARLY + 1)) - math.log(LATE))


@pytest.mark.parametrize("kind", list(CLAIMS))
def test_under_looking_the_judge_asks_for_more(kind):
    (plain,), (looked,) = (
        judged(CLAIMS[kind], scores=pair(3.0).assign(b=110.5, c=110.0), looks=looks) for looks in (0, 2)
    )
    assert looked.looks == 2 and looked.sequential and min(looked.p, looked.p_refute) > min(plain.p, plain.p_refute)
    if kind == "better":
        words = [judged(CLAIMS[kind], scores=pair(lead), looks=2)[0].word for lead in (5.0, 1.2)]
        assert words == [SUPPORTED, INCONCLUSIVE] and judged(CLAIMS[kind], scores=pair(1.2))[0].word == SUPPORTED
        assert looked.interval[0] < plain.interval[0] and "valid under looking" in difference_text(looked)


@pytest.mark.slow
def test_looking_after_every_seed_errs_as_rarely_as_promised_and_needs_fewer_seeds_than_the_alternatives():
    """40,000 studies at the boundary, looked at after seeds 3 to 30; and what deciding costs at 1 sd from it."""
    tool = load_tool("calibrate")
    chosen, name, naive = tool.methods(paths=10_000), "evidence, calibrated (chosen)", "t-test, looking ignored"
    wrong = tool.errors({each: chosen[each] for each in (name, naive)}, paths=40_000, seed=5)
    slack = 3 * math.sqrt(SIDE / 40_000)
    for noise in ("normal", "Laplace", "t, 3 df", "normal, 10 % with 5 sd", "skewed to the right"):
        assert wrong[name][noise] <= SIDE + slack, noise
    assert wrong[name]["normal"] > 0.02 and wrong[naive]["normal"] > 0.1  # it spends what it has
    cost = tool.seeds(chosen, effects=(1.0,), paths=4000)
    mean = {method: found[1.0][1] for method, found in cost.items()}
    for other in ("Bonferroni over the looks", "group sequential, O'Brien-Fleming", "evidence, Ville's threshold 40"):
        assert mean[name] < mean[other] - 1, other
    assert cost[name][1.0][0] > 0.98
