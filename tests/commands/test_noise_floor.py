"""The command `gitbench noise-floor`: from training one arm in replicates to the file and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import finish
from helpers_runs import NAME, make_work_dir
from helpers_study import make_study, tiny_profile

from gitbench.commands.noise_floor import measure_noise, noise_plan
from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.judge.aa import pair_spreads
from gitbench.judge.noise import minimum_detectable
from gitbench.study.store import Study


def test_real_pairs_are_found_beside_the_noise_floor(tmp_path):
    study = Study.open(make_work_dir(tmp_path, replicates=5), NAME)
    beside = (study.plan, study.frame)
    spreads = pair_spreads([beside, beside], 5)  # two ablations that hold the same arms count once
    found = [(pair.treatment, pair.reference, pair.n) for pair in spreads["CIDEr"]]
    assert found == [("small", "base", 5), ("large", "base", 5)]
    rows = study.frame[study.frame["metric"] == "CIDEr"]
    values = rows.pivot_table(index="replicate", columns="arm", values="value")
    sd = (values["large"] - values["base"]).std(ddof=1)
    assert spreads["CIDEr"][1].sd == pytest.approx(sd)
    assert spreads["CIDEr"][1].mde == pytest.approx(minimum_detectable(sd, 5))
    assert "seconds" not in spreads and "parameters" not in spreads


def test_the_noise_floor_has_seeds_and_one_name_of_its_own(tmp_path):
    plan = noise_plan(tiny_profile(), "scenes")
    seeds = plan.seeds // 2
    keys = {run.run_key for run in make_study(tmp_path, replicates=6).plan.runs}
    assert seeds == 3 and len(plan.runs) == 8
    assert keys.isdisjoint(run.run_key for run in plan.runs)
    more = noise_plan(tiny_profile(), "scenes", 4)
    assert more.name == plan.name and {run.run_key for run in more.runs}.isdisjoint(run.run_key for run in plan.runs)
    with pytest.raises(GitbenchError, match="--seeds 2: a pseudo-arm needs at least the 3 seeds"):
        noise_plan(tiny_profile(), "scenes", 2)


def test_from_finished_runs_to_the_file(tmp_path: Path):
    plan = noise_plan(tiny_profile(), "scenes", command="gitbench noise-floor --profile smoke")
    seeds = plan.seeds // 2
    study = finish(Study(tmp_path, plan))
    floors = measure_noise(study, seeds)
    about = read_json(study.noise_path)
    assert Study.open(tmp_path, plan.name).noise_floors == floors and about["seeds"] == 3 and len(about["runs"]) == 6
    assert set(floors) == {"CIDEr", "test_nll"}
    records = [json.loads(study.folder(run.run_key).record.read_text()) for run in plan.runs if run.arm == "base"]
    losses = [record["metrics"]["test_nll"]["value"] for record in records]
    assert floors["test_nll"].values == pytest.approx(losses)
    assert floors["test_nll"].sd == pytest.approx(np.std(losses, ddof=1)) and floors["test_nll"].sd > 0
    study.folder(plan.runs[0].run_key).record.unlink()
    with pytest.raises(GitbenchError, match="5 of 6 runs have a"):
        measure_noise(Study.open(tmp_path, plan.name), seeds)
