"""The check of processes that share a card: as many as it holds are tried, and judged by the gain that there is room for."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gitbench.gpu_check import steps
from gitbench.gpu_check.checks import sharing
from gitbench.gpu_check.checks.sharing import BEST
from gitbench.gpu_check.crowd import OnDemand
from gitbench.gpu_check.sizes import Setting, config_of
from gitbench.gpu_check.steps import Enough, Profiled, Steps
from gitbench.launch import mps
from gitbench.machine import Gpu

CARD = Gpu(uuid="GPU-a", name="a", free_gib=70.0, total_gib=80.0, capability=(9, 0))
ALL = {1: "", 2: "", 4: "", 8: ""}

# ---- what is judged ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("best", "right"), [(31.0, True), (29.0, False)])
def test_processes_that_gain_too_little_are_found(report, best, right):
    rates = {("time slices", 1): 10.0, ("time slices", 8): 14.0, ("MPS", 1): 9.0, ("MPS", 8): best}
    sharing.judge(report, rates, busy_share=0.2, cores=16)
    assert bool(report.passed) == right and bool(report.failed) != right
    assert report.found[BEST].said == "8 processes, MPS; room for 5.0 times with 8 processes and 16 cores"


@pytest.mark.parametrize(
    ("busy", "most", "cores", "room"),
    [(0.5, 8, 16, "2.0"), (0.1, 2, 16, "2.0"), (0.1, 8, 2, "2.0"), (1.0, 8, 16, "1.0")],
)
def test_a_gain_for_which_there_is_no_room_is_told_and_not_asked(report, busy, most, cores, room):
    """One process keeps the card busy, few fit its memory, or there are few cores."""
    sharing.judge(report, {("time slices", 1): 10.0, ("time slices", most): 15.0}, busy, cores)
    found = report.found[BEST]
    assert (found.passed, found.value) == (None, 1.5) and f"room for {room} times" in found.said
    assert "3 times is not asked" in found.said and not report.failed


@pytest.mark.parametrize("rates", [{}, {("MPS", 8): 30.0}])
def test_where_nothing_was_measured_that_is_a_failure_and_no_error(report, rates):
    sharing.judge(report, rates, 0.2, 16)
    assert report.failed == [BEST]


# ---- how many are tried ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "exclusive", "served", "tried"),
    [
        (79.0, False, False, [1, 2, 4, 8]),
        (15.0, False, False, [1, 2, 4]),  # T4
        (11.5, False, True, [1, 2]),  # RTX 3060
        (0.5, False, False, [1]),
        (79.0, True, False, [1]),
        (79.0, True, True, [1, 2, 4, 8]),
    ],
)
def test_only_as_many_processes_are_tried_as_the_card_takes(free, exclusive, served, tried):
    card = dataclasses.replace(CARD, free_gib=free, exclusive=exclusive)
    why = sharing.hindrances(card, 3.2, served)
    assert [count for count in why if not why[count]] == tried
    told = "exclusive" if exclusive else f"25.6 GiB are needed and {free:.1f} are free"
    assert tried[-1] == 8 or told in why[8]


def test_what_is_set_aside_is_what_training_takes(monkeypatch, tmp_path):
    monkeypatch.setattr("gitbench.compute.gpus", lambda: ())
    small = Setting(device="cpu", folder=str(tmp_path))
    config = config_of(small, compute=Setting(device="cuda", folder=str(tmp_path)).compute)
    gib = sharing.needed_gib(config)
    assert 0.65 < gib < 1.0 and config.test_dataloader is not None
    config.train_dataloader.batch_size *= 64
    assert sharing.needed_gib(config) > gib + 1


# ---- processes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def lives(monkeypatch) -> list[int]:
    """Words that the processes say one after another before they die, of which the first is that they are ready."""
    given: list[int] = []
    left = iter(given)

    def start(*_: object) -> subprocess.Popen[str]:
        lines = [*(["{}"]), *(['{"steps": 6, "seconds": 2.0}'] * 9)][: next(left)]
        code = f"for line in {lines}:\n    print(line, flush=True)\n    input()"
        command = [sys.executable, "-I", "-S", "-c", code]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    monkeypatch.setattr(sharing, "start", start)
    return given


def together(setting, report, why) -> sharing.Rates:
    rates: sharing.Rates = {}
    sharing.together(setting, report, rates, "MPS", Path(), {}, why)
    return rates


def test_throughput_is_that_of_all_processes(setting, report, lives):
    lives += [9, 9, 9, 9, 9, 9, 9, 9]
    assert together(setting, report, ALL) == {("MPS", 1): 3.0, ("MPS", 2): 6.0, ("MPS", 4): 12.0, ("MPS", 8): 24.0}
    assert report.found["8 processes, MPS"].value == 24.0 and not report.failed


def test_what_does_not_fit_is_not_started(setting, report, lives):
    lives += [9, 9]
    assert len(together(setting, report, {**ALL, 4: "no room", 8: "no room"})) == 2
    assert report.found["8 processes, MPS"].absent == "no room" and not report.failed


def test_one_that_dies_at_its_start_costs_only_the_counts_that_need_it(setting, report, lives):
    lives += [0, 9, 9, 9]
    rates = together(setting, report, {1: "", 2: "", 4: ""})
    assert list(rates) == [("MPS", 1), ("MPS", 2)] and report.failed == ["4 processes, MPS"]
    assert "a process that trains ended with status 0" in report.found["4 processes, MPS"].said


def test_one_that_dies_while_it_trains_costs_no_figure_that_was_measured(setting, report, lives):
    lives += [9, 2, 9, 9, 9, 9, 9, 9]  # it answers once
    rates = together(setting, report, ALL)
    assert list(rates) == [("MPS", 1), ("MPS", 2)] and report.failed == ["4 processes, MPS", "8 processes, MPS"]
    assert [report.found[f"{name}, MPS"].value for name in ("1 process", "2 processes")] == [3.0, 6.0]


def test_a_figure_is_written_before_the_next_count_begins(setting, report, lives, monkeypatch):
    lives += [9, 9]
    written, throughput = [], sharing.throughput
    monkeypatch.setattr(sharing, "throughput", lambda *given: written.append(list(report.found)) or throughput(*given))
    together(setting, report, {1: "", 2: ""})
    assert written == [[], ["1 process, MPS"]]


def test_without_mps_the_rest_is_judged_and_mps_was_not_run(report, setting, monkeypatch):
    on_card, asked = dataclasses.replace(setting, device="cuda"), []

    def found(setting, report, rates, way, folder, environment, why_not):  # type: ignore[no-untyped-def]
        asked.append(environment["CUDA_VISIBLE_DEVICES"])
        rates.update({(way, 1): 10.0, (way, 8): 35.0})

    monkeypatch.setattr(sharing, "gpus", lambda: (CARD,))
    monkeypatch.setattr(mps.shutil, "which", lambda name: None)
    monkeypatch.setattr(sharing, "config_of", lambda setting: config_of(dataclasses.replace(setting, device="cpu")))
    alone = Steps(per_second=50.0, profiled=5, seen=Profiled(busy=0.02))
    monkeypatch.setattr(sharing, "measure_steps", lambda *_: alone)
    monkeypatch.setattr(sharing, "cpu_count", lambda: 8)
    monkeypatch.setattr(sharing, "together", found)
    sharing.check(on_card, report)
    assert (
        asked == ["GPU-a"] and report.passed == [BEST] and report.found["one process: the card is busy"].value == 20.0
    )
    assert "not installed" in report.found["MPS"].absent


def test_a_process_trains_when_it_is_told_to_and_tells_its_steps():
    answers = io.StringIO()
    hook = OnDemand("cpu", io.StringIO("0.0\n0.0\n"), answers)
    with pytest.raises(Enough):
        for _ in range(steps.WARM + 5):
            hook.after_train_iter(None, 0)
    ready, *told = map(json.loads, answers.getvalue().splitlines())
    assert ready == {} and [each["steps"] for each in told] == [1, 1] and all(each["seconds"] > 0 for each in told)
