"""A run killed anywhere and started again ends bit-identical to one left alone: dropout, augmentation, workers and all."""

import dataclasses
import json
import multiprocessing
import os
import random
import signal
from pathlib import Path

import pytest
import torch
from conftest import TINY, tiny_profile

from gitbench.runs.config import read_config
from gitbench.runs.plan import PlannedRun, make_plan, write_plan
from gitbench.runs.worker import run_worker
from gitbench.training.hooks import checkpoints, latest_checkpoint

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
        assert kind == "progress", rest
        reached = rest[0]
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    ours.close()
    return reached


def planned(work_dir: Path) -> PlannedRun:
    profile = tiny_profile(iterations=40, checkpoint_every=7, val_every=15)
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


def test_a_folder_in_use_is_refused(tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr("gitbench.runs.worker.LOCK_PATIENCE", 0.0)
    run = planned(tmp_path)
    lock = open(run.folder / ".lock", "w")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)
    from gitbench.errors import GitbenchError
    from gitbench.runs.worker import _take_lock

    with pytest.raises(GitbenchError, match="another gitbench is working on"):
        _take_lock(open(run.folder / ".lock", "w"), run.folder)  # noqa: SIM115
