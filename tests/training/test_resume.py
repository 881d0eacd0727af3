"""A run killed anywhere and started again ends bit-identical to one left alone: dropout, augmentation, workers and all."""

import dataclasses
import itertools
import json
import multiprocessing
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers_resume import assert_same_results, kill_at, run_to_end
from helpers_study import Run, make_study, tiny_profile, write_configs

from gitbench.processes import start_context
from gitbench.run_folder import RunFolder
from gitbench.training.hooks import AtomicCheckpointHook, latest_checkpoint, read_curve
from gitbench.training.optimizer import warmup_cosine
from gitbench.training.run import PlainRunner, execute


def planned(work_dir: Path) -> Run:
    profile = tiny_profile(iterations=40, checkpoint_every=0, val_every=5)  # saved at each iteration
    profile = dataclasses.replace(profile, data=dataclasses.replace(profile.data, crop_scale=(0.6, 1.0), workers=2))
    return write_configs(make_study(work_dir, profile=profile, cfg_options={"model.decoder.dropout": 0.1}))[0]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was left alone."""
    run = planned(tmp_path_factory.mktemp("quiet"))
    run_to_end(run)
    return run


@pytest.mark.timeout(240)
def test_three_sigkills_leave_no_trace(quiet, tmp_path):
    """The last kill seems to fall between a checkpoint and the removal of the one before, and the newer one is cut short."""
    killed = planned(tmp_path)
    config = (killed.folder / "config.py").read_bytes()
    assert quiet.key == killed.key
    assert RunFolder(quiet.folder).read_config().model.decoder.dropout == 0.1
    for moment in (*sorted(random.Random(7).sample(range(2, 30), 2)), 33):
        older = latest_checkpoint(killed.folder)
        kept = older.read_bytes() if older else b""
        kill_at(killed, moment)
    newest = RunFolder(killed.folder).checkpoints[0]
    assert older is not None and int(newest.stem.split("_")[1]) >= 32
    newest.write_bytes(newest.read_bytes()[:1000])
    older.write_bytes(kept)
    assert latest_checkpoint(killed.folder) == older
    saved = torch.load(older, weights_only=True)
    assert saved["meta"]["iter"] == int(older.stem.split("_")[1])
    assert (
        0 < saved["meta"]["data_wait_seconds"] < saved["meta"]["seconds"] and saved["meta"]["peak_memory_bytes"] > 2**20
    )
    saved["meta"] |= {"data_wait_seconds": 1000.0, "peak_memory_bytes": 2**50}
    torch.save(saved, older)
    run_to_end(killed)
    assert_same_results(quiet.folder, killed.folder)
    validated = [iteration for iteration, split, *_ in read_curve(killed.folder / "curve.csv") if split == "val"]
    assert validated == list(range(5, 41, 5))
    trained = json.loads((killed.folder / "trained.json").read_text())
    assert trained["train"]["iterations"] == 40 and not RunFolder(killed.folder).checkpoints
    assert 1000 < trained["cost"]["data_wait_seconds"] < 1010  # what earlier sessions waited counts
    assert trained["cost"]["peak_memory_bytes"] == 2**50  # and held
    assert (killed.folder / "config.py").read_bytes() == config  # mmengine would write this session's into it


def test_checkpoints_are_made_by_time_one_at_a_time_and_the_last_holds_weights_alone(tmp_path, monkeypatch):
    """Two minutes apart on a clock that goes 50 seconds an iteration; a shorter run leaves that of its end alone."""
    clock, made = itertools.count(0, 50), []
    monkeypatch.setattr("gitbench.training.hooks.time.monotonic", lambda: float(next(clock)))
    hook, runner = AtomicCheckpointHook(seconds=120.0), SimpleNamespace(work_dir=str(tmp_path), max_iters=8, iter=0)

    def save(folder: str, name: str, **options: Any) -> None:
        Path(folder, name).write_text("whole")
        made.append((options["meta"]["iter"], options["save_optimizer"], options["save_param_scheduler"]))

    runner.save_checkpoint = save
    hook.before_train(runner)
    for runner.iter in range(1, 9):
        hook.after_step(runner, runner.iter)
        assert len(RunFolder(tmp_path).checkpoints) <= 1
    assert made == [(3, True, True), (6, True, True), (8, False, False)]
    assert [path.name for path in RunFolder(tmp_path).checkpoints] == ["iter_8.pth"]


def test_a_run_of_less_than_two_minutes_is_saved_at_its_end_alone_and_goes_on_from_there(tmp_path, monkeypatch):
    """Killed while it captions, it trains no more."""
    run, saves, save = write_configs(make_study(tmp_path))[0], tmp_path / "saves", PlainRunner.save_checkpoint

    def counted(*given: Any, **options: Any) -> None:
        with open(saves, "a") as file:
            file.write("saved\n")
        save(*given, **options)

    monkeypatch.setattr(PlainRunner, "save_checkpoint", counted)
    monkeypatch.setattr("gitbench.training.run._fit", lambda *_: os._exit(3))
    child = multiprocessing.get_context("fork").Process(target=execute, args=(run.folder,))
    child.start()
    child.join(60)
    monkeypatch.undo()
    assert child.exitcode == 3 and saves.read_text() == "saved\n"
    (path,) = RunFolder(run.folder).checkpoints
    assert path.name == "iter_6.pth"
    assert not {"optimizer", "param_schedulers"} & torch.load(path, weights_only=True).keys()
    steps: list[int] = []
    execute(run.folder, lambda done, total, loss: steps.append(done))
    assert steps == [] and (run.folder / "trained.json").is_file() and not RunFolder(run.folder).checkpoints


def test_the_process_that_runs_are_forked_from_has_imported_what_training_needs():
    asked = "import os, sys; os._exit(7 if 'gitbench.training.run' in sys.modules else 1)"
    process = start_context().Process(target=exec, args=(asked,))
    process.start()
    process.join(60)
    assert process.exitcode == 7


def test_the_curve_holds_the_decoders_learning_rate(quiet):
    train, total = quiet.spec.train, 40
    for iteration, split, _, rate in read_curve(quiet.folder / "curve.csv"):
        if split == "train":
            assert rate == pytest.approx(train.lr_decoder * warmup_cosine(iteration - 1, train.warmup, total))
