"""Training steps as CUDA graphs: the bits of plain steps, recorded and not refused, and how many a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from gitbench.gpu_check.results import Report
from gitbench.gpu_check.sizes import Setting, config_of
from gitbench.gpu_check.steps import Enough, finish, train_until
from gitbench.training.device import planned

STEPS = 200  # the second half of them is timed


class _Watch(Hook):
    """Takes the time of the second half of so many steps, then keeps what they left and stops the training."""

    priority = "LOWEST"

    def __init__(self, device: str, steps: int) -> None:
        self.device, self.steps, self.half = device, steps, steps // 2
        self.began = self.per_second = 0.0
        self.weights: dict[str, torch.Tensor] = {}
        self.refused: str | None = None
        self.replayed = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # type: ignore[no-untyped-def]
        if batch_idx + 1 == self.half:
            finish(self.device)
            self.began = time.perf_counter()
        elif batch_idx + 1 == self.steps:
            finish(self.device)
            self.per_second = (self.steps - self.half) / (time.perf_counter() - self.began)
            self.weights = {name: tensor.cpu() for name, tensor in runner.model.state_dict().items()}
            if (graphed := runner.train_loop.graphed) is not None:
                self.refused, self.replayed = graphed.refused, graphed.replayed
            raise Enough


def check(setting: Setting, report: Report) -> None:
    """Judge the graphs of the base arm's steps."""
    judge(report, both_ways(config_of(setting), STEPS))


def both_ways(config: Config, steps: int) -> dict[str, Any]:
    """Take the first steps of a run twice, plainly and by graphs.

    Returns `same_bits` (of all weights after them), `refused` (why there were no graphs, or None), `replayed` (steps taken by
    graphs), and steps per second of both, of the last half.
    """
    config = config.copy()
    plain, graph = (_Watch(planned(config).device, steps) for _ in range(2))
    for watch in (plain, graph):
        config.compute.cuda_graph = watch is graph
        train_until(config, watch)
    return {
        "plain_steps_per_second": plain.per_second,
        "graph_steps_per_second": graph.per_second,
        "same_bits": all(torch.equal(tensor, graph.weights[name]) for name, tensor in plain.weights.items()),
        "refused": graph.refused,
        "replayed": graph.replayed,
    }


def judge(report: Report, found: Mapping[str, Any]) -> None:
    """Judge what was found of graphs, beside plain steps."""
    recorded = found["refused"] is None and found["replayed"] > 0
    report.judge("steps are recorded", recorded, "and not refused", found["replayed"], said=found["refused"] or "")
    report.judge("weights after them", found["same_bits"], "the bits of plain steps")
    plain, graph = found["plain_steps_per_second"], found["graph_steps_per_second"]
    report.figure("plain", round(plain, 2), "steps/s")
    report.figure("by graphs", round(graph, 2), "steps/s")
    report.figure("by graphs / plain", round(graph / plain, 2))
