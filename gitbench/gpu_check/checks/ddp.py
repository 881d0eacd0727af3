"""A run on two cards together (DDP) beside the same run on one: the same losses and weights, in float32 without dropout.

On a CPU it is two processes on gloo. Weights whose gradient is nothing but rounding, as those of keys' biases, are moved by
AdamW as far as any other, wherever that rounding points; so the furthest hundredth of the weights is left out.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import torch

from gitbench.gpu_check.results import Report
from gitbench.gpu_check.sizes import Setting, config_of, write_run
from gitbench.launch.work import DONE
from gitbench.machine import gpus
from gitbench.run_folder import RunFolder
from gitbench.training.hooks import read_curve

STEPS = 20
APART = 1e-5  # of a loss, as its share; of a weight
COUNTED = 0.99  # of the weights


def check(setting: Setting, report: Report) -> None:
    """Judge a run of two processes against that of one."""
    if setting.on_card and len(gpus()) < 2:
        report.not_run("two cards", "one card is in sight")
        return
    runs = []
    for processes in (1, 2):
        compute = dataclasses.replace(setting.compute, precision="float32", world_size=processes)
        config = config_of(setting, compute=compute, iterations=STEPS, warmup=1, val_every=STEPS)
        config.model.decoder.dropout = 0.0
        runs.append(write_run(setting.path("runs", f"ddp-{processes}"), config))
        with report.part(f"a run of {processes}"):
            status = subprocess.call([sys.executable, "-m", "gitbench.launch.work", str(runs[-1].path)])
            done = status == DONE and runs[-1].captioned
            report.judge(f"a run of {processes}", done, "trained and captioned", f"status {status}")
    with report.part("two processes against one"):
        compare(report, *runs)


def compare(report: Report, one: RunFolder, two: RunFolder) -> None:
    """Judge the losses and weights of two runs against each other."""
    losses = [{row[:2]: row[2] for row in read_curve(run.curve)} for run in (one, two)]
    gaps = [abs(losses[1].get(at, float("nan")) / loss - 1) for at, loss in losses[0].items()]
    worst = max(gaps, key=lambda gap: float("inf") if gap != gap else gap)
    report.at_most("losses of all steps", worst, APART, "of them", f"{len(gaps)} losses")
    weights = [torch.load(run.weights, map_location="cpu", weights_only=True)["state_dict"] for run in (one, two)]
    apart = torch.cat([(tensor - weights[1][name]).abs().flatten() for name, tensor in weights[0].items()])
    counted = apart.kthvalue(round(COUNTED * len(apart))).values.item()
    report.at_most(f"weights, {100 * COUNTED:g} % of them", counted, APART, "", f"furthest {apart.max().item():.1e}")
