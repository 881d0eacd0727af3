"""Which arms get the next seeds: the better chance to decide a claim for a second of machine time."""

import dataclasses

import numpy as np
import pytest
from helpers_judge import CLAIMS, judged, pair

from gitbench.judge.power import next_seeds, power_per_second, power_to_decide
from gitbench.judge.verdict import INCONCLUSIVE, Verdict

SEEDS = {"a": 3, "b": 3, "d": 3, "blind": 3}
SECONDS = dict.fromkeys(SEEDS, 10.0)


def open_verdict(kind: str, differences: list[float], **changes) -> Verdict:
    claim = dataclasses.replace(CLAIMS[kind], **changes)
    arms = (claim.treatment, "a", "blind")
    (verdict,) = judged(CLAIMS[kind], scores=pair(0.0, np.array(differences)), looks=1)
    return dataclasses.replace(verdict, claim=claim, margin=claim.margin, arms=arms, word=INCONCLUSIVE)


def test_the_better_chance_per_second_comes_first():
    near, hopeless = open_verdict("better", [3.0, 0.5, 1.2]), open_verdict("better", [0.1, -2.0, 2.0], treatment="b")
    # the blind floor too, for without it nobody knows what was learned in a further seed
    assert next_seeds([hopeless, near], SEEDS, SECONDS, 30, 1) == {**SEEDS, "a": 4, "d": 4, "blind": 4}
    dear = {**SECONDS, "d": 100_000.0}
    assert next_seeds([hopeless, near], SEEDS, dear, 30, 1) == {**SEEDS, "a": 4, "b": 4, "blind": 4}
    # an arm that is ahead already costs nothing
    assert next_seeds([near], {**SEEDS, "d": 9}, SECONDS, 30, 1) == {**SEEDS, "d": 9, "a": 4, "blind": 4}
    ahead = power_per_second(near, {**SEEDS, "d": 30}, SECONDS, 30)
    assert ahead == pytest.approx(1.5 * power_per_second(near, SEEDS, SECONDS, 30))
    # as many runs as there are slots, and no seed beyond the most
    assert sum(next_seeds([near], SEEDS, SECONDS, 30, 5).values()) == sum(SEEDS.values()) + 6
    assert next_seeds([near], SEEDS, SECONDS, 3, 5) == SEEDS and power_per_second(near, SEEDS, SECONDS, 3) == -1


def test_the_power_of_a_look_is_that_of_its_level():
    near = open_verdict("better", [3.0, 1.2, 1.6])
    powers = [power_to_decide(near, n) for n in range(3, 31)]
    assert powers[0] < 0.02 and powers == sorted(powers) and powers[-1] > 0.75
    equal = open_verdict("equivalent", [0.3, -0.2, 0.1], margin=2.0)
    assert power_to_decide(equal, 8) > 0.9 > power_to_decide(equal, 4)
    lower = open_verdict("better", [3.0, 0.5, 1.2], metric="test_nll", margin=1.0)
    higher = open_verdict("better", [3.0, 0.5, 1.2], margin=-1.0)
    assert power_to_decide(lower, 8) == pytest.approx(power_to_decide(higher, 8))
    assert power_to_decide(dataclasses.replace(near, differences=()), 8) == 0.0
