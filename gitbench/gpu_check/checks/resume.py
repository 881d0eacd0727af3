"""A run of 300 steps by a worker, and the same run killed in the middle and begun again: the same weights and captions.

The captions stay in the folder: where there is no Java they are scored elsewhere (`gitbench gpu-check --score FOLDER`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from gitbench.errors import GitbenchError
from gitbench.gpu_check.results import NO_CARD, Report
from gitbench.gpu_check.sizes import Setting, config_of, write_run
from gitbench.gpu_check.watched import WATCHED
from gitbench.launch.state import read_state
from gitbench.launch.work import DONE
from gitbench.machine import gpus
from gitbench.processes import last_line
from gitbench.run_folder import RunFolder
from gitbench.study.memory import GIB, with_allowances

STEPS = {"cuda": 300, "cpu": 24}
CHECKPOINTS = {"cuda": 1.0, "cpu": 0.1}  # seconds between two: the run is short, and is to be killed after one
IDLE_GIB = 1.0  # of a card in use where nobody computes on it: a context and the driver's own
QUIET = "quiet"  # the run whose captions are scored
SAME = "predictions.jsonl", "curve.csv"


def check(setting: Setting, report: Report) -> None:
    """Judge whether a run that was killed ends as one that was not, and whether the peak that it records is the true one."""
    config = config_of(setting, iterations=STEPS[setting.device], val_every=STEPS[setting.device] // 2)
    config.default_hooks.checkpoint.seconds = CHECKPOINTS[setting.device]
    quiet, killed = (write_run(setting.path("runs", name), config) for name in (QUIET, "killed"))
    with report.part("a run by a worker"):
        began = time.monotonic()
        status = start(quiet.path).wait()
        report.judge(
            "a run by a worker", status == DONE and quiet.captioned, "trained and captioned", said=tail(quiet, status)
        )
        report.figure("a run by a worker takes", round(time.monotonic() - began, 1), "s")
    with report.part("memory"):
        memory(setting, report, quiet)
    with report.part("the run again, killed by SIGKILL"):
        saved, reached = kill_at(killed, config.train_cfg.max_iters // 2)
        report.figure("killed after step", reached, said=f"its last checkpoint: {saved}")
        status = start(killed.path).wait()
        report.judge(
            "begun again", status == DONE and killed.captioned, "trained and captioned", said=tail(killed, status)
        )
        went_on = f"{saved}.pth" in killed.log.read_text(encoding="utf-8", errors="replace")
        report.judge("it goes on from a checkpoint", went_on, "and does not start again", saved)
    with report.part("weights and captions"):
        compare(report, quiet, killed)


def start(folder: Path) -> subprocess.Popen:
    """Start a worker on a run folder."""
    return subprocess.Popen([sys.executable, "-m", "gitbench.gpu_check.watched", str(folder)], stdin=subprocess.DEVNULL)


def tail(run: RunFolder, status: int) -> str:
    """Return the last line that a worker printed, where it did not end well."""
    if status == DONE or not run.log.is_file():
        return ""
    return last_line(run.log)


def kill_at(run: RunFolder, iteration: int) -> tuple[str, int]:
    """Start a run and SIGKILL it at an iteration, once there is a checkpoint; returns its newest checkpoint, and where it was.

    Errors: GitbenchError if it ends before.
    """
    worker, reached = start(run.path), 0
    while reached < iteration or not run.checkpoints:
        if worker.poll() is not None:
            raise GitbenchError(f"it ended before it could be killed: {tail(run, worker.returncode) or 'too fast'}")
        time.sleep(0.005)
        state = read_state(run.path)
        reached = state.values[0] if state is not None and state.kind == "progress" else reached
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    return run.checkpoints[0].stem, reached


def memory(setting: Setting, report: Report, run: RunFolder) -> None:
    """Judge what a run recorded of its memory, and whether it takes no more of the card than it is planned to."""
    if not setting.on_card:
        report.not_run("the recorded peak of memory", NO_CARD)
        return
    recorded = json.loads(run.trained.read_text(encoding="utf-8"))["cost"]["peak_memory_bytes"]
    watched = json.loads((run.path / WATCHED).read_text(encoding="utf-8"))
    card = gpus()[0]
    judge_memory(report, recorded, **watched, alone=card.total_gib - card.free_gib < IDLE_GIB)


def judge_memory(report: Report, recorded: int, peak: int, reserved: int, taken: int, alone: bool) -> None:
    """Judge the bytes that a run recorded, beside the true peak, what torch reserved and what the card had given out.

    alone: whether no other process held memory of the card; else what was given out says nothing of the run.
    """
    gib = {name: round(size / GIB, 3) for name, size in (("recorded", recorded), ("peak", peak), ("taken", taken))}
    true = f"{gib['peak']} GiB true"
    report.judge("the recorded peak of memory", recorded == peak, "the true peak", gib["recorded"], "GiB", true)
    report.figure("reserved by torch", round(reserved / GIB, 3), "GiB")
    if not alone:
        report.not_run("the run takes of the card", "other processes hold memory of it")
        return
    report.figure("the process beside it", round((taken - reserved) / GIB, 3), "GiB")
    planned = round(with_allowances(recorded), 3)
    report.at_most("the run takes of the card", gib["taken"], planned, "GiB", "asked: what is set aside for such a run")


def compare(report: Report, one: RunFolder, other: RunFolder) -> None:
    """Judge whether two runs left the same behind, bit for bit."""
    weights = [torch.load(run.weights, map_location="cpu", weights_only=True)["state_dict"] for run in (one, other)]
    differ = [name for name, tensor in weights[0].items() if not torch.equal(tensor, weights[1][name])]
    report.judge("weights", not differ, "equal to those of the undisturbed run", said=", ".join(differ[:3]))
    for name in SAME:
        same = (one.path / name).read_bytes() == (other.path / name).read_bytes()
        report.judge(name, same, "equal to that of the undisturbed run")
