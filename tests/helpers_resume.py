"""Start runs in processes of their own, as launches do, and kill them."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from helpers_study import Run

from gitbench.launch.state import read_state
from gitbench.launch.work import run_worker
from gitbench.processes import start_context
from gitbench.training.run import execute


def start(run: Run) -> BaseProcess:
    """Start a run that says all it does."""
    # the process is forked from one that was started under an earlier test's environment
    environment = {"CUDA_VISIBLE_DEVICES": "", "GITBENCH_CACHE": os.environ["GITBENCH_CACHE"]}
    process = start_context().Process(target=run_worker, args=(run.folder, environment, 0.0))
    process.start()
    return process


def stop_at(run: Run, iteration: int) -> None:
    """Execute a run in this process until it says that an iteration is done."""

    def stop(done: int, *_: object) -> None:
        if done == iteration:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run.folder, stop)


def run_to_end(run: Run) -> None:
    """Start a run and wait until it has trained and captioned."""
    process = start(run)
    process.join(120)
    assert process.exitcode == 0, (run.folder / "log.txt").read_text()[-2000:]


def kill_at(run: Run, iteration: int) -> list[str]:
    """Start the run, SIGKILL it once it says at least `iteration`; return the kinds of what it said, in order."""
    before, kinds, reached = read_state(run.folder), [], 0
    process = start(run)
    while reached < iteration:
        state = read_state(run.folder)
        if state is None or state == before:
            assert process.exitcode is None, (run.folder / "log.txt").read_text()[-2000:]
            time.sleep(0.001)
            continue
        before = state
        if state.kind != "started":
            kinds.append(state.kind)
        assert state.kind != "ended", state.values
        reached = state.values[0] if state.kind == "progress" else 0
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    return kinds


def assert_same_results(one: Path, other: Path) -> None:
    """Two run folders hold the same weights, captions and losses, bit for bit."""
    weights = [torch.load(folder / "model.pth", weights_only=True)["state_dict"] for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys() and len(weights[0]) > 20
    assert not [name for name, tensor in weights[0].items() if not torch.equal(tensor, weights[1][name])]
    for name in ("predictions.jsonl", "curve.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
