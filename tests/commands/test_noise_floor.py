"""The noise floor: spread between replicates of one arm, what it lets us detect, and the judge's errors on it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gitbench.commands.measure_noise import measure_plan, noise_plan, pair_spreads, publish_noise_floor
from gitbench.commands.publish import default_out
from gitbench.judge.compare import paired_difference
from gitbench.study.records import build_frame, load_study
from helpers_runs import make_work_dir
from helpers_study import TINY, tiny_profile

from gitbench.errors import GitbenchError
from gitbench.judge.aa import judged_rate, measure, split_rates, splits
from gitbench.judge.noise import (
    NoiseFloor,
    detectable,
    load_noise_floor,
    minimum_detectable,
    noise_file,
    sd_interval,
    write_noise_floor,
)
from gitbench.launch.scheduling import launch
from gitbench.report import tables
from gitbench.report.noise import noise_figure, noise_markdown, noise_table, pair_table, write_noise_report
from gitbench.study.plan import make_plan

NO_YARDSTICKS = pd.DataFrame(
    columns=["arm", "replicate", "metric", "role", "overridden", "signature", "machine", "value"]
)


def yardsticks(metric: str, floor: float, ceiling: float) -> pd.DataFrame:
    """Return rows that leave the judge nothing to object to, for values between them."""
    rows = [{"arm": role, "role": role, "value": value} for role, value in (("floor", floor), ("ceiling", ceiling))]
    return pd.DataFrame(rows).assign(replicate=0, metric=metric, overridden=False, signature="s", machine="m")


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_minimum_detectable_effect_is_found_in_80_percent_of_studies(n):
    rng = np.random.default_rng(n)
    effect = minimum_detectable(2.0, n)
    draws = effect + 2.0 * rng.standard_normal((100_000, n))
    assert split_rates(draws)[1] == pytest.approx(0.80, abs=0.006)


def test_the_minimum_detectable_effect_at_the_edges():
    assert math.isinf(minimum_detectable(1.0, 1))
    assert minimum_detectable(0.0, 5) == 0.0
    assert minimum_detectable(3.0, 5) == pytest.approx(3 * minimum_detectable(1.0, 5))
    assert minimum_detectable(1.0, 5) == pytest.approx(1.682, abs=0.001)


def test_the_interval_of_a_standard_deviation_covers():
    rng = np.random.default_rng(0)
    found = [sd_interval(rng.normal(5, 3, 6)) for _ in range(2000)]
    assert np.mean([low <= 3 <= high for _, low, high in found]) == pytest.approx(0.95, abs=0.015)
    assert all(low < sd < high for sd, low, high in found)


@pytest.mark.parametrize(("count", "seeds", "expected"), [(6, 3, 120), (10, 5, 30_240), (8, 3, 3360), (2, 1, 2)])
def test_splits_are_all_and_each_once(count, seeds, expected):
    found = splits(count, seeds)
    assert found.shape == (expected, seeds, 2)
    assert all(len(set(split.reshape(-1).tolist())) == 2 * seeds for split in found)
    assert len({frozenset(map(tuple, split.tolist())) for split in found}) == expected


def test_too_many_splits_are_drawn_and_too_few_replicates_refused():
    drawn = splits(16, 8, most=500)
    assert drawn.shape == (500, 8, 2) and all(len(set(split.reshape(-1).tolist())) == 16 for split in drawn)
    assert (drawn == splits(16, 8, most=500)).all()
    with pytest.raises(ValueError, match="5 replicates cannot be split into two arms of 3"):
        splits(5, 3)


@pytest.mark.parametrize(("metric", "sign"), [("CIDEr", 1), ("test_nll", -1)])
def test_the_judge_and_the_rules_over_all_splits_agree(metric, sign):
    values = np.random.default_rng(18).normal(50, 4, 6)  # noise in which some of these splits differ
    chosen = splits(6, 3)[::6]
    ends = (10.0, 120.0) if sign > 0 else (120.0, 10.0)
    rate, refused = judged_rate(metric, values, chosen, yardsticks(metric, *ends), "grammar")
    better, _ = split_rates(values[chosen[:, :, 0]] - values[chosen[:, :, 1]], sign)
    assert refused is None and rate == pytest.approx(better, abs=1e-12)
    assert better == pytest.approx(0.05 if sign > 0 else 0.15)


def test_false_positives_are_5_percent_over_many_noise_floors():
    rng, chosen = np.random.default_rng(5), splits(6, 3)
    rates = [split_rates(values[chosen[:, :, 0]] - values[chosen[:, :, 1]]) for values in rng.normal(100, 6, (2000, 6))]
    assert np.mean(rates, axis=0) == pytest.approx((0.05, 0.05), abs=0.006)


def test_a_judge_that_refuses_is_said_to():
    values = [50.0, 51.0, 52.5, 49.0, 50.5, 51.7]
    floor = measure("CIDEr", values, 3, yardsticks("CIDEr", 49.0, 120.0), judged=5)
    assert floor.false_positive_rate == 0.0 and floor.judged == 5 and "1.5 times the blind floor" in floor.note
    bare = measure("CIDEr", values, 3, NO_YARDSTICKS, judged=3)
    assert "no blind floor" in bare.note
    part = measure("SceneF1-objects", values, 3, NO_YARDSTICKS, judged=3)
    assert part.false_positive_rate is None and part.judged == 0 and part.splits == 120
    flat = measure("BLEU-4", [0.0] * 6, 3, NO_YARDSTICKS, judged=3)
    assert flat.sd == flat.mde == flat.better_rate == flat.different_rate == 0.0


def _floor(sd: float, metric: str = "CIDEr") -> dict[str, NoiseFloor]:
    values = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    return {metric: measure(metric, (50 + sd * values / values.std(ddof=1)).tolist(), 3, NO_YARDSTICKS, judged=3)}


def test_measured_values_and_the_file_they_are_kept_in(tmp_path):
    floors = _floor(2.0) | _floor(0.1, "test_nll")
    assert floors["CIDEr"].sd == pytest.approx(2.0) and floors["CIDEr"].n == 6 and floors["CIDEr"].seeds == 3
    assert floors["CIDEr"].mde == pytest.approx(minimum_detectable(2**0.5 * 2.0, 3))
    assert floors["CIDEr"].mde_at(3) == floors["CIDEr"].mde > floors["CIDEr"].mde_at(5)
    assert load_noise_floor(tmp_path, "cpu", "scenes") == {}
    path = write_noise_floor(tmp_path, "cpu", "scenes", floors, {"seeds": 3})
    assert path == noise_file(tmp_path, "cpu", "scenes") == tmp_path / "noise" / "cpu.scenes.json"
    assert load_noise_floor(tmp_path, "cpu", "scenes") == floors
    assert load_noise_floor(tmp_path, "gpu", "scenes") == {}
    path.write_text('{"floors": [{"metric": "CIDEr"}]}', encoding="utf-8")
    with pytest.raises(GitbenchError, match="damaged: delete it and run `gitbench noise-floor` again"):
        load_noise_floor(tmp_path, "cpu", "scenes")


def test_detectable_asks_the_floor_and_the_pairs():
    floors = _floor(2.0)
    edge = floors["CIDEr"].mde
    assert detectable(-1.01 * edge, "CIDEr", floors, 3) and not detectable(0.99 * edge, "CIDEr", floors, 3)
    assert detectable(0.99 * edge, "CIDEr", floors, 4)  # more seeds see more
    assert not detectable(1.01 * edge, "CIDEr", floors, 2)
    assert not detectable(100.0, "CIDEr", floors, 1)
    paired = minimum_detectable(0.5, 3)
    assert paired < edge and not detectable(1.01 * paired, "CIDEr", floors, 3, paired_sd=0.5)  # a small sd may be luck
    assert detectable(1.01 * edge, "CIDEr", floors, 3, paired_sd=0.5)
    wide = minimum_detectable(9.0, 3)
    assert wide > edge and not detectable(0.99 * wide, "CIDEr", floors, 3, paired_sd=9.0)
    assert detectable(1.01 * paired, "CIDEr", {}, 3, paired_sd=0.5)
    assert not detectable(0.99 * paired, "CIDEr", {}, 3, paired_sd=0.5)
    assert detectable(0.1, "CIDEr", {}, 3) and detectable(0.1, "BLEU-4", floors, 3)  # not measured
    assert not detectable(0.0, "CIDEr", {}, 3) and not detectable(math.nan, "CIDEr", {}, 3)


def test_nothing_below_the_minimum_detectable_effect_is_bold(tmp_path):
    work = make_work_dir(tmp_path, means={"blind": 21.0, "base": 80.0, "large": 90.0})
    study = load_study(work, "decoder_size", "cpu", "scenes")
    frame = build_frame(work, [study])
    frame = frame[frame["metric"] == "CIDEr"]
    lead = np.array([-1.0, 1.0, -0.5, 0.5, 0.0])
    lead /= lead.std(ddof=1)
    for mean, expected in (
        (1.45, {}),
        (1.75, {"CIDEr": "large"}),
    ):  # in sd: the interval excludes 0 from 1.24, MDE 1.68
        values = {arm: 80 + (arm == "large") * (lead + mean) for arm in ("base", "large")}
        for arm, column in values.items():
            frame.loc[frame["arm"] == arm, "value"] = np.broadcast_to(column, 5)
        pair = paired_difference(
            *(pd.Series(np.broadcast_to(values[arm], 5), index=range(5)) for arm in ("large", "base"))
        )
        assert pair.interval.low > 0
        assert tables.best_arms(frame, study) == expected
    two = frame[frame["replicate"].isna() | (frame["replicate"] < 2)].copy()
    two.loc[two["arm"] == "large", "value"] = [90.0, 90.1]
    two.loc[two["arm"] == "base", "value"] = [80.0, 80.1]
    assert tables.best_arms(two, study) == {"CIDEr": "large"}
    assert tables.best_arms(two, study, _floor(2.0)) == {}  # two lucky pairs: the floor knows better


def test_real_pairs_are_found_beside_the_noise_floor(tmp_path):
    work = make_work_dir(tmp_path, replicates=5)
    study = load_study(work, "decoder_size", "cpu", "scenes")
    spreads = pair_spreads(work, study, 5)
    assert [(pair.treatment, pair.reference, pair.n) for pair in spreads["CIDEr"]] == [
        ("small", "base", 5),
        ("large", "base", 5),
    ]
    values = (
        build_frame(work, [study])
        .query("metric == 'CIDEr'")
        .pivot_table(index="replicate", columns="arm", values="value")
    )
    sd = (values["large"] - values["base"]).std(ddof=1)
    assert spreads["CIDEr"][1].sd == pytest.approx(sd)
    assert spreads["CIDEr"][1].mde == pytest.approx(minimum_detectable(sd, 5))
    assert "seconds" not in spreads and "parameters" not in spreads


def test_base_runs_of_a_study_are_the_runs_of_the_noise_floor(tmp_path):
    plan, seeds = noise_plan(tiny_profile(), "scenes", tmp_path)
    study = make_plan(TINY, tiny_profile(), "scenes", tmp_path, replicates=6)
    keys = {(run.arm.name, run.replicate): run.key for run in study.runs}
    assert seeds == 3 and len(plan.runs) == 8
    assert all(keys[run.arm.name, run.replicate] == run.key for run in plan.runs)
    with pytest.raises(GitbenchError, match="--seeds 2: a pseudo-arm needs at least the 3 seeds"):
        noise_plan(tiny_profile(), "scenes", tmp_path, 2)


def test_from_training_to_the_report(tmp_path):
    plan, seeds = noise_plan(tiny_profile(), "scenes", tmp_path / "work")
    first = launch(plan, "gitbench noise-floor --profile smoke", jobs=2, plain=True)
    assert first.completed == 8 and not first.failed
    floors = measure_plan(plan, seeds)
    assert load_noise_floor(tmp_path / "work", "smoke", "scenes") == floors
    assert {"CIDEr", "BLEU-4", "METEOR", "ROUGE-L", "SceneF1", "test_nll"} <= set(floors)
    records = [json.loads((run.folder / "record.json").read_text()) for run in plan.runs if run.arm.name == "base"]
    losses = [record["metrics"]["test_nll"]["value"] for record in records]
    assert floors["test_nll"].values == pytest.approx(losses)
    assert floors["test_nll"].sd == pytest.approx(np.std(losses, ddof=1)) and floors["test_nll"].sd > 0
    again, _ = noise_plan(tiny_profile(), "scenes", tmp_path / "work")
    assert launch(again, "", jobs=2, plain=True).found == 8
    folder = publish_noise_floor(plan, floors, tmp_path / "out")
    names = {"noise_floor.csv", "pairs.csv", "noise_floor.md", "noise_floor.svg", "noise_floor.pdf", "noise_floor.png"}
    assert {path.name for path in folder.iterdir()} == names
    described = json.loads((tmp_path / "work" / "studies" / "noise_floor.smoke.scenes.json").read_text())
    place = default_out(tmp_path / "work", described)
    assert place.parts[-4:-1] == ("reports", "results", "noise_floor") and place.name.startswith("smoke-scenes-")
    (plan.runs[0].folder / "record.json").unlink()
    with pytest.raises(GitbenchError, match="5 of 6 runs have a"):
        measure_plan(plan, seeds)


def test_the_report_says_what_was_measured(tmp_path):
    floors = _floor(2.0) | _floor(0.1, "test_nll") | _floor(1.0, "SceneF1-objects")
    text = noise_markdown(floors, "cpu", "scenes")
    assert "6 replicates of one arm" in text and "120 splits" in text
    assert "| CIDEr | 50.0 | 2.00 (1.25 to 4.91) | 9.23 |" in text
    assert "test NLL (nat/token)" in text and "SceneF1-objects" not in text
    assert "no blind floor was run" in text
    rows = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(set(rows)) == 1
    assert list(noise_table(floors)["metric"]) == ["CIDEr", "test_nll", "SceneF1-objects"]
    titles = [axes.get_title() for axes in noise_figure(floors).axes if axes.get_title()]
    assert titles == ["CIDEr, MDE 9.23", "test NLL, MDE 0.462"]
    first = _bytes(tmp_path / "a", floors)
    assert first == _bytes(tmp_path / "b", floors) and len(first) == 6  # the same numbers give the same files


def _bytes(folder: Path, floors: dict[str, NoiseFloor]) -> list[bytes]:
    names = write_noise_report(folder, floors, profile="cpu", data="scenes")
    return [(folder / name).read_bytes() for name in names]


def test_pairs_stand_in_the_report(tmp_path):
    work = make_work_dir(tmp_path, replicates=5)
    pairs = pair_spreads(work, load_study(work, "decoder_size", "cpu", "scenes"), 3)
    base = _floor(2.0)["CIDEr"]
    floors = {"CIDEr": measure("CIDEr", list(base.values), 3, NO_YARDSTICKS, judged=3, pairs=pairs["CIDEr"])}
    text = noise_markdown(floors, "cpu", "scenes")
    assert f"decoder_size: large \N{MINUS SIGN} base | 5 | {pairs['CIDEr'][1].sd:.2f} | 2.83 |" in text
    table = pair_table(floors)
    assert list(table["treatment"]) == ["small", "large"] and table["sd"][1] == pairs["CIDEr"][1].sd
    assert [pair.mde for pair in floors["CIDEr"].pairs] == [pair.mde for pair in pairs["CIDEr"]]


def test_random_splits_and_all_splits_say_about_the_same():
    values = np.random.default_rng(9).normal(0, 1, 10)
    every = splits(10, 5)
    some = splits(10, 5, most=4000)
    rates = [split_rates(values[chosen[:, :, 0]] - values[chosen[:, :, 1]]) for chosen in (every, some)]
    for first, second in itertools.pairwise(rates):
        assert first == pytest.approx(second, abs=0.02)
