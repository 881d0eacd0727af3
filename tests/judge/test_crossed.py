"""Intervals over seeds and images: the crossed table, and scores re-aggregated from what runs stored per image."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gitbench.judge.coverage import IMAGES, REPLICATES, SHARES, coverage, drawn_coverage
from gitbench.study.records import PlannedRun, Study, StudyArm
from scipy import stats

from gitbench.errors import GitbenchError
from gitbench.judge import resample
from gitbench.judge.crossed import crossed_interval, mean_squares
from gitbench.judge.intervals import t_interval
from gitbench.judge.resample import Comparison, Side
from gitbench.judge.sample import sample
from gitbench.metrics.aggregate import CORPUS_METRICS, from_totals, scores_from_totals, statistics
from gitbench.metrics.bleu import BLEU_COLUMNS, bleu
from gitbench.metrics.cider import CiderD
from gitbench.metrics.compare import Comparison
from gitbench.spec import Claim

WORDS = ["a", "red", "blue", "small", "large", "circle", "square", "left", "of", "the", "green", "star", "above", "two"]
SEEDS, COUNT = 4, 60
PAIR = {"large": 1.0, "base": -1.0}


def test_mean_squares_by_hand():
    found = mean_squares(np.array([[1.0, 2.0], [3.0, 8.0]]))
    assert (found.mean, found.seeds, found.images, found.rest) == (3.5, 16.0, 9.0, 4.0)
    interval = crossed_interval(np.array([[1.0, 2.0], [3.0, 8.0]]))
    assert (interval.seed_sd**2, interval.image_sd**2, interval.rest_sd**2) == pytest.approx((6.0, 2.5, 4.0))
    shares = (interval.seed_share, interval.image_share, interval.rest_share)
    assert shares == pytest.approx((12 / 21, 5 / 21, 4 / 21))


@pytest.mark.parametrize("replicates", REPLICATES)
@pytest.mark.parametrize("images", IMAGES)
def test_coverage_is_95_percent_for_any_shares(replicates, images):
    found = {shares: coverage(replicates, images, shares, studies=20_000) for shares in SHARES}
    assert all(0.935 < each < 0.968 for each in found.values()), found


def test_coverage_over_drawn_tables_skewed_images_and_heavy_tailed_seeds():
    plain = drawn_coverage(3, 60, (0.5, 0.3, 0.2), skewed_images=False, studies=3000)
    assert plain == pytest.approx(coverage(3, 60, (0.5, 0.3, 0.2)), abs=0.015)  # the short cut is the real thing
    for tails in (None, 3.0):
        found = drawn_coverage(3, 100, (0.4, 0.4, 0.2), seed_df=tails, studies=3000)
        assert 0.93 < found < 0.97


def test_a_t_interval_over_seeds_alone_misses_the_images():
    rng, inside, crossed = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        table = 0.5 * rng.standard_normal((5, 1)) + 10 * rng.standard_normal(100) + rng.standard_normal((5, 100))
        seeds = t_interval(table.mean(axis=1))
        inside += seeds.low <= 0 <= seeds.high
        both = crossed_interval(table)
        crossed += both.low <= 0 <= both.high
    assert inside / 1000 < 0.75 and 0.93 < crossed / 1000 < 0.97


def test_where_images_do_not_vary_it_is_the_t_interval_over_seeds():
    table = np.repeat(np.array([[1.0], [2.5], [0.5], [3.0]]), 40, axis=1)
    crossed, plain = crossed_interval(table), t_interval(table[:, 0])
    assert (crossed.low, crossed.high) == pytest.approx((plain.low, plain.high))
    assert crossed.df == 3 and crossed.seed_share == pytest.approx(1.0)


def test_variances_are_found_again_and_their_shares_sum_to_one():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        draws = 2 * rng.standard_normal((8, 1)) + 5 * rng.standard_normal(200) + 7 * rng.standard_normal((8, 200))
        found.append(crossed_interval(draws))
    for name, sd in (("seed_sd", 2), ("image_sd", 5), ("rest_sd", 7)):
        assert np.mean([getattr(each, name) ** 2 for each in found]) == pytest.approx(sd**2, rel=0.1)
    assert all(each.seed_share + each.image_share + each.rest_share == pytest.approx(1) for each in found)


def test_a_negative_variance_counts_as_none_and_is_noted():
    rest = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
    found = crossed_interval(5 + rest)  # all rows have one mean, all columns too
    assert found.seed_share == found.image_share == found.seed_sd == found.image_sd == 0 and found.rest_share == 1
    assert len(found.notes) == 2 and all("negative" in note for note in found.notes)
    flat = crossed_interval(np.full((3, 4), 2.0))
    assert (flat.low, flat.mean, flat.high, flat.notes, flat.seed_share) == (2.0, 2.0, 2.0, (), 0.0)


@pytest.mark.parametrize("table", [np.ones((1, 5)), np.ones((5, 1)), np.ones(5), np.array([[1.0, np.nan], [1.0, 2.0]])])
def test_tables_that_give_no_interval_are_refused(table):
    with pytest.raises(ValueError, match="2 replicates x 2 images"):
        crossed_interval(table)


def _predictions(rng: np.random.Generator, references: list[str], share: float) -> list[str]:
    """Replace words of the references by chance: `share` of them are kept."""
    return [" ".join(w if rng.random() < share else str(rng.choice(WORDS)) for w in ref.split()) for ref in references]


def _write(folder: Path, key: str, table: pd.DataFrame, metrics: dict[str, float], overridden: bool = False) -> None:
    run = folder / "runs" / key
    run.mkdir(parents=True)
    scores = {name: {"value": value, "signature": name} for name, value in metrics.items()}
    record = {"run_key": key, "metrics": scores, "cost": {}, "overridden": ["x"] if overridden else []}
    (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
    table.to_parquet(run / "per_image.parquet")


def _study(arms: tuple[str, ...], replicates: int) -> Study:
    return Study(
        **dict.fromkeys(
            ("ablation", "profile", "data", "data_fingerprint", "command", "title", "question", "axis"), "x"
        ),
        base="base",
        claims=(),
        arms=tuple(StudyArm(name=arm, role="arm", variants={}, label=arm) for arm in arms),
        runs=tuple(PlannedRun(arm=a, replicate=r, run_key=f"{a}{r}") for r in range(replicates) for a in arms),
        yardstick_key=None,
    )


@pytest.fixture(scope="module")
def captions(tmp_path_factory) -> tuple[Path, Study]:
    """Four arms x 4 seeds of captions, scored as the scorer does: corpus scores in the record, statistics per image."""
    folder, rng = tmp_path_factory.mktemp("captions"), np.random.default_rng(0)
    words = [int(each) for each in rng.integers(5, 14, COUNT)]
    references = [" ".join(str(rng.choice(WORDS)) for _ in range(n)) for n in words]
    arms = {"base": 0.6, "large": 0.75, "small": 0.55, "tiny": 0.5}
    for arm, share in arms.items():
        for replicate in range(SEEDS):
            said = _predictions(rng, references, share + rng.normal(0, 0.02))
            corpus, parts = bleu(Comparison(said, [[each] for each in references]))
            table = pd.DataFrame(parts, columns=list(BLEU_COLUMNS))
            table.insert(0, "image_id", [f"image-{i}" for i in range(COUNT)])
            table["CIDEr"] = 100 * CiderD([[each] for each in references]).score(said)
            table["tokens"] = words
            table["nll"] = np.array(words) * rng.gamma(4, (1.1 - share) / 4, COUNT)
            table["meteor_stats"] = _meteor_lines(rng, words, share)
            metrics = {f"BLEU-{n + 1}": 100 * value for n, value in enumerate(corpus)}
            metrics |= {"CIDEr": float(table["CIDEr"].mean()), "test_nll": table["nll"].sum() / table["tokens"].sum()}
            metrics["METEOR"] = from_totals(statistics(table, "METEOR").sum(axis=0), "METEOR")
            _write(folder, f"{arm}{replicate}", table, metrics)
    return folder, _study(tuple(arms), SEEDS)


def _meteor_lines(rng: np.random.Generator, words: list[int], share: float) -> list[str]:
    """Make statistics as METEOR prints them: exact matches of content and function words, in some chunks."""
    lines = []
    for n in words:
        content = int(rng.binomial(n - n // 3, share))
        function = int(rng.binomial(n // 3, share))
        stages = [content, content, function, function] + [0] * 12
        chunks = int(rng.integers(1, max(2, content + function + 1)))
        lines.append(
            " ".join(map(str, [n, n, n // 3, n // 3, *stages, chunks, content + function, content + function]))
        )
    return lines


def _recorded(folder: Path, arm: str, metric: str) -> np.ndarray:
    records = [json.loads((folder / "runs" / f"{arm}{r}" / "record.json").read_text()) for r in range(SEEDS)]
    return np.array([record["metrics"][metric]["value"] for record in records])


@pytest.mark.parametrize("metric", [*CORPUS_METRICS, "CIDEr", "test_nll"])
def test_reaggregation_gives_the_recorded_scores(captions, metric):
    folder, study = captions
    found = resample.load_comparison(study, folder, metric, PAIR)
    expected = _recorded(folder, "large", metric) - _recorded(folder, "base", metric)
    assert found.by_replicate() == pytest.approx(expected, abs=1e-9)
    assert found.table().mean(axis=1).to_numpy() == pytest.approx(expected, abs=1e-9)
    assert found.table().shape == (SEEDS, COUNT)


def test_averaging_bleu_per_image_would_give_another_number(captions):
    folder, study = captions
    found = resample.load_comparison(study, folder, "BLEU-4", PAIR)
    averaged = [scores_from_totals(side.parts, "BLEU-4").mean(axis=1) for side in found.sides]
    assert abs((averaged[0] - averaged[1]).mean() - found.by_replicate().mean()) > 1.0
    loss = resample.load_comparison(study, folder, "test_nll", PAIR)
    ratios = [(side.parts[..., 0] / side.parts[..., 1]).mean(axis=1) for side in loss.sides]
    assert abs((ratios[0] - ratios[1]).mean() - loss.by_replicate().mean()) > 1e-4


def test_a_mean_over_images_is_its_own_jackknife(captions):
    folder, study = captions
    table = resample.load_comparison(study, folder, "CIDEr", PAIR).table()
    stored = [pd.read_parquet(folder / "runs" / f"{arm}2" / "per_image.parquet")["CIDEr"] for arm in ("large", "base")]
    assert table.loc[2].to_numpy() == pytest.approx((stored[0] - stored[1]).to_numpy(), abs=1e-8)


@pytest.mark.parametrize("metric", [*CORPUS_METRICS, "CIDEr", "test_nll"])
def test_bootstrap_and_jackknife_agree(captions, metric):
    folder, study = captions
    found = resample.load_comparison(study, folder, metric, PAIR)
    jackknife, bootstrap = crossed_interval(found.table()), resample.bootstrap_interval(found, 4000)
    assert bootstrap.mean == pytest.approx(jackknife.mean, abs=1e-9)
    assert bootstrap.se == pytest.approx(jackknife.se, rel=0.1)
    assert bootstrap.rest_sd == pytest.approx(jackknife.rest_sd, rel=0.12)
    assert bootstrap.high - bootstrap.low == pytest.approx(jackknife.high - jackknife.low, rel=0.2)


def test_scores_of_many_totals_are_those_of_each(captions):
    folder, _ = captions
    table = pd.read_parquet(folder / "runs" / "base0" / "per_image.parquet")
    for metric in (*CORPUS_METRICS, "CIDEr", "test_nll"):
        parts = statistics(table, metric)
        totals = np.stack([parts[:10].sum(0), parts[10:].sum(0), parts.sum(0), np.zeros(parts.shape[1])])
        many = scores_from_totals(totals.reshape(2, 2, -1), metric).reshape(-1)
        one = [from_totals(each, metric) for each in totals]
        assert many == pytest.approx(one, rel=1e-12, abs=1e-12, nan_ok=True)


def test_images_are_drawn_together_for_both_arms(captions):
    folder, study = captions
    twin = tuple(PlannedRun(arm="twin", replicate=r, run_key=f"large{r}") for r in range(SEEDS))
    arms = (*study.arms, dataclasses.replace(study.arms[0], name="twin"))
    both = dataclasses.replace(study, arms=arms, runs=(*study.runs, *twin))
    found = resample.load_comparison(both, folder, "BLEU-4", {"large": 1.0, "twin": -1.0})
    assert not resample.image_draws(found, 50).any()  # an arm against itself never differs, whichever images are drawn
    real = resample.load_comparison(study, folder, "BLEU-4", PAIR)
    draws = resample.image_draws(real, 300, seed=3)
    assert draws.shape == (300, SEEDS) and draws.std() > 0
    assert (draws == resample.image_draws(real, 300, seed=3)).all()


WORDS_OF_A_CLAIM = dict.fromkeys(("margin_reason", "says", "quote", "where", "confidence"), "x")
KINDS = {
    "better": {"reference": "base"},
    "interaction": {"reference": "base", "treatment_from": "small", "reference_from": "tiny"},
    "one start": {"reference": "base", "treatment_from": "tiny", "reference_from": "tiny"},
    "trend": {"reference": "tiny", "along": (("tiny", 0.0), ("base", 1.0), ("large", 4.0))},
    "threshold": {"level": 20.0},
    "share": {"level": 0.25, "level_unit": "range"},
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("metric", ["BLEU-4", "CIDEr"])
def test_every_kind_of_claim_has_its_interval_over_seeds_and_images(captions, name, metric):
    folder, study = captions
    kind = {"one start": "interaction", "share": "threshold"}.get(name, name)
    claim = Claim(
        name=name, kind=kind, metric=metric, treatment="large", margin=0, margin_unit="metric", **KINDS[name],
        **WORDS_OF_A_CLAIM,
    )  # fmt: skip
    study = dataclasses.replace(
        study,
        arms=tuple(dataclasses.replace(arm, role="floor" if arm.name == "small" else "arm") for arm in study.arms),
        yardstick_key="0",
    )
    (folder / "yardsticks").mkdir(exist_ok=True)
    ceiling = {"kind": "grammar", "ceiling": {metric: {"value": 90.0}}}
    (folder / "yardsticks" / "0.json").write_text(json.dumps(ceiling), encoding="utf-8")
    values = {arm.name: pd.Series(_recorded(folder, arm.name, metric)) for arm in study.arms}
    judged = sample(claim, values, values["small"], 90.0)
    found = resample.crossed_claim(study, folder, claim)
    assert judged.replicates == tuple(range(SEEDS))
    assert found.mean == pytest.approx(np.mean(judged.differences), abs=1e-9)
    assert found.low < found.mean < found.high and (found.replicates, found.images) == (SEEDS, COUNT)
    seeds = found.seed_sd**2 + found.rest_sd**2 / COUNT  # what one seed varies by, on these images
    assert seeds == pytest.approx(np.var(judged.differences, ddof=1)) or found.seed_sd == 0


def test_a_level_of_an_unknown_range_has_no_interval(captions):
    folder, study = captions
    own = {**KINDS["share"], **WORDS_OF_A_CLAIM, "treatment": "large", "metric": "BLEU-4"}
    claim = Claim(name="share", kind="threshold", margin=0, margin_unit="metric", **own)
    assert resample.crossed_claim(study, folder, claim) is None


def crossed(study: Study, folder: Path, metric: str, weights=PAIR):
    found = resample.load_comparison(study, folder, metric, weights)
    return None if found is None else crossed_interval(found.table())


def test_questions_about_one_image_are_one_cluster(tmp_path):
    rng = np.random.default_rng(0)
    for arm, level in (("base", 40.0), ("large", 55.0)):
        for replicate in range(4):
            image = rng.normal(level, 20, 50)
            for name, asked in (("one", 1), ("five", 5)):  # the same answers once, and five times over
                ids = [f"i{i}-q{q}" for i in range(50) for q in range(asked)]
                table = pd.DataFrame({"image_id": ids, "VQA": np.repeat(image, asked)})
                table["image"] = [each.split("-")[0] for each in ids]
                _write(tmp_path / name, f"{arm}{replicate}", table, {"VQA": float(table["VQA"].mean())})
                _write(tmp_path / f"{name}-loose", f"{arm}{replicate}", table.drop(columns="image"), {"VQA": 1.0})
    study = _study(("base", "large"), 4)
    once, five, loose = (crossed(study, tmp_path / name, "VQA") for name in ("one", "five", "five-loose"))
    assert five.images == 50 and five.high == pytest.approx(once.high) and five.low == pytest.approx(once.low)
    assert loose.images == 250 and loose.high - loose.low < five.high - five.low


def test_images_without_a_value_take_no_part(tmp_path):
    rng = np.random.default_rng(1)
    for arm in ("base", "large"):
        for replicate in range(3):
            values = np.where(np.arange(40) % 4 == 0, np.nan, rng.normal(30, 5, 40))
            table = pd.DataFrame({"image_id": [f"i{i}" for i in range(40)], "SceneF1": values})
            _write(tmp_path, f"{arm}{replicate}", table, {"SceneF1": float(np.nanmean(values))})
    found = crossed(_study(("base", "large"), 3), tmp_path, "SceneF1")
    expected = [_scene(tmp_path, "large", r) - _scene(tmp_path, "base", r) for r in range(3)]
    assert found.mean == pytest.approx(np.mean(expected), abs=1e-9) and found.high > found.mean


def _scene(folder: Path, arm: str, replicate: int) -> float:
    return json.loads((folder / "runs" / f"{arm}{replicate}" / "record.json").read_text())["metrics"]["SceneF1"][
        "value"
    ]


def test_what_cannot_be_compared_gives_none(captions, tmp_path):
    folder, study = captions
    assert crossed(study, folder, "SPICE") is None
    one = dataclasses.replace(study, runs=tuple(run for run in study.runs if run.replicate == 0))
    assert crossed(one, folder, "CIDEr") is None
    table = pd.DataFrame({"image_id": ["a", "b"], "CIDEr": [1.0, 2.0]})
    for arm in ("base", "large"):
        for replicate in range(2):
            _write(tmp_path, f"{arm}{replicate}", table, {"CIDEr": 1.5}, overridden=(arm, replicate) == ("large", 1))
    assert crossed(_study(("base", "large"), 2), tmp_path, "CIDEr") is None
    with pytest.raises(GitbenchError, match="unknown arm 'lage': did you mean 'large'"):
        crossed(study, folder, "CIDEr", {"lage": 1.0, "base": -1.0})


def test_runs_on_other_images_are_refused(tmp_path):
    for arm, first in (("base", 0), ("large", 1)):
        for replicate in range(2):
            table = pd.DataFrame({"image_id": [f"i{first + i}" for i in range(5)], "CIDEr": np.arange(5.0)})
            _write(tmp_path, f"{arm}{replicate}", table, {"CIDEr": 2.0})
    with pytest.raises(GitbenchError, match="other images"):
        crossed(_study(("base", "large"), 2), tmp_path, "CIDEr")


def test_a_thousand_resamples_take_about_a_second():
    rng = np.random.default_rng(0)
    sides = tuple(Side(weight=sign, parts=rng.integers(1, 20, (5, 500, 23)).astype(float)) for sign in (1.0, -1.0))
    found = Comparison(metric="METEOR", replicates=tuple(range(5)), images=tuple(map(str, range(500))), sides=sides)
    began = time.process_time()
    interval = resample.bootstrap_interval(found, 1000)
    assert time.process_time() - began < 2.0
    assert interval.low < interval.mean < interval.high and interval.images == 500
    assert stats.t.ppf(0.975, interval.df) * interval.se == pytest.approx(interval.high - interval.mean)
