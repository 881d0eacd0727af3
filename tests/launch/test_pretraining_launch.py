"""Contrastive pre-training as a launch sees it: in the estimate, in the display, and passed on by the pool."""

from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers_study import TINY, tiny_profile

from gitbench.files import cache_dir, load_json, write_json
from gitbench.launch import pool as pool_module
from gitbench.launch.estimate import IMAGE_SHARE, estimate_seconds, pretraining_to_do
from gitbench.launch.progress import Display
from gitbench.seeding import derive_seed
from gitbench.spec import Arm
from gitbench.study.plan import Plan, make_plan, write_plan
from gitbench.training.run import execute


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    return cache_dir() / "encoders"


def start_plan(folder: Path, replicates: int = 2, **train) -> Plan:
    arms = (
        Arm(name="base", variants={"encoder_init": "random"}),
        Arm(name="contrastive", variants={"encoder_init": "contrastive"}),
    )
    ablation = dataclasses.replace(TINY, axis="encoder_init", arms={"smoke": arms})
    return make_plan(ablation, tiny_profile(**{"iterations": 2, **train}), "scenes", folder, replicates=replicates)


def finish(run, **cost) -> None:
    """Write what makes a run count as complete."""
    write_json(
        run.folder / "record.json",
        {"run_key": run.key, "spec": {}, "metrics": {}, "train": {}, "cost": {"seconds": 10.0, **cost}},
    )
    (run.folder / "per_image.parquet").write_bytes(b"")


def test_the_estimate_adds_each_pretraining_that_is_still_to_be_made_once(tmp_path):
    plan = start_plan(tmp_path / "w")
    profile, recipe = plan.profile, plan.profile.contrastive
    images = profile.train.iterations * profile.train.batch_images
    guess = profile.run_seconds * recipe.iterations * recipe.batch_images / images * IMAGE_SHARE
    assert [seconds for _, seconds in pretraining_to_do(plan)] == [guess, guess]  # one a replicate
    assert estimate_seconds(plan, 1) == (pytest.approx(6 * profile.run_seconds + 2 * guess), False)
    assert estimate_seconds(plan, 2)[0] == pytest.approx(estimate_seconds(plan, 1)[0] / 2)
    first, second = (run for run in plan.runs if run.arm.name == "contrastive")
    finish(first, pretrain_seconds=7.0)
    ((of, seconds),) = pretraining_to_do(plan)
    assert seconds == 7.0 and of["seed"] == derive_seed("contrastive", 1)  # as long as the one that was measured
    assert estimate_seconds(plan, 1) == (pytest.approx(5 * 10 + 7), True)
    finish(second)
    assert pretraining_to_do(plan) == []


def test_the_estimate_finds_a_pretraining_in_the_cache(tmp_path, cache):
    plan = start_plan(tmp_path / "w")
    write_plan(plan, "test")
    run = next(run for run in plan.runs if run.arm.name == "contrastive" and run.replicate == 0)
    execute(run.folder)
    (note,) = cache.glob("contrastive-*.json")
    ((of, seconds),) = pretraining_to_do(plan)  # the run has no record yet, but its encoder is there
    assert of["seed"] == derive_seed("contrastive", 1) and seconds == load_json(note)["seconds"]
    note.with_suffix(".pth").unlink()
    assert len(pretraining_to_do(plan)) == 2


def test_the_display_says_pretraining_and_counts_none_of_it(tiny_plan, capsys, monkeypatch):
    run = tiny_plan.runs[0]
    with Display(tiny_plan, 0, 3, plain=True) as display:
        monkeypatch.setattr("gitbench.launch.progress.QUIET_SECONDS", -1.0)
        display.started(run)
        display.pretraining(run, 2, 5)
        assert "base/0 pre-training 40%" in capsys.readouterr().out
        assert display.bar.tasks[0].completed == 0
        display.progress(run, 1, 4, 2.5)
        assert "base/0 25% loss 2.50" in capsys.readouterr().out
        assert display.bar.tasks[0].completed == 0.25
        display.finished(
            run, {"metrics": {"test_nll": {"value": 1.0}, "VQA": {"value": 41.23}}, "cost": {"seconds": 9}}
        )
        assert "VQA accuracy 41.2, 9 s" in capsys.readouterr().out


def test_the_launcher_hands_pretraining_to_the_display(tiny_plan):
    ours, theirs = multiprocessing.Pipe()
    heard = []
    pool = object.__new__(pool_module.Pool)
    pool.display = SimpleNamespace(pretraining=lambda *said: heard.append(said))  # type: ignore[assignment]
    run_of = pool_module.Job(run=tiny_plan.runs[0], connection=ours)
    theirs.send(("pretraining", 2, 5))
    pool._read(run_of)
    assert heard == [(tiny_plan.runs[0], 2, 5)] and run_of.message == ""
