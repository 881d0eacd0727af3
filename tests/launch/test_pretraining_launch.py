"""Contrastive pre-training as a launch sees it: in the estimate, and in the display."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from helpers_study import TINY, Run, make_study, run_of, tiny_profile, write_configs

from gitbench.files import cache_dir, load_json, write_json
from gitbench.launch.estimate import IMAGE_SHARE, estimate_seconds, pretraining_to_do
from gitbench.launch.progress import Display
from gitbench.seeding import derive_seed
from gitbench.spec import Arm
from gitbench.study.store import Study
from gitbench.training.run import execute


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    return cache_dir() / "encoders"


def start_study(folder: Path) -> Study:
    arms = (
        Arm(name="base", variants={"encoder_init": "random"}),
        Arm(name="contrastive", variants={"encoder_init": "contrastive"}),
    )
    ablation = dataclasses.replace(TINY, axis="encoder_init", arms={"smoke": arms})
    return make_study(folder, ablation, tiny_profile(iterations=2), replicates=2)


def finish(run: Run, **cost) -> None:
    """Write what makes a run count as complete."""
    write_json(
        run.folder / "record.json",
        {"run_key": run.key, "spec": {}, "metrics": {}, "train": {}, "cost": {"seconds": 10.0, **cost}},
    )
    (run.folder / "per_image.parquet").write_bytes(b"")


def test_the_estimate_adds_each_pretraining_that_is_still_to_be_made_once(tmp_path):
    study = start_study(tmp_path / "w")
    profile = tiny_profile(iterations=2)
    recipe, images = profile.contrastive, profile.train.iterations * profile.train.batch_images
    guess = profile.run_seconds * recipe.iterations * recipe.batch_images / images * IMAGE_SHARE
    assert [seconds for _, seconds in pretraining_to_do(study)] == [guess, guess]  # one a replicate
    assert estimate_seconds(study, 1) == (pytest.approx(6 * profile.run_seconds + 2 * guess), False)
    assert estimate_seconds(study, 2)[0] == pytest.approx(estimate_seconds(study, 1)[0] / 2)
    finish(run_of(study, "contrastive"), pretrain_seconds=7.0)
    ((of, seconds),) = pretraining_to_do(study)
    assert seconds == 7.0 and of["seed"] == derive_seed("contrastive", 1)  # as long as the one that was measured
    assert estimate_seconds(study, 1) == (pytest.approx(5 * 10 + 7), True)
    finish(run_of(study, "contrastive", 1))
    assert pretraining_to_do(study) == []


def test_the_estimate_finds_a_pretraining_in_the_cache(tmp_path, cache):
    study = start_study(tmp_path / "w")
    write_configs(study)
    execute(run_of(study, "contrastive").folder)
    (note,) = cache.glob("contrastive-*.json")
    ((of, seconds),) = pretraining_to_do(study)  # the run has no record yet, but its encoder is there
    assert of["seed"] == derive_seed("contrastive", 1) and seconds == load_json(note)["seconds"]
    note.with_suffix(".pth").unlink()
    assert len(pretraining_to_do(study)) == 2


def test_the_display_says_pretraining_and_counts_none_of_it(tiny_study, capsys, monkeypatch):
    run = tiny_study.plan.runs[0]
    with Display(tiny_study.name, 0, 3, plain=True) as display:
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
