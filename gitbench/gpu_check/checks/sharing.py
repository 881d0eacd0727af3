"""Runs that share a card: the steps a second of 1, 2, 4 and 8 processes together, by time slices and under MPS.

How much there is to gain depends on how busy one process keeps the card, on how many fit its memory, and on the cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mmengine.config import Config

from gitbench.compute import ROW_MULTIPLE
from gitbench.files import make_dir
from gitbench.gpu_check.results import NO_CARD, Report
from gitbench.gpu_check.sizes import Setting, config_of, showing, write_run
from gitbench.gpu_check.steps import measure_steps
from gitbench.launch.mps import shared
from gitbench.machine import Gpu, cpu_count, gpus
from gitbench.study.memory import peak_bytes, with_allowances

COUNTS = {"cuda": (1, 2, 4, 8), "cpu": (1, 2)}
SECONDS = {"cuda": 3.0, "cpu": 0.5}  # of each count
ALONE = 1.5  # seconds of one process whose share of the card is measured, before PROFILED steps
PROFILED = 5
GAIN = 3.0  # times the throughput of one process, which is that of runs one after another
ROOM = 4.0  # times that it could be at the most, from which on that is asked: sharing costs something
BEST = "the best against one process"
Rates = dict[tuple[str, int], float]  # way, processes -> steps a second


def check(setting: Setting, report: Report) -> None:
    """Judge the best throughput of several processes against that of one, where there is room for such a gain."""
    config = config_of(setting)
    folder = write_run(setting.path("runs", "crowd"), config).path
    rates: Rates = {}
    if not setting.on_card:
        together(setting, report, rates, "cores", folder, {}, dict.fromkeys(COUNTS["cpu"], ""))
        report.not_run(BEST, NO_CARD)
        return
    card, gib = gpus()[0], needed_gib(config)
    for_card = showing(card.uuid)
    report.figure("set aside for a process", round(gib, 2), "GiB", said=f"{card.free_gib:.1f} GiB are free")
    with report.part("time slices"):
        way = "MPS (a daemon that was there)" if card.mps else "time slices"
        together(setting, report, rates, way, folder, for_card, hindrances(card, gib, card.mps))
    with report.part("MPS"), shared([card]) as environments:
        if environments:
            own = {**for_card, **environments[card.uuid]}
            together(setting, report, rates, "MPS", folder, own, hindrances(card, gib, True))
        else:
            why = "NVIDIA's nvidia-cuda-mps-control is not installed, or does not work here"
            report.not_run("MPS", "the daemon that was there served the processes above" if card.mps else why)
    with report.part(BEST):  # at last: a context of this process would be in the way of the others
        judge(report, rates, measure_steps(config, ALONE, PROFILED).busy_share, cpu_count())


def needed_gib(config: Config) -> float:
    """Return the GiB of a card that are set aside for a process that trains a run and does nothing else with it."""
    config = config.copy()
    config.test_dataloader = None
    data = config.train_dataloader.dataset
    texts = data.captions_per_image * (data.text_spec.max_tokens + 1)
    b = 4 if config.compute.precision == "float32" else 2
    return with_allowances(peak_bytes(config, -(-texts // ROW_MULTIPLE) * ROW_MULTIPLE, b))


def hindrances(card: Gpu, gib: float, mps: bool) -> dict[int, str]:
    """Return processes that are tried on a card -> why so many cannot be, "" where they can; one always can."""
    why = dict.fromkeys(COUNTS["cuda"], "")
    for count in COUNTS["cuda"][1:]:
        if card.exclusive and not mps:
            why[count] = "the card takes one process at a time (exclusive compute mode)"
        elif count * gib > card.free_gib:
            why[count] = f"{count * gib:.1f} GiB are needed and {card.free_gib:.1f} are free"
    return why


def judge(report: Report, rates: Rates, busy_share: float, cores: int) -> None:
    """Judge the best throughput against that of one process that has the card to itself, if it can be that much better."""
    alone = [rate for (_, count), rate in rates.items() if count == 1]
    if not alone:
        report.judge(BEST, False, "measured", said="one process was not measured")
        return
    (way, count), best = max(rates.items(), key=lambda item: item[1])
    most = max(count for _, count in rates)
    report.figure("one process: the card is busy", round(100 * busy_share, 1), "%")
    room = min(1 / max(busy_share, 1e-3), most, cores)
    said = f"{count} process{'es' if count > 1 else ''}, {way}; room for {room:.1f} times with {most} processes and {cores} cores"
    gain = round(best / max(alone), 2)
    if room >= ROOM:
        report.at_least(BEST, gain, GAIN, "times", said)
    else:
        report.figure(BEST, gain, "times", f"{said}, so {GAIN:g} times is not asked")


def together(
    setting: Setting,
    report: Report,
    rates: Rates,
    way: str,
    folder: Path,
    environment: Mapping[str, str],
    why_not: Mapping[int, str],
) -> None:
    """Report the steps a second of each count of processes as soon as they are measured, and add them to `rates`.

    why_not: count -> why it is not tried, "" where it is. All that are tried are started once.
    """
    most = max(count for count, why in why_not.items() if not why)
    with crowd_of(most, folder, environment, make_dir(setting.path("logs"))) as crowd:
        for count, why in why_not.items():
            what = f"{count} process{'es' if count > 1 else ''}, {way}"
            if why:
                report.not_run(what, why)
                continue
            with report.part(what):
                rates[way, count] = throughput(crowd[:count], SECONDS[setting.device])
                report.figure(what, round(rates[way, count], 2), "steps/s")


@contextmanager
def crowd_of(
    number: int, folder: Path, environment: Mapping[str, str], logs: Path
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes that train the run of a folder on demand; give them once each is ready or has died, the dead last."""
    crowd: list[subprocess.Popen[str]] = []
    try:
        for place in range(number):
            with open(logs / f"crowd-{place}.txt", "ab") as log:
                crowd.append(start(folder, environment, log))
        yield sorted(crowd, key=lambda each: not is_ready(each))
    finally:
        for each in crowd:
            each.kill()
            each.wait()


def start(folder: Path, environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[str]:
    """Start one of them."""
    command = [sys.executable, "-m", "gitbench.gpu_check.crowd", str(folder)]
    own = {**os.environ, **environment}
    return subprocess.Popen(command, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)


def is_ready(process: subprocess.Popen[str]) -> bool:
    """Wait until a process is ready to train; tell whether it came that far."""
    assert process.stdout is not None
    if process.stdout.readline():
        return True
    process.wait()
    return False


def throughput(crowd: Sequence[subprocess.Popen[str]], seconds: float) -> float:
    """Let processes train for some seconds; returns their steps a second together. Errors: RuntimeError if one is gone."""
    for each in crowd:
        if each.poll() is not None:
            raise gone(each)
    for each in crowd:
        assert each.stdin is not None
        each.stdin.write(f"{seconds}\n")
        each.stdin.flush()
    return sum(answer["steps"] / answer["seconds"] for answer in map(hear, crowd))


def hear(process: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for a process's next word. Errors: RuntimeError if it ends without one."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise gone(process)
    return json.loads(line)


def gone(process: subprocess.Popen[str]) -> RuntimeError:
    """Return the error for a process that has ended."""
    return RuntimeError(f"a process that trains ended with status {process.wait()}: see logs/crowd-*.txt")
