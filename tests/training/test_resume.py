"""A run killed anywhere and started again ends bit-identical to one left alone: dropout, augmentation, workers and all."""

import dataclasses
import fcntl
import json
import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path

import pytest
import torch
from conftest import TINY, tiny_profile
from mmengine.config import Config
from mmengine.runner import Runner

from gitbench.launch.scheduling import slots, start_context
from gitbench.launch.worker import _take_lock, run_worker
from gitbench.machine import Gpu
from gitbench.study.config import read_config
from gitbench.study.plan import PlannedRun, make_plan, write_plan
from gitbench.training.hooks import checkpoints, latest_checkpoint, read_curve
from gitbench.training.schedule import warmup_cosine

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["gitbench.training.run"])


def start(run: PlannedRun):
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=run_worker, args=(run.folder, theirs, {"CUDA_VISIBLE_DEVICES": ""}))
    process.start()
    theirs.close()
    return process, ours


def run_to_end(run: PlannedRun) -> None:
    process, ours = start(run)
    process.join(120)
    assert process.exitcode == 0, (run.folder / "log.txt").read_text()[-2000:]
    ours.close()


def kill_at(run: PlannedRun, iteration: int) -> int:
    """Start the run, SIGKILL it once it reports at least `iteration`; return the iteration it reported."""
    process, ours = start(run)
    reached = 0
    while reached < iteration:
        kind, *rest = ours.recv()
        assert kind in ("progress", "pretraining"), rest
        reached = rest[0] if kind == "progress" else 0
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    ours.close()
    return reached


def planned(work_dir: Path, checkpoint_every: int = 7, val_every: int = 15) -> PlannedRun:
    profile = tiny_profile(iterations=40, checkpoint_every=checkpoint_every, val_every=val_every)
    profile = dataclasses.replace(profile, data=dataclasses.replace(profile.data, crop_scale=(0.6, 1.0), workers=2))
    plan = make_plan(TINY, profile, "scenes", work_dir, cfg_options={"model.decoder.dropout": 0.1})
    write_plan(plan, "test")
    return plan.runs[0]


@pytest.mark.timeout(240)
def test_three_sigkills_at_random_leave_no_trace(tmp_path):
    quiet, killed = planned(tmp_path / "quiet"), planned(tmp_path / "killed")
    assert quiet.key == killed.key
    assert read_config(quiet.folder / "config.py").model.decoder.dropout == 0.1
    run_to_end(quiet)
    draw = random.Random()
    moments = sorted(draw.sample(range(2, 38), 3))
    reached = [kill_at(killed, moment) for moment in moments]
    run_to_end(killed)
    weights = [torch.load(run.folder / "model.pth", weights_only=True)["state_dict"] for run in (quiet, killed)]
    assert weights[0].keys() == weights[1].keys() and len(weights[0]) > 20
    different = [name for name, tensor in weights[0].items() if not torch.equal(tensor, weights[1][name])]
    assert not different, (moments, reached)
    for name in ("predictions.jsonl", "curve.csv"):
        assert (quiet.folder / name).read_bytes() == (killed.folder / name).read_bytes(), (name, moments)


def test_checkpoints_load_with_weights_only_and_a_truncated_one_is_passed_over(tmp_path):
    run = planned(tmp_path)
    kill_at(run, 30)
    found = checkpoints(run.folder)
    assert len(found) == 2
    for path in found:
        assert torch.load(path, weights_only=True)["meta"]["iter"] == int(path.stem.split("_")[1])
    found[0].write_bytes(found[0].read_bytes()[:1000])
    assert latest_checkpoint(run.folder) == found[1]
    run_to_end(run)
    trained = json.loads((run.folder / "trained.json").read_text())
    assert trained["train"]["iterations"] == 40 and not checkpoints(run.folder)


def test_a_folder_in_use_is_waited_for_and_not_trained_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("gitbench.launch.worker.LOCK_PATIENCE", 0.0)
    run = planned(tmp_path)
    said: list[str] = []
    with open(run.folder / ".lock", "w") as ours, open(run.folder / ".lock", "w") as theirs:
        fcntl.flock(ours, fcntl.LOCK_EX)
        waiter = threading.Thread(target=_take_lock, args=(theirs, lambda: said.append("waiting")))
        waiter.start()
        waiter.join(1.0)
        assert waiter.is_alive() and said == ["waiting"]
        fcntl.flock(ours, fcntl.LOCK_UN)
        waiter.join(10)
        assert not waiter.is_alive() and said == ["waiting"]


def test_a_checkpoint_holds_the_validation_of_its_own_iteration(tmp_path):
    run = planned(tmp_path, checkpoint_every=10, val_every=10)
    kill_at(run, 14)
    run_to_end(run)
    validated = [iteration for iteration, split, *_ in read_curve(run.folder / "curve.csv") if split == "val"]
    assert validated == [10, 20, 30, 40]


def test_the_curve_holds_the_decoders_learning_rate(tmp_path):
    run = planned(tmp_path)
    run_to_end(run)
    train, total = run.spec.train, 40
    for iteration, split, _, rate in read_curve(run.folder / "curve.csv"):
        if split == "train":
            assert rate == pytest.approx(train.lr_decoder * warmup_cosine(iteration - 1, train.warmup, total))


def test_resuming_leaves_the_config_file_alone_and_a_plain_runner_trains_from_it(tmp_path, monkeypatch):
    run = planned(tmp_path)
    before = (run.folder / "config.py").read_bytes()
    kill_at(run, 20)
    run_to_end(run)
    assert (run.folder / "config.py").read_bytes() == before
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(run.folder / "config.py", lazy_import=False)
    torch.set_num_threads(1)
    runner = Runner.from_cfg(config)
    runner.train()
    weights = torch.load(run.folder / "model.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, weights[name]) for name, tensor in runner.model.git.state_dict().items())
    assert Path(runner.work_dir) == tmp_path / config.work_dir != run.folder


def test_gpu_runs_are_spawned_since_the_preload_spoils_cuda_for_forks(tiny_plan, monkeypatch):
    """mmengine asks for CUDA when imported; torch then refuses CUDA in every fork of that process."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_send_fork_state, args=(theirs,))
    process.start()
    assert ours.recv() is True  # where this fails, GPU runs can be forked too
    process.join(30)
    monkeypatch.setattr("gitbench.launch.scheduling.gpus", lambda: [Gpu(uuid="GPU-1", name="card", free_gib=40.0)])
    assert start_context().get_start_method() == "spawn"
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots(tiny_plan)] == ["GPU-1"]
    monkeypatch.setattr("gitbench.launch.scheduling.gpus", lambda: [])
    assert start_context().get_start_method() == "forkserver"


def _send_fork_state(connection) -> None:
    connection.send(torch.cuda._is_in_bad_fork())
