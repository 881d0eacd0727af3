"""Training steps as CUDA graphs: the bits of plain steps, recorded and not refused, and how many a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitbench.gpu_check.results import Report
from gitbench.gpu_check.sizes import Setting, config_of, write_run
from gitbench.training.graph_check import check_graphs

STEPS = 200  # the second half of them is timed


def check(setting: Setting, report: Report) -> None:
    """Judge the graphs of the base arm's steps."""
    run = write_run(setting.path("runs", "graph"), config_of(setting))
    judge(report, check_graphs(run.path, STEPS))


def judge(report: Report, found: Mapping[str, Any]) -> None:
    """Judge what was found of graphs, beside plain steps."""
    recorded = found["refused"] is None and found["replayed"] > 0
    report.judge("steps are recorded", recorded, "and not refused", found["replayed"], said=found["refused"] or "")
    report.judge("weights after them", found["same_bits"], "the bits of plain steps")
    plain, graph = found["plain_steps_per_second"], found["graph_steps_per_second"]
    report.figure("plain", round(plain, 2), "steps/s")
    report.figure("by graphs", round(graph, 2), "steps/s")
    report.figure("by graphs / plain", round(graph / plain, 2))
