"""Contrastive pre-training as a launch sees it: in the estimate, and in the display."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from helpers_study import TINY, Run, make_study, run_of, tiny_profile

from gitbench.files import write_json
from gitbench.launch.estimate import IMAGE_SHARE, estimate_seconds
from gitbench.launch.progress import Display
from gitbench.spec import Arm
from gitbench.study.store import Study


def start_study(folder: Path) -> Study:
    arms = (
        Arm(name="base", variants={"encoder_init": "random"}),
        Arm(name="contrastive", variants={"encoder_init": "contrastive"}),
    )
    ablation = dataclasses.replace(TINY, axis="encoder_init", arms={"smoke": arms})
    return make_study(folder, ablation, tiny_profile(iterations=2), replicates=2)


def finish(run: Run) -> None:
    """Write what makes a run count as complete."""
    write_json(
        run.folder / "record.json",
        {"run_key": run.key, "spec": {}, "metrics": {}, "train": {}, "cost": {"seconds": 10.0}},
    )
    (run.folder / "per_image.parquet").write_bytes(b"")


def test_the_estimate_adds_each_pretraining_that_no_finished_run_has_once(tmp_path):
    study = start_study(tmp_path / "w")
    profile = tiny_profile(iterations=2)
    recipe, images = profile.contrastive, profile.train.iterations * profile.train.batch_images
    guess = profile.run_seconds * recipe.iterations * recipe.batch_images / images * IMAGE_SHARE
    assert estimate_seconds(study, 1) == (pytest.approx(6 * profile.run_seconds + 2 * guess), False)  # one a replicate
    assert estimate_seconds(study, 2)[0] == pytest.approx(estimate_seconds(study, 1)[0] / 2)
    finish(run_of(study, "contrastive"))
    assert estimate_seconds(study, 1) == (pytest.approx(5 * 10 + guess), True)
    finish(run_of(study, "contrastive", 1))
    assert estimate_seconds(study, 1) == (pytest.approx(4 * 10), True)


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
