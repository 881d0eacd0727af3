"""The noise floor: spread between replicates of one arm, what it lets us detect, and the judge's errors on it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_judge import plan_of
from helpers_runs import make_work_dir
from helpers_study import TINY, make_study, tiny_profile

from gitbench.cli import main
from gitbench.commands.noise_floor import measure_noise, noise_plan
from gitbench.commands.report import report_folder
from gitbench.errors import GitbenchError
from gitbench.judge.aa import judged_rate, noise_floor, pair_spreads, pseudo_arms, rejection_rates
from gitbench.judge.noise import (
    NoiseFloor,
    detectable,
    floors_from_json,
    floors_to_json,
    minimum_detectable,
    sd_interval,
)
from gitbench.launch.scheduling import launch
from gitbench.report import tables
from gitbench.report.noise import noise_figure, noise_markdown, noise_table, pair_table, write_noise_report
from gitbench.study.store import Study

COLUMNS = ["arm", "replicate", "metric", "role", "overridden", "signature", "machine", "value"]
NO_YARDSTICKS = pd.DataFrame(columns=COLUMNS)


def yardsticks(metric: str, floor: float, ceiling: float) -> pd.DataFrame:
    """Return rows that leave the judge nothing to object to, for values between them."""
    rows = [{"arm": role, "role": role, "value": value} for role, value in (("floor", floor), ("ceiling", ceiling))]
    return pd.DataFrame(rows).assign(replicate=0, metric=metric, overridden=False, signature="s", machine="m")


def measured(metric: str, values: list[float], rows: pd.DataFrame = NO_YARDSTICKS, **options) -> NoiseFloor:
    return noise_floor(plan_of(), metric, values, 3, rows, **{"judged": 3, **options})


def floor_of(sd: float, metric: str = "CIDEr", **options) -> dict[str, NoiseFloor]:
    values = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    return {metric: measured(metric, (50 + sd * values / values.std(ddof=1)).tolist(), **options)}


def study_in(folder: Path, **options) -> Study:
    return Study.open(make_work_dir(folder, records_only=True, **options), "decoder_size.cpu.scenes")


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_minimum_detectable_effect_is_found_in_80_percent_of_studies(n):
    draws = minimum_detectable(2.0, n) + 2.0 * np.random.default_rng(n).standard_normal((100_000, n))
    assert rejection_rates(draws)[1] == pytest.approx(0.80, abs=0.006)


def test_the_minimum_detectable_effect_at_the_edges():
    assert math.isinf(minimum_detectable(1.0, 1)) and minimum_detectable(0.0, 5) == 0.0
    assert minimum_detectable(3.0, 5) == pytest.approx(3 * minimum_detectable(1.0, 5))
    assert minimum_detectable(1.0, 5) == pytest.approx(1.682, abs=0.001)


def test_the_interval_of_a_standard_deviation_is_that_of_chi_square():
    sd, low, high = sd_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (sd, low, high) == pytest.approx((1.5811, 0.9473, 4.5434), abs=1e-3)  # chi-square tables: 11.143 and 0.4844


@pytest.mark.parametrize(("count", "seeds", "expected"), [(6, 3, 120), (10, 5, 30_240), (8, 3, 3360), (2, 1, 2)])
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
    values = np.random.default_rng(18).normal(50, 4, 6)  # noise in which some of these splits differ
    chosen = pseudo_arms(6, 3)[::6]
    ends = (10.0, 120.0) if sign > 0 else (120.0, 10.0)
    rate, refused = judged_rate(plan_of(), metric, values, chosen, yardsticks(metric, *ends), "grammar")
    better, _ = rejection_rates(values[chosen[:, :, 0]] - values[chosen[:, :, 1]], sign)
    assert refused is None and rate == pytest.approx(better, abs=1e-12)
    assert better == pytest.approx(0.05 if sign > 0 else 0.15)


def test_a_judge_that_refuses_is_said_to():
    values = [50.0, 51.0, 52.5, 49.0, 50.5, 51.7]
    low = measured("CIDEr", values, yardsticks("CIDEr", 49.0, 120.0), judged=5)
    assert low.false_positive_rate == 0.0 and low.judged == 5 and "1.5 times the blind floor" in low.note
    assert "no blind floor" in measured("CIDEr", values).note
    part = measured("SceneF1-objects", values)
    assert part.false_positive_rate is None and part.judged == 0 and part.splits == 120
    flat = measured("BLEU-4", [0.0] * 6)
    assert flat.sd == flat.mde == flat.better_rate == flat.different_rate == 0.0


def test_a_floor_survives_its_file():
    floors = floor_of(2.0) | floor_of(0.1, "test_nll")
    assert floors["CIDEr"].sd == pytest.approx(2.0) and floors["CIDEr"].n == 6 and floors["CIDEr"].seeds == 3
    assert floors["CIDEr"].mde == pytest.approx(minimum_detectable(2**0.5 * 2.0, 3))
    assert floors["CIDEr"].mde_at(3) == floors["CIDEr"].mde > floors["CIDEr"].mde_at(5)
    assert floors_from_json(floors_to_json(floors, {"seeds": 3})) == floors


def test_detectable_asks_the_floor_and_the_pairs():
    floors = floor_of(2.0)
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
        assert detectable(difference, metric, known, n, sd) == expected, (difference, metric, n, sd)


def test_nothing_below_the_minimum_detectable_effect_is_bold(tmp_path):
    study = study_in(tmp_path, means={"blind": 21.0, "base": 80.0, "large": 90.0})
    frame = study.frame[study.frame["metric"] == "CIDEr"].copy()
    lead = np.array([-1.0, 1.0, -0.5, 0.5, 0.0])
    lead /= lead.std(ddof=1)
    frame.loc[frame["arm"] == "base", "value"] = 80.0
    for mean, expected in (
        (1.45, {}),
        (1.75, {"CIDEr": "large"}),
    ):  # in sd: the interval excludes 0 from 1.24, MDE 1.68
        frame.loc[frame["arm"] == "large", "value"] = 80 + lead + mean
        assert tables.best_arms(frame, study.plan, {}) == expected
    two = frame[frame["replicate"].isna() | (frame["replicate"] < 2)].copy()
    two.loc[two["arm"] == "large", "value"] = [90.0, 90.1]
    two.loc[two["arm"] == "base", "value"] = [80.0, 80.1]
    assert tables.best_arms(two, study.plan, {}) == {"CIDEr": "large"}
    assert tables.best_arms(two, study.plan, floor_of(2.0)) == {}  # two lucky pairs: the floor knows better


def test_real_pairs_stand_beside_the_noise_floor_and_in_its_report(tmp_path):
    study = study_in(tmp_path, replicates=5)
    spreads = pair_spreads([(study.plan, study.frame)] * 2, 3)  # the same arms twice count once
    assert [(pair.treatment, pair.reference, pair.n) for pair in spreads["CIDEr"]] == [
        ("small", "base", 5),
        ("large", "base", 5),
    ]
    rows = study.frame.query("metric == 'CIDEr'")
    values = rows.pivot_table(index="replicate", columns="arm", values="value")
    sd = (values["large"] - values["base"]).std(ddof=1)
    assert spreads["CIDEr"][1].sd == pytest.approx(sd)
    assert spreads["CIDEr"][1].mde == pytest.approx(minimum_detectable(sd, 3))
    assert "seconds" not in spreads and "parameters" not in spreads
    floors = floor_of(2.0, pairs=spreads["CIDEr"])
    assert f"large \N{MINUS SIGN} base | 5 | {sd:.2f} | 2.83 |" in noise_markdown(floors, "cpu", "scenes")
    table = pair_table(floors)
    assert list(table["treatment"]) == ["small", "large"] and table["sd"][1] == pytest.approx(sd)


def test_the_report_says_what_was_measured(tmp_path):
    floors = floor_of(2.0) | floor_of(0.1, "test_nll") | floor_of(1.0, "SceneF1-objects")
    text = noise_markdown(floors, "cpu", "scenes")
    assert "| CIDEr | 50.0 | 2.00 (1.25 to 4.91) | 9.23 |" in text
    assert "test NLL (nat/token)" in text and "SceneF1-objects" not in text and "no blind floor was run" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert list(noise_table(floors)["metric"]) == ["CIDEr", "test_nll", "SceneF1-objects"]
    titles = [axes.get_title() for axes in noise_figure(floors).axes if axes.get_title()]
    assert titles == ["CIDEr, MDE 9.23", "test NLL, MDE 0.462"]
    for folder in ("a", "b"):  # the same numbers give the same files
        write_noise_report(tmp_path / folder, floors, profile="cpu", data="scenes")
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()} and len(files) == 6


def test_from_training_to_the_measured_floor(tmp_path):
    plan, seeds = noise_plan(tiny_profile(), "scenes")
    with pytest.raises(GitbenchError, match="--seeds 2: a pseudo-arm needs at least the 3 seeds"):
        noise_plan(tiny_profile(), "scenes", 2)
    other = make_study(tmp_path, TINY, replicates=6).plan  # base runs of a study are runs of the noise floor
    keys = {(run.arm, run.replicate): run.run_key for run in other.runs}
    assert seeds == 3 and len(plan.runs) == 8
    assert all(keys[run.arm, run.replicate] == run.run_key for run in plan.runs)
    study = Study(tmp_path, plan)
    assert launch(study, jobs=2, plain=True).completed == 8
    study = Study.open(tmp_path, study.name)
    floors = measure_noise(study, seeds)
    assert Study.open(tmp_path, study.name).noise_floors == floors
    assert {"CIDEr", "BLEU-4", "METEOR", "ROUGE-L", "SceneF1", "test_nll"} <= set(floors)
    losses = [study.record(run.run_key)["metrics"]["test_nll"]["value"] for run in plan.runs if run.arm == "base"]
    assert floors["test_nll"].values == pytest.approx(losses)
    assert floors["test_nll"].sd == pytest.approx(np.std(losses, ddof=1)) and floors["test_nll"].sd > 0
    place = report_folder(study)
    assert place.parts[-3:-1] == ("reports", "noise_floor") and place.name.startswith("smoke-scenes-")
    study.noise_path.write_text('{"floors": [{"metric": "CIDEr"}]}', encoding="utf-8")
    with pytest.raises(GitbenchError, match="damaged: delete it and run `gitbench noise-floor` again"):
        _ = Study.open(tmp_path, study.name).noise_floors
    study.folder(plan.runs[0].run_key).record.unlink()
    with pytest.raises(GitbenchError, match="5 of 6 runs have a"):
        measure_noise(Study.open(tmp_path, study.name), seeds)


def test_the_command_plans_two_pseudo_arms(tmp_path, capsys):
    words = ["noise-floor", "--profile", "smoke", "--seeds", "3", "--work-dir", str(tmp_path), "--dry-run"]
    assert main(words) == 0 and "8 runs, 0 done, 8 to do" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
