"""Two systems on the same images: the interval is that of an independent paired bootstrap, and what it says follows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from helpers_errors import refused
from helpers_systems import references_of, system
from scipy import stats

from gitbench.judge.crossed import crossed_interval, image_interval
from gitbench.judge.systems import SystemDifference, against_first, compare_systems
from gitbench.metric_info import _LOWER_IS_BETTER
from gitbench.metrics import CaptionScorer, from_totals, statistics

IMAGES, RESAMPLES = 300, 10_000
METRICS = ["CIDEr", "ROUGE-L", "BLEU-4", "BLEU-1", "METEOR"]

# What METEOR's process says of four captions; see `tests/metrics/test_caption_scorer.py`.
METEOR_ROWS = [
    "7 7 2 2 5 5 2 2 0 0 0 0 0 0 0 0 0 0 0 0 1 7 7",
    "10 4 3 1 1 1 1 1 1 1 0 0 1 1 0 0 0 0 0 0 2 4 4",
    "9 10 5 6 4 4 5 5 0 0 0 0 0 0 0 0 0 0 0 0 6 9 9",
    "1 6 0 3 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
]


@pytest.fixture(scope="module")
def tables() -> dict[str, list[pd.DataFrame]]:
    """Scores of three seeds of a system that errs in 30 % of its words, and of one in 38 %."""
    references = references_of(IMAGES)
    with CaptionScorer(meteor=False, spice=False) as scorer:
        found = {
            name: [scorer.score(system(references, wrong, seed), references).per_image for seed in seeds]
            for name, wrong, seeds in (("good", 0.30, (1, 2, 3)), ("bad", 0.38, (4, 5, 6)))
        }
    for name, odds in (("good", [0.4, 0.2, 0.3, 0.1]), ("bad", [0.2, 0.3, 0.3, 0.2])):
        drawn = np.random.default_rng(len(name)).choice(METEOR_ROWS, IMAGES, p=odds)
        found[name][0] = found[name][0].assign(meteor_stats=drawn)
    return found


def corpus_bleu(table: pd.DataFrame, order: int, weights: np.ndarray) -> np.ndarray:
    """BLEU by its textbook definition (Papineni et al. 2002), (resamples,), of images counted `weights` times."""
    log = np.zeros(len(weights))
    for n in range(1, order + 1):
        log += np.log(weights @ table[f"bleu_match_{n}"]) - np.log(weights @ table[f"bleu_guess_{n}"])
    length, reference = weights @ table["bleu_guess_len"], weights @ table["bleu_ref_len"]
    return 100 * np.exp(log / order + np.minimum(0, 1 - reference / length))


def bootstrap(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> np.ndarray:
    """Draw images with replacement, the same for both systems, and return the differences of the resampled scores."""
    rng = np.random.default_rng(7)
    weights = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), size=RESAMPLES).astype(float)
    if metric == "METEOR":
        sums = (weights @ statistics(table, metric) for table in (a, b))
        first, second = (np.array([from_totals(row, metric) for row in each]) for each in sums)
    elif metric.startswith("BLEU"):
        first, second = (corpus_bleu(table, int(metric[-1]), weights) for table in (a, b))
    else:
        first, second = (weights @ table[metric].to_numpy() / len(table) for table in (a, b))
    return first - second


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_equals_an_independent_paired_bootstrap_over_images(tables, metric):
    a, b = tables["good"][0], tables["bad"][0]
    found, drawn = compare_systems(metric, [a], [b]), bootstrap(a, b, metric)
    error = drawn.std()
    low, high = np.quantile(drawn, [0.025, 0.975])
    slack = 0.12 * error  # 4 simulation errors of a quantile (0.027 each), and what a percentile is skewed by
    assert (found.low, found.high) == (pytest.approx(low, abs=slack), pytest.approx(high, abs=slack))
    assert found.difference == pytest.approx(found.a[0] - found.b[0]) == pytest.approx(drawn.mean(), abs=0.1 * error)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.04)
    assert found.detectable == pytest.approx(2.80 * error, rel=0.04)  # 1.96 + 0.84 standard errors
    assert found.better == "A" and found.seed_share is None


def test_shares_of_images_are_counted(tables):
    a, b = tables["good"][0], tables["bad"][0]
    found = compare_systems("CIDEr", [a], [b])
    assert (
        found.higher == (a["CIDEr"] > b["CIDEr"] + 1e-9).mean()
        and found.lower == (a["CIDEr"] < b["CIDEr"] - 1e-9).mean()
    )
    assert found.higher + found.tie + found.lower == pytest.approx(1) and found.higher > found.lower > 0
    third = b.assign(CIDEr=a["CIDEr"].where(a.index % 3 == 0, b["CIDEr"]))
    assert compare_systems("CIDEr", [a], [third]).tie == pytest.approx(1 / 3)
    assert compare_systems("BLEU-4", [a], [b]).higher is None  # an image has no BLEU of its own
    undefined = a.assign(SPICE=[np.nan, *np.full(IMAGES - 1, 10.0)])
    half = compare_systems("SPICE", [undefined], [undefined.assign(SPICE=undefined["SPICE"] - 5)])
    assert (half.higher, half.tie, half.lower) == (1, 0, 0)


def test_several_sets_a_side_give_the_crossed_interval_of_their_pairs(tables):
    found = compare_systems("CIDEr", tables["good"], tables["bad"])
    table = np.stack([(a["CIDEr"] - b["CIDEr"]).to_numpy() for a, b in zip(*tables.values(), strict=True)])
    crossed = crossed_interval(table)
    by_image = table.mean(axis=0)
    over_images = 1.968 * by_image.std(ddof=1) / math.sqrt(IMAGES)
    half = (found.high - found.low) / 2
    assert half == pytest.approx(max(over_images, (crossed.high - crossed.low) / 2), rel=1e-3)
    assert found.seed_share == pytest.approx(1 - crossed.image_share) and len(found.a) == len(found.b) == 3
    apart = [a.assign(CIDEr=a["CIDEr"] + 30 * seed) for seed, a in enumerate(tables["good"])]
    wide = compare_systems("CIDEr", apart, tables["bad"])
    reach = crossed_interval(table + 30 * np.arange(3)[:, None])
    assert (wide.low, wide.high) == pytest.approx((reach.low, reach.high)) and wide.seed_share > 0.9
    assert (wide.high - wide.low) / 2 > 5 * over_images


def test_seeds_that_are_alike_by_luck_do_not_narrow_it_below_the_images(tables):
    one = compare_systems("CIDEr", tables["good"][:1], tables["bad"][:1])
    copies = compare_systems("CIDEr", tables["good"][:1] * 3, tables["bad"][:1] * 3)
    assert (copies.low, copies.high) == pytest.approx((one.low, one.high))


def test_the_order_of_images_is_of_no_matter_and_other_images_are_refused(tables):
    a, b = tables["good"][0], tables["bad"][0]
    shuffled = b.sample(frac=1, random_state=1).reset_index(drop=True)
    assert compare_systems("BLEU-4", [a], [shuffled]) == compare_systems("BLEU-4", [a], [b])
    with refused("different images"):
        compare_systems("CIDEr", [a], [b.assign(image_id=b["image_id"] + "x")])
    with refused("one image gives no interval"):
        compare_systems("CIDEr", [a.head(1)], [b.head(1)])
    with refused("A has 2 sets of captions and B 1"):
        compare_systems("CIDEr", [a, a], [b])
    assert compare_systems("SPICE", [a], [b]) is None


def difference(low: float, high: float, metric: str = "CIDEr") -> SystemDifference:
    numbers = {"difference": (low + high) / 2, "low": low, "high": high, "detectable": 1.0, "images": 9}
    return SystemDifference(metric=metric, a=(1.0,), b=(1.0,), **numbers)


def test_better_is_what_the_interval_shows_in_the_metrics_own_direction():
    assert [difference(*ends).better for ends in ((1.0, 2.0), (-2.0, -1.0), (-1.0, 2.0), (0.0, 2.0))] == [
        "A",
        "B",
        None,
        None,
    ]
    assert "CHAIRi" in _LOWER_IS_BETTER
    assert [difference(*ends, "CHAIRi").better for ends in ((1.0, 2.0), (-2.0, -1.0))] == ["B", "A"]


@pytest.mark.parametrize("metric", ["CIDEr", "ROUGE-L", "BLEU-4"])
def test_the_interval_of_a_score_is_that_of_an_independent_bootstrap(tables, metric):
    """SciPy's BCa over images; of BLEU-4, no mean over images, percentiles of its textbook definition."""
    table = tables["good"][0]
    found = image_interval(table, metric)
    if metric == "BLEU-4":
        rng = np.random.default_rng(7)
        weights = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), size=RESAMPLES).astype(float)
        low, high = np.percentile(corpus_bleu(table, 4, weights), [2.5, 97.5])
    else:
        drawn = stats.bootstrap((table[metric],), np.mean, n_resamples=RESAMPLES, method="BCa", rng=7)
        low, high = drawn.confidence_interval
    assert found.low == pytest.approx(low, abs=0.06 * (high - low))
    assert found.high == pytest.approx(high, abs=0.06 * (high - low))
    assert found.n == IMAGES


def test_several_systems_are_compared_with_the_first_and_their_p_values_corrected(tables):
    first, *others = (tables["good"][0], tables["good"][1], tables["bad"][0], tables["bad"][1])
    found = against_first("CIDEr", [first, *others])
    paired = [stats.ttest_rel(each["CIDEr"], first["CIDEr"]).pvalue for each in others]
    assert [each.p for each in found] == pytest.approx(paired, rel=1e-6)
    order, worst = np.argsort(paired), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, (3 - rank) * paired[place])
        assert found[place].adjusted == pytest.approx(min(1.0, worst), rel=1e-6)
    assert [each.better for each in found] == [None, "B", "B"]
    (alone,) = against_first("CIDEr", [first, others[0]])
    assert alone.adjusted == alone.p
    (same,) = against_first("CIDEr", [first, first])
    assert same.p == 1 and same.better is None
    assert against_first("SPICE", [first, others[0]]) is None


def test_a_difference_that_is_shown_alone_may_not_be_after_the_correction(tables):
    table = pd.DataFrame({"image_id": [str(n) for n in range(50)], "CIDEr": np.zeros(50)})
    noise = np.random.default_rng(0).normal(0, 1, 50)
    noise -= noise.mean()
    barely = table.assign(CIDEr=noise / noise.std(ddof=1) + 2.2 / np.sqrt(50))  # t = 2.2
    (alone,) = against_first("CIDEr", [table, barely])
    assert alone.better == "A" and 0.025 < alone.p < 0.05
    of_two = against_first("CIDEr", [table, barely, table])[0]
    assert of_two.better is None and of_two.difference.better == "A"
