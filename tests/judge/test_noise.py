"""The noise floor: spread between replicates of one arm, what it lets us detect, and the judge's errors on it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from helpers_judge import measured_noise, noise_of_sd, plan_of, yardsticks

from gitbench.judge.aa import judged_rate, pseudo_arms, rejection_rates
from gitbench.judge.effects import effect_of
from gitbench.judge.noise import (
    NoiseFloor,
    PairSpread,
    detectable,
    minimum_detectable,
    sd_interval,
)
from gitbench.judge.statistics import SIDE
from gitbench.run_key import from_json

PLAN = plan_of()


@pytest.mark.slow
@pytest.mark.parametrize("n, found", [(3, 0.80), (5, 0.80), (8, 0.83)])  # even numbers count the median of one more
def test_the_minimum_detectable_effect_is_found_in_80_percent_of_studies(n, found):
    draws = minimum_detectable(2.0, n) + 2.0 * np.random.default_rng(n).standard_normal((40_000, n))
    assert rejection_rates(draws)[1] == pytest.approx(found, abs=0.01)


def test_the_minimum_detectable_effect_at_the_edges():
    assert math.isinf(minimum_detectable(1.0, 1)) and minimum_detectable(0.0, 5) == 0.0
    assert minimum_detectable(3.0, 5) == pytest.approx(3 * minimum_detectable(1.0, 5))
    assert minimum_detectable(1.0, 5) == pytest.approx(2.199, abs=0.001)  # a plain t-test's: 1.682
    assert sd_interval(np.arange(6.0)) == pytest.approx((1.8708, 1.1678, 4.5884), abs=1e-3)  # by tables of chi-square


@pytest.mark.parametrize(("count", "seeds", "expected"), [(6, 3, 120), (8, 3, 3360), (2, 1, 2)])
def test_pseudo_arms_are_all_and_each_once(count, seeds, expected):
    found = pseudo_arms(count, seeds)
    assert found.shape == (expected, seeds, 2)
    assert all(len(set(split.reshape(-1).tolist())) == 2 * seeds for split in found)
    assert len({frozenset(map(tuple, split.tolist())) for split in found}) == expected


def test_too_many_splits_are_drawn_and_too_few_replicates_refused():
    drawn = pseudo_arms(16, 8, most=500)
    assert drawn.shape == (500, 8, 2) and all(len(set(split.reshape(-1).tolist())) == 16 for split in drawn)
    assert (drawn == pseudo_arms(16, 8, most=500)).all()
    with pytest.raises(ValueError, match="5 replicates cannot be split into two arms of 3"):
        pseudo_arms(5, 3)


@pytest.mark.parametrize(("metric", "sign"), [("CIDEr", 1), ("test_nll", -1)])
def test_the_judge_and_the_rules_over_all_splits_agree(metric, sign):
    """Over the splits in which one pseudo-arm is ahead by luck: the judge asks more than the t interval alone."""
    values = np.array([50.0, 50.2, 49.9, 58.0, 57.5, 58.1])
    every = pseudo_arms(6, 3)
    apart = np.abs((values[every[:, :, 0]] - values[every[:, :, 1]]).mean(1))
    chosen = every[np.argsort(-apart, kind="stable")[:24]]
    ends = (10.0, 80.0) if sign > 0 else (110.0, 20.0)
    rate, refused = judged_rate(PLAN, metric, values, chosen, yardsticks(metric, *ends), "grammar")
    differences = sign * (values[chosen[:, :, 0]] - values[chosen[:, :, 1]])
    better, _ = rejection_rates(differences)
    scores = np.stack([differences, 0 * differences], axis=1)
    shown = effect_of(scores, [[1.0, 0.0], [0.0, 1.0]], scores).above().p < SIDE
    assert refused is None and rate == pytest.approx(float(shown.mean()), abs=1e-12) and 0 < rate < 1
    assert rate <= better == rejection_rates(sign * differences, sign)[0]


def test_a_judge_that_refuses_is_said_to():
    values = [50.0, 51.0, 52.5, 49.0, 50.5, 51.7]
    floor = measured_noise("CIDEr", values, floor=49.0, judged=5)
    assert floor.false_positive_rate == 0.0 and floor.judged == 5 and "3 % of the way" in floor.note
    assert "no blind floor" in measured_noise("CIDEr", values).note
    part = measured_noise("SceneF1-objects", values)
    assert part.false_positive_rate is None and part.judged == 0 and part.splits == 120
    flat = measured_noise("BLEU-4", [0.0] * 6)
    assert flat.sd == flat.mde == flat.better_rate == flat.different_rate == 0.0


def test_measured_values_are_read_as_they_were_written():
    floors = noise_of_sd(2.0) | noise_of_sd(0.1, "test_nll")
    assert floors["CIDEr"].sd == pytest.approx(2.0) and floors["CIDEr"].n == 6 and floors["CIDEr"].seeds == 3
    assert floors["CIDEr"].mde == pytest.approx(minimum_detectable(2**0.5 * 2.0, 3))
    assert floors["CIDEr"].mde_at(3) == floors["CIDEr"].mde > floors["CIDEr"].mde_at(5)
    pair = PairSpread(study="s", treatment="t", reference="r", sd=1.0, n=5, mde=2.0)
    floor = measured_noise("ROUGE-L", [50.0, 51.0, 52.5, 49.0, 50.5, 51.7], pairs=[pair], signature="x")
    assert from_json(NoiseFloor, json.loads(json.dumps(asdict(floor)))) == floor


def test_detectable_asks_the_floor_and_the_pairs():
    floors = noise_of_sd(2.0)
    edge, paired, wide = floors["CIDEr"].mde, minimum_detectable(0.5, 3), minimum_detectable(9.0, 3)
    assert paired < edge < wide
    for difference, metric, known, n, sd, expected in (
        (-1.01 * edge, "CIDEr", floors, 3, None, True),
        (0.99 * edge, "CIDEr", floors, 3, None, False),
        (0.99 * edge, "CIDEr", floors, 4, None, True),  # more seeds see more
        (1.01 * edge, "CIDEr", floors, 2, None, False),
        (100.0, "CIDEr", floors, 1, None, False),
        (1.01 * paired, "CIDEr", floors, 3, 0.5, False),  # a small sd may be luck
        (1.01 * edge, "CIDEr", floors, 3, 0.5, True),
        (0.99 * wide, "CIDEr", floors, 3, 9.0, False),
        (1.01 * paired, "CIDEr", {}, 3, 0.5, True),
        (0.99 * paired, "CIDEr", {}, 3, 0.5, False),
        (0.1, "CIDEr", {}, 3, None, True),  # not measured
        (0.1, "BLEU-4", floors, 3, None, True),
        (0.0, "CIDEr", {}, 3, None, False),
        (math.nan, "CIDEr", {}, 3, None, False),
    ):
        assert detectable(difference, metric, known, n, sd) == expected
