"""Start runs in processes of their own, as launches do, and kill them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from helpers_study import Run

from gitbench.launch.worker import run_worker

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["gitbench.training.run"])


def start(run: Run) -> tuple[BaseProcess, Connection]:
    """Start a run: its process, and what it reports."""
    ours, theirs = CONTEXT.Pipe()
    # the process is forked from one that was started under an earlier test's environment
    environment = {"CUDA_VISIBLE_DEVICES": "", "GITBENCH_CACHE": os.environ["GITBENCH_CACHE"]}
    process = CONTEXT.Process(target=run_worker, args=(run.folder, theirs, environment))
    process.start()
    theirs.close()
    return process, ours


def run_to_end(run: Run) -> None:
    """Start a run and wait until it has trained and captioned."""
    process, ours = start(run)
    process.join(120)
    assert process.exitcode == 0, (run.folder / "log.txt").read_text()[-2000:]
    ours.close()


def kill_at(run: Run, iteration: int) -> list[str]:
    """Start the run, SIGKILL it once it reports at least `iteration`; return the kinds of its reports, in order."""
    process, ours = start(run)
    reached, kinds = 0, []
    while reached < iteration:
        kind, *rest = ours.recv()
        assert kind in ("progress", "pretraining"), rest
        reached = rest[0] if kind == "progress" else 0
        kinds.append(kind)
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    ours.close()
    return kinds


def assert_same_results(one: Path, other: Path) -> None:
    """Two run folders hold the same weights, captions and losses, bit for bit."""
    weights = [torch.load(folder / "model.pth", weights_only=True)["state_dict"] for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys() and len(weights[0]) > 20
    assert not [name for name, tensor in weights[0].items() if not torch.equal(tensor, weights[1][name])]
    for name in ("predictions.jsonl", "curve.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
