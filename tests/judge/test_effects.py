"""Differences beside what was learned: Fieller's interval, the noise of the margin, the noise of the choice of images."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from helpers_judge import CLAIMS, claim_of, frame_of, pair, plan_of
from helpers_tools import load_tool

from gitbench.judge import judge_study
from gitbench.judge.effects import Effect, effect_of
from gitbench.judge.statistics import SIDE
from gitbench.judge.verdict import INCONCLUSIVE, NOT_TESTABLE, REFUTED, SUPPORTED

WEIGHTS = [[-1.0, 1.0, 0.0], [1.0, 0.0, -1.0]]  # of base, treatment and blind floor


def drawn(rng: np.random.Generator, n: int, learned: float, lead: float = 1.0, images: float = 0.0) -> Effect:
    """Return the effect of three noisy arms; `images` is the sd that the choice of 50 images adds to each of the sums."""
    scores = rng.standard_normal((3, n)) + np.array([[learned], [learned + lead], [0.0]])
    error = images**2 * np.array([[1.0, 0.3], [0.3, 1.0]])
    return dataclasses.replace(effect_of(scores, WEIGHTS, scores[:2]), images=error, count=50 if images else None)


@pytest.mark.parametrize("n, images, sequential", [(5, 0.0, False), (9, 0.0, False), (9, 0.4, False), (9, 0.4, True)])
def test_the_interval_of_the_share_is_what_the_tests_leave(n, images, sequential):
    """Fieller's closed form against the test itself: at its ends p is 2.5 %, less outside and more within."""
    rng = np.random.default_rng(n)
    for _ in range(5):
        effect = dataclasses.replace(drawn(rng, n, 12.0, 2.0, images), sequential=sequential)
        low, high = effect.share_interval()
        for sign, end in ((1, low), (-1, high)):
            before, at, after = (float(effect.above(end + sign * step, sign=sign).mean) for step in (-0.02, 0.0, 0.02))
            assert at == pytest.approx(SIDE, rel=1e-5) and before < SIDE < after


def test_the_interval_of_the_share_covers_the_truth_where_little_was_learned():
    rng, inside, studies = np.random.default_rng(0), 0, 1500
    for _ in range(studies):
        low, high = drawn(rng, 8, 4.0, 1.0).share_interval() or (-math.inf, math.inf)
        inside += low <= 0.25 <= high
    assert inside / studies == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / studies))
    assert drawn(rng, 8, 0.3).share_interval() is None  # what was learned may be nothing


def test_the_noise_of_base_and_floor_enters_the_margin():
    """What was learned varies 10 times as much as the difference: a margin taken as known errs thrice as often as promised."""
    load_tool("simulate")
    for n in (5, 8, 16):
        own, known = load_tool("variances").margin_errors(10, n, studies=6000)
        assert own < SIDE + 4 * math.sqrt(SIDE / 6000) and known > 2 * SIDE


# ---- images -------------------------------------------------------------------------------------------------------------


def tables_of(scores: pd.DataFrame, sd: float, common: float = 0.0, count: int = 100):
    """Return what gives a run's scores by image, of which those of arm d vary by `sd`, and of all arms by `common`."""
    rng = np.random.default_rng(3)
    own, shared, names = rng.standard_normal(count), rng.standard_normal(count), [f"i{at}" for at in range(count)]

    def table(key: str) -> pd.DataFrame:
        arm, replicate = key[:-1], int(key[-1])
        mean = 20.0 if arm == "blind" else float(scores.loc[replicate, arm])
        around = common * (shared - shared.mean()) + (sd * (own - own.mean()) if arm == "d" else 0.0)
        return pd.DataFrame({"image_id": names, "CIDEr": mean + around})

    return table


@pytest.mark.parametrize("kind, lead", [("better", 2.5), ("not_better", 0.0), ("equivalent", 0.0), ("trend", 2.5)])
def test_images_that_say_different_things_open_a_claim(kind, lead):
    scores = pair(lead).assign(b=lambda table: (table["a"] + table["d"]) / 2)
    plan, frame = plan_of(CLAIMS[kind]), frame_of(scores)
    words = {}
    for name, tables in (
        ("these", None),
        ("alike", tables_of(scores, 0.0, common=30.0)),
        ("varied", tables_of(scores, 30.0)),
        ("many", tables_of(scores, 10.0, count=1000)),
    ):
        (words[name],) = judge_study(plan, frame, "grammar", images=tables)
    assert [each.word for each in words.values()] == [SUPPORTED, SUPPORTED, INCONCLUSIVE, SUPPORTED]
    assert [each.images for each in words.values()] == [None, 100, 100, 1000]
    assert words["varied"].image_share > 0.9 > words["many"].image_share
    assert words["alike"].image_share == pytest.approx(0, abs=1e-9)
    low, high = words["varied"].interval
    assert high - low > 8 > 2.5 > words["these"].interval[1] - words["these"].interval[0]


def test_images_open_the_typical_seed_too_and_its_share():
    scores = pair(12.0)
    (found,) = judge_study(plan_of(claim_of("better", margin=0.1, margin_unit="learned")), frame_of(scores), "grammar")
    images = tables_of(scores, 20.0)
    (open_one,) = judge_study(
        plan_of(claim_of("better", margin=0.1, margin_unit="learned")), frame_of(scores), "grammar", images=images
    )
    assert (found.word, open_one.word) == (SUPPORTED, INCONCLUSIVE)
    assert (
        open_one.typical_interval[0] < found.typical_interval[0]
        and open_one.share_interval[0] < found.share_interval[0]
    )


def test_words_are_derived_again_from_what_images_were_found_to_add():
    scores, plan = pair(3.0), plan_of(CLAIMS["better"])
    (first,) = judge_study(plan, frame_of(scores), "grammar", images=tables_of(scores, 5.0))
    (again,) = judge_study(plan, frame_of(scores), "grammar", images=first.image_errors)
    assert again == first and first.image_errors


def test_a_metric_without_scores_by_image_is_not_judged_for_other_images():
    frame = frame_of(pair(3.0))
    bare = pd.DataFrame({"image_id": ["i0", "i1"], "SPICE": [1.0, 2.0]})
    (found,) = judge_study(plan_of(CLAIMS["better"]), frame, "grammar", images=lambda key: bare)
    assert found.word == NOT_TESTABLE and "keep no CIDEr by image" in found.reason
    (refuted,) = judge_study(
        plan_of(CLAIMS["better"]), frame_of(pair(-3.0)), "grammar", images=tables_of(pair(-3.0), 5.0)
    )
    assert refuted.word == REFUTED
