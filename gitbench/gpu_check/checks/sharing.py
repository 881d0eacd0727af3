"""Runs that share a card: the steps a second of 1, 2, 4 and 8 processes together, by time slices and under MPS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gitbench.files import make_dir
from gitbench.gpu_check.results import NO_CARD, Report
from gitbench.gpu_check.sizes import Setting, config_of, showing, write_run
from gitbench.launch.mps import shared
from gitbench.machine import gpus

COUNTS = {"cuda": (1, 2, 4, 8), "cpu": (1, 2)}
SECONDS = {"cuda": 4.0, "cpu": 0.5}  # of each count
GAIN = 3.0  # times the throughput of one process, which is that of runs one after another


def check(setting: Setting, report: Report) -> None:
    """Judge the best throughput of several processes against that of one."""
    config = write_run(setting.path("runs", "crowd"), config_of(setting)).config
    found: dict[tuple[str, int], float] = {}
    if not setting.on_card:
        found |= {("cores", count): rate for count, rate in together(setting, config, {}).items()}
        tell(report, found)
        report.not_run("the best against one process", NO_CARD)
        return
    card = gpus()[0]
    for_card = showing(card.uuid)
    with report.part("time slices"):
        way = "MPS (a daemon that was there)" if card.mps else "time slices"
        found |= {(way, count): rate for count, rate in together(setting, config, for_card).items()}
    with report.part("MPS"), shared([card]) as environments:
        if environments:
            own = {**for_card, **environments[card.uuid]}
            found |= {("MPS", count): rate for count, rate in together(setting, config, own).items()}
        else:
            report.not_run("MPS", "NVIDIA's nvidia-cuda-mps-control is not installed, or does not work here")
    tell(report, found)
    judge(report, found)


def tell(report: Report, found: Mapping[tuple[str, int], float]) -> None:
    """Report all throughputs."""
    for (way, count), rate in found.items():
        report.figure(f"{count} process{'es' if count > 1 else ''}, {way}", round(rate, 2), "steps/s")


def judge(report: Report, found: Mapping[tuple[str, int], float]) -> None:
    """Judge the best throughput against that of one process that has the card to itself."""
    (way, count), best = max(found.items(), key=lambda item: item[1])
    one = max(rate for (_, processes), rate in found.items() if processes == 1)
    report.at_least("the best against one process", round(best / one, 2), GAIN, "times", f"{count} processes, {way}")


def together(setting: Setting, config: Path, environment: Mapping[str, str]) -> dict[int, float]:
    """Return processes that train at a time -> their steps a second together; all are started once."""
    counts, seconds = COUNTS[setting.device], SECONDS[setting.device]
    logs = make_dir(setting.path("logs"))
    crowd: list[subprocess.Popen] = []
    try:
        for number in range(max(counts)):
            with open(logs / f"crowd-{number}.txt", "ab") as log:
                command = [sys.executable, "-m", "gitbench.gpu_check.crowd", str(config.parent)]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "text": True}
                crowd.append(subprocess.Popen(command, env={**os.environ, **environment}, **pipes))  # type: ignore[call-overload]
        for each in crowd:
            hear(each)
        return {count: throughput(crowd[:count], seconds) for count in counts}
    finally:
        for each in crowd:
            each.kill()
            each.wait()


def throughput(crowd: Sequence[subprocess.Popen], seconds: float) -> float:
    """Let processes train for some seconds; returns their steps a second together."""
    for each in crowd:
        assert each.stdin is not None
        each.stdin.write(f"{seconds}\n")
        each.stdin.flush()
    return sum(answer["steps"] / answer["seconds"] for answer in map(hear, crowd))


def hear(process: subprocess.Popen) -> dict[str, float]:
    """Wait for a process's next word. Errors: RuntimeError if it ends without one."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a process that trains ended with status {process.wait()}: see logs/crowd-*.txt")
    return json.loads(line)
