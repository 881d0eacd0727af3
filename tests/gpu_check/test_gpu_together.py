"""The checks of runs on two cards and of CUDA graphs fail where something is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from gitbench.gpu_check.checks import ddp, graph
from gitbench.machine import Gpu
from gitbench.run_folder import RunFolder


def left_by(folder: Path, weights: torch.Tensor, losses: tuple[float, ...]) -> RunFolder:
    """Return a finished run with these weights and losses."""
    run = RunFolder(folder)
    folder.mkdir()
    torch.save({"state_dict": {"a": weights}}, run.weights)
    rows = [f"{step},train,{loss!r},0.1\n" for step, loss in enumerate(losses, start=1)]
    run.curve.write_text("iteration,split,loss,lr\n" + "".join(rows))
    return run


WEIGHTS = torch.linspace(-1, 1, 1000)


@pytest.mark.parametrize(
    ("moved", "losses", "failed"),
    [
        (5, (5.0, 4.0), []),  # of a thousand weights: those whose gradient is rounding
        (500, (5.0, 4.0), ["weights, 99 % of them"]),
        (0, (5.0, 4.001), ["losses of all steps"]),
        (0, (5.0, float("nan")), ["losses of all steps"]),
        (0, (5.0,), ["losses of all steps"]),  # one is missing
    ],
)
def test_two_processes_that_train_otherwise_than_one_are_found(report, tmp_path, moved, losses, failed):
    other = WEIGHTS.clone()
    other[:moved] += 1e-3
    one, two = left_by(tmp_path / "one", WEIGHTS, (5.0, 4.0)), left_by(tmp_path / "two", other, losses)
    ddp.compare(report, one, two)
    assert report.failed == failed and len(report.passed) == 2 - len(failed)


def test_with_one_card_nothing_is_said_of_two(report, setting, monkeypatch):
    card = Gpu(uuid="GPU-a", name="a", free_gib=70.0, total_gib=80.0, capability=(9, 0))
    monkeypatch.setattr(ddp, "gpus", lambda: (card,))
    ddp.check(dataclasses.replace(setting, device="cuda"), report)
    assert report.found["two cards"].absent == "one card is in sight" and not report.passed


FOUND = {
    "same_bits": True,
    "refused": None,
    "replayed": 90,
    "plain_steps_per_second": 50.0,
    "graph_steps_per_second": 150.0,
}


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"same_bits": False}, ["weights after them"]),
        ({"refused": "a step cannot be recorded (no)", "replayed": 0}, ["steps are recorded"]),
        ({"replayed": 0}, ["steps are recorded"]),
    ],
)
def test_graphs_that_are_refused_or_give_other_bits_are_found(report, changes, failed):
    graph.judge(report, {**FOUND, **changes})
    assert report.failed == failed and report.found["by graphs / plain"].value == 3.0
