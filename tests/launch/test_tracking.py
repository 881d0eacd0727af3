"""Trackers from the launcher's side: what was not sent is sent in the end, and what fails is said in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers_study import TINY, make_study
from helpers_track import asked_for, in_tensorboard, stand_in, told

from gitbench.claim import Claim, ClaimLost
from gitbench.launch import tracking as launch_tracking
from gitbench.launch.tracking import TrackedScorer, report_rest, tracking_of
from gitbench.launch.tuning import tune
from gitbench.spec import Arm
from gitbench.study.store import Study
from gitbench.trackers import Trackers
from gitbench.training import track

RECORD = {"metrics": {"CIDEr": {"value": 2.0}}}
CURVE = "iteration,split,loss,lr\n1,train,3.0,0.1\n2,val,2.5,0.0\n"


def finished(study: Study, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Leave a curve of every run, and let each have a record."""
    for run in study.unique_runs:
        folder = study.folder(run.run_key)
        folder.path.mkdir(parents=True)
        folder.curve.write_text(CURVE)
    monkeypatch.setattr(study, "done", lambda run: True)
    monkeypatch.setattr(study, "record", lambda key: RECORD)
    return study


def to(study: Study, *names: str) -> Trackers:
    return Trackers(names=names, place=str(study.work_dir / "trackers"))


def test_a_run_that_arms_share_is_reported_as_that_of_all(tmp_path):
    arms = (*TINY.arms["smoke"], Arm(name="twin", variants={"decoder": "self_1x64"}))
    study = make_study(tmp_path, dataclasses.replace(TINY, arms={"smoke": arms}))
    asked = {each.name for each in (tracking_of(study, run, to(study)) for run in study.unique_runs)}
    assert {"base seed 0", "small+twin seed 0"} <= asked
    (shared,) = [run for run in study.unique_runs if run.arm == "twin"]
    found = tracking_of(study, shared, to(study))
    assert found.arms == ("small", "twin") and found.values["arm"] == "small+twin"
    options = track.backend_config("wandb", found, "id")["init_kwargs"]
    assert options["tags"] == [study.name, "small", "twin", "0"] and options["group"] == "small+twin"


def test_what_is_missing_is_sent_and_each_failure_is_one_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboard")
    study = finished(make_study(tmp_path), monkeypatch)
    first, second, third = study.unique_runs
    study.folder(first.run_key).curve.write_text("iteration,split\n1,train\n")
    study.folder(second.run_key).tracked.write_text("no JSON")
    report_rest(study, study.unique_runs, to(study, "tensorboard"))
    (line,) = capsys.readouterr().out.splitlines()
    assert (
        "not reported to tensorboard: 2 runs; the same command tries again" in line and "curve.csv is damaged" in line
    )
    seen = in_tensorboard(tmp_path / "trackers" / "tensorboard" / study.name / third.arm / "seed-0")
    assert seen == {"train/loss": [(1, 3.0)], "train/lr": [(1, pytest.approx(0.1))], "val/nll": [(2, 2.5)]} | {
        "scores/CIDEr": [(2, 2.0)]
    }
    study.folder(first.run_key).curve.write_text(CURVE)
    study.folder(second.run_key).tracked.unlink()
    report_rest(study, study.unique_runs, to(study, "tensorboard"))
    assert capsys.readouterr().out == "" and told(study.folder(second.run_key), "tensorboard")[1] == 4


@pytest.mark.parametrize("error", [ClaimLost("taken over"), OSError("the file server is away")])
def test_a_claim_that_is_lost_meanwhile_is_one_line(error, tmp_path, monkeypatch, capsys):
    stand_in(monkeypatch, "clearml")
    study = finished(make_study(tmp_path), monkeypatch)
    runs = study.unique_runs

    def check(claim: Claim) -> None:
        if claim.path.parent.name == runs[0].run_key:
            raise error

    monkeypatch.setattr(Claim, "check", check)
    report_rest(study, runs, to(study, "clearml"))
    (line,) = capsys.readouterr().out.splitlines()
    assert "not reported to clearml: 1 run;" in line and f"{error}" in line
    assert [study.folder(run.run_key).tracked.is_file() for run in runs] == [False, True, True]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    stand_in(monkeypatch, "clearml")
    study = finished(make_study(tmp_path), monkeypatch)

    def refused(claim: Claim) -> bool:
        raise launch_tracking.GitbenchError(f"{claim.path} cannot be written (read-only)")

    monkeypatch.setattr(Claim, "take", refused)
    report_rest(study, study.unique_runs, to(study, "clearml"))
    (line,) = capsys.readouterr().out.splitlines()
    assert "not reported to clearml: 3 runs;" in line and "cannot be written (read-only)" in line


def test_a_tracker_that_was_given_up_is_tried_again_by_the_next_launch_and_in_the_end(tmp_path, monkeypatch, capsys):
    heard = stand_in(monkeypatch, "clearml")
    monkeypatch.setattr(track, "SLOW", 0.0)
    study = finished(make_study(tmp_path), monkeypatch)
    asked = to(study, "clearml")
    monkeypatch.setattr(heard, "fails", "init")
    scorer: Any = SimpleNamespace(score_run=lambda run: {**RECORD})
    for tries in (1, 2):
        tracked = TrackedScorer(scorer, study, asked)
        warned = [tracked.score_run(run)["warnings"] for run in study.unique_runs]
        assert warned == [["clearml failed: ConnectionError: no answer to init"], [], []] and len(heard.made) == tries
    report_rest(study, study.unique_runs, asked)
    assert len(heard.made) == 3 and "not reported to clearml: 3 runs;" in capsys.readouterr().out
    monkeypatch.setattr(heard, "fails", "")
    report_rest(study, study.unique_runs, asked)
    assert len(heard.made) == 6 and capsys.readouterr().out == ""


def test_a_curve_that_is_damaged_is_a_warning_of_a_run_that_is_scored(tmp_path, monkeypatch):
    study = finished(make_study(tmp_path), monkeypatch)
    run = study.unique_runs[0]
    study.folder(run.run_key).curve.write_text("iteration,split,loss,lr\n1,train,x,0.1\n")
    scorer: Any = SimpleNamespace(score_run=lambda run: {**RECORD})
    (warning,) = TrackedScorer(scorer, study, to(study, "tensorboard")).score_run(run)["warnings"]
    assert warning.startswith("tensorboard failed: ") and "curve.csv is damaged" in warning


def test_tuning_runs_that_are_all_known_are_reported_too(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    study = make_study(tmp_path)
    run = asked_for(study, "tensorboard")
    (run.folder / "curve.csv").write_text(CURVE)
    tuning: Any = SimpleNamespace(
        name=study.name, plan=study.plan, to_do=(), unique_runs=study.unique_runs[:1], folder=study.folder
    )
    tuning.done, tuning.record = lambda run: True, lambda key: {"metrics": {"val_nll": {"value": 2.5}}}
    assert tune(tuning, plain=True, trackers=to(study, "tensorboard")).found == 1
    seen = in_tensorboard(Path(tmp_path, "trackers", "tensorboard", study.name, "base", "seed-0"))
    assert seen["scores/val_nll"] == [(2, 2.5)]


def test_a_tuning_run_that_diverged_ends_as_failed(tmp_path, monkeypatch):
    heard = stand_in(monkeypatch, "clearml")
    study = finished(make_study(tmp_path), monkeypatch)
    run = study.unique_runs[0]
    study.folder(run.run_key).curve.write_text("iteration,split,loss,lr\n1,train,nan,0.1\n")
    failed = launch_tracking.report(study, run, {"metrics": {"val_nll": {"value": None}}}, to(study, "clearml"))
    assert failed == {} and heard.made[0].failed and told(study.folder(run.run_key), "clearml") == ("given", 2)
