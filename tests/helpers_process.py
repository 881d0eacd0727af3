"""Run a planned run in a process of its own, to its end or until it is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

from conftest import Run

from gitbench.launch.worker import run_worker

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["gitbench.training.run"])


def start(run: Run) -> tuple[Any, Any]:
    """Start the worker of a run; return the process and the launcher's end of its pipe."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=run_worker, args=(run.folder, theirs, {"CUDA_VISIBLE_DEVICES": ""}))
    process.start()
    theirs.close()
    return process, ours


def run_to_end(run: Run) -> None:
    """Train and caption a run."""
    process, ours = start(run)
    process.join(120)
    assert process.exitcode == 0, (run.folder / "log.txt").read_text()[-2000:]
    ours.close()


def kill_at(run: Run, iteration: int) -> int:
    """Start a run, SIGKILL it once it reports at least `iteration`; return the iteration it reported."""
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
