"""Intervals over seeds and images: the crossed table, and scores re-aggregated from what runs stored per image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers_judge import claim_of
from helpers_tools import load_tool

from gitbench.errors import GitbenchError
from gitbench.judge.crossed import Crossed, crossed_claim, crossed_interval, paired_values
from gitbench.judge.statistics import by_replicate, sample, t_interval
from gitbench.metrics.aggregate import scores_from_totals, statistics
from gitbench.metrics.bleu import BLEU_COLUMNS, bleu
from gitbench.metrics.cider import CiderD
from gitbench.metrics.compare import Comparison

WORDS = ["a", "red", "blue", "small", "large", "circle", "square", "left", "of", "the", "green", "star", "above", "two"]
SEEDS, COUNT = 4, 60
PAIR = {"large": 1.0, "base": -1.0}
METRICS = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr", "test_nll"]
Tables = dict[str, pd.DataFrame]  # run key -> per-image table


# ---- the table ----------------------------------------------------------------------------------------------------


def test_shares_of_the_variance_by_hand():
    found = crossed_interval(np.array([[1.0, 2.0], [3.0, 8.0]]))  # mean squares of seeds 16, of images 9, of the rest 4
    assert found.mean == 3.5 and (found.seed_share, found.image_share, found.rest_share) == pytest.approx(
        (12 / 21, 5 / 21, 4 / 21)
    )


@pytest.mark.slow
def test_coverage_is_95_percent_for_any_shares_skewed_images_and_heavy_tailed_seeds():
    tool = load_tool("coverage")
    for replicates, images in ((3, 30), (5, 500)):
        found = [tool.coverage(replicates, images, shares, studies=10_000) for shares in tool.SHARES]
        assert min(found) > 0.93 and max(found) < 0.97
    plain = tool.drawn_coverage(3, 60, (0.5, 0.3, 0.2), skewed_images=False, studies=3000)
    assert plain == pytest.approx(tool.coverage(3, 60, (0.5, 0.3, 0.2)), abs=0.015)  # the short cut is the real thing
    for tails in (None, 3.0):
        assert 0.93 < tool.drawn_coverage(3, 100, (0.4, 0.4, 0.2), seed_df=tails, studies=3000) < 0.97


def test_where_images_do_not_vary_it_is_the_t_interval_over_seeds():
    table = np.repeat(np.array([[1.0], [2.5], [0.5], [3.0]]), 40, axis=1)
    crossed, plain = crossed_interval(table), t_interval(table[:, 0])
    assert (crossed.low, crossed.high) == pytest.approx((plain.low, plain.high))
    assert crossed.df == 3 and crossed.seed_share == pytest.approx(1.0)
    flat = crossed_interval(np.full((3, 4), 2.0))
    assert (flat.low, flat.mean, flat.high, flat.seed_share) == (2.0, 2.0, 2.0, 0.0)
    level = crossed_interval([[6.0, 4.0, 5.0], [4.0, 6.0, 5.0]])  # all rows have one mean, all columns too
    assert (level.seed_share, level.image_share, level.rest_share) == (0, 0, 1)


@pytest.mark.parametrize("table", [np.ones((1, 5)), np.ones((5, 1)), np.ones(5), np.array([[1.0, np.nan], [1.0, 2.0]])])
def test_tables_that_give_no_interval_are_refused(table):
    with pytest.raises(ValueError, match="2 replicates x 2 images"):
        crossed_interval(table)


# ---- re-aggregation -----------------------------------------------------------------------------------------------


def _predictions(rng: np.random.Generator, references: list[str], share: float) -> list[str]:
    """Replace words of the references by chance: `share` of them are kept."""
    return [" ".join(w if rng.random() < share else str(rng.choice(WORDS)) for w in ref.split()) for ref in references]


def make_frame(scores: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return the frame of runs: run key ("<arm><replicate>") -> metric -> score."""
    rows = [
        {"arm": key[:-1], "replicate": int(key[-1]), "run_key": key, "metric": metric, "value": value}
        for key, metrics in scores.items()
        for metric, value in metrics.items()
    ]
    return pd.DataFrame(rows).assign(overridden=False)


@pytest.fixture(scope="module")
def captions() -> tuple[pd.DataFrame, Tables]:
    """Four arms x 4 seeds of captions, scored as the scorer does: corpus scores in the frame, statistics per image."""
    rng, scores, tables = np.random.default_rng(0), {}, {}
    words = [int(each) for each in rng.integers(5, 14, COUNT)]
    references = [" ".join(str(rng.choice(WORDS)) for _ in range(n)) for n in words]
    for arm, share in {"base": 0.6, "large": 0.75, "small": 0.55, "tiny": 0.5}.items():
        for replicate in range(SEEDS):
            said = _predictions(rng, references, share + rng.normal(0, 0.02))
            known = CiderD([[each] for each in references])
            compared = Comparison(said, known.references)
            corpus, parts = bleu(compared)
            table = pd.DataFrame(parts, columns=list(BLEU_COLUMNS))
            table.insert(0, "image_id", [f"image-{i}" for i in range(COUNT)])
            table["CIDEr"] = 100 * known.score(compared)
            table["tokens"] = words
            table["nll"] = np.array(words) * rng.gamma(4, (1.1 - share) / 4, COUNT)
            found = {f"BLEU-{n + 1}": 100 * value for n, value in enumerate(corpus)}
            found |= {"CIDEr": float(table["CIDEr"].mean()), "test_nll": table["nll"].sum() / table["tokens"].sum()}
            scores[f"{arm}{replicate}"], tables[f"{arm}{replicate}"] = found, table
    return make_frame(scores), tables


def paired(frame: pd.DataFrame, tables: Tables, metric: str) -> pd.DataFrame | None:
    return paired_values(frame, metric, PAIR, tables.__getitem__)


def recorded(frame: pd.DataFrame, arm: str, metric: str) -> pd.Series:
    return by_replicate(frame[(frame["arm"] == arm) & (frame["metric"] == metric)])


@pytest.mark.parametrize("metric", METRICS)
def test_reaggregation_gives_the_recorded_scores(captions, metric):
    frame, tables = captions
    table = paired(frame, tables, metric)
    expected = recorded(frame, "large", metric) - recorded(frame, "base", metric)
    assert table.mean(axis=1).to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-9)
    assert table.shape == (SEEDS, COUNT)


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_the_jackknife_agrees_with_a_bootstrap_of_images(captions, metric):
    """The variance of the mean over replicates, were other images drawn: by pseudo-values, and by drawing."""
    frame, tables = captions
    rng, parts = np.random.default_rng(0), {key: statistics(table, metric) for key, table in tables.items()}
    counts = rng.multinomial(COUNT, np.full(COUNT, 1 / COUNT), size=2000).astype(float)
    drawn = [
        scores_from_totals(counts @ parts[f"large{r}"], metric) - scores_from_totals(counts @ parts[f"base{r}"], metric)
        for r in range(SEEDS)
    ]
    values = paired(frame, tables, metric).to_numpy().mean(axis=0)
    assert np.std(values) / np.sqrt(COUNT) == pytest.approx(np.mean(drawn, axis=0).std(), rel=0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "better", "metric": "BLEU-4"},
        {"kind": "interaction", "treatment_from": "small", "reference_from": "tiny", "metric": "BLEU-4"},
        {"kind": "interaction", "treatment_from": "tiny", "reference_from": "tiny"},
        {"kind": "trend", "reference": "tiny", "along": (("tiny", 0.0), ("base", 1.0), ("large", 4.0))},
    ],
)
def test_every_kind_of_claim_has_its_interval_over_seeds_and_images(captions, fields):
    frame, tables = captions
    claim = claim_of(**{"treatment": "large", "reference": "base", **fields})
    found = crossed_claim(claim, frame, tables.__getitem__)
    judged = sample(claim, {arm: recorded(frame, arm, claim.metric) for arm in claim.arms})
    assert found.mean == pytest.approx(np.mean(judged.differences), abs=1e-9)
    assert found.low < found.mean < found.high and (found.replicates, found.images) == (SEEDS, COUNT)


def test_questions_about_one_image_are_one_cluster():
    rng = np.random.default_rng(0)
    images = {f"{arm}{r}": rng.normal(level, 20, 50) for arm, level in (("base", 40), ("large", 55)) for r in range(4)}
    frame = make_frame({key: {"VQA": float(values.mean())} for key, values in images.items()})

    def asked(times: int, cluster: bool) -> Crossed:
        names = np.repeat([f"i{i}" for i in range(50)], times)
        ids = [f"{name}-q{at}" for at, name in enumerate(names)]
        tables = {
            key: pd.DataFrame(
                {"image_id": ids, "VQA": np.repeat(values, times)} | ({"image": names} if cluster else {})
            )
            for key, values in images.items()
        }
        return crossed_interval(paired(frame, tables, "VQA"))

    once, five, loose = asked(1, True), asked(5, True), asked(5, False)  # the same answers once, and five times over
    assert five.images == 50 and (five.low, five.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert loose.images == 250 and loose.high - loose.low < five.high - five.low


def test_images_without_a_value_take_no_part(captions):
    frame, tables = captions
    holes = {key: table.assign(SceneF1=table["CIDEr"].where(table.index % 4 > 0)) for key, table in tables.items()}
    scores = make_frame({key: {"SceneF1": float(table["SceneF1"].mean())} for key, table in holes.items()})
    expected = recorded(scores, "large", "SceneF1") - recorded(scores, "base", "SceneF1")
    assert paired(scores, holes, "SceneF1").to_numpy().mean() == pytest.approx(expected.mean(), abs=1e-9)


def test_what_cannot_be_compared_gives_none_or_is_refused(captions):
    frame, tables = captions
    assert paired(frame, tables, "SPICE") is None
    assert paired(frame[frame["replicate"] == 0], tables, "CIDEr") is None
    changed = frame["run_key"].isin(["large1", "large2", "base3"])
    assert paired(frame.assign(overridden=changed), tables, "CIDEr") is None
    bare = {key: table[["image_id"]] for key, table in tables.items()}  # scored without what the metric needs
    assert paired(frame, bare, "CIDEr") is None
    other = {key: table.iloc[: 50 if key[:-1] == "large" else 60] for key, table in tables.items()}
    with pytest.raises(GitbenchError, match="other images"):
        paired(frame, other, "CIDEr")
