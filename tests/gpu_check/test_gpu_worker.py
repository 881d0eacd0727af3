"""The checks of workers fail where one is wrong: a run that is killed, its memory, the card that it is given."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from helpers_errors import refused

from gitbench.gpu_check import watched
from gitbench.gpu_check.checks import card, resume, uuid
from gitbench.gpu_check.watched import Peak
from gitbench.launch.work import DONE, FAULT
from gitbench.machine import Gpu
from gitbench.run_folder import RunFolder
from gitbench.study.memory import CONTEXT_GIB, FRAGMENTATION

GIB = 2**30


@pytest.fixture
def pair(tmp_path) -> tuple[RunFolder, RunFolder]:
    """Two finished runs that left the same."""
    runs = []
    for name in ("quiet", "killed"):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        torch.save({"state_dict": {"a": torch.ones(2), "b": torch.zeros(2)}}, run.weights)
        run.predictions.write_text("{}\n")
        run.curve.write_text("iteration\n")
        runs.append(run)
    return runs[0], runs[1]


def test_runs_that_left_the_same_are_the_same(report, pair):
    resume.compare(report, *pair)
    assert report.passed == ["weights", "predictions.jsonl", "curve.csv"] and not report.failed


def test_a_weight_that_a_stop_has_changed_is_found(report, pair):
    torch.save({"state_dict": {"a": torch.ones(2), "b": torch.tensor([0.0, 1e-30])}}, pair[1].weights)
    pair[1].curve.write_text("iteration\n1\n")
    resume.compare(report, *pair)
    assert report.failed == ["weights", "curve.csv"] and report.found["weights"].said == "b"


def test_a_run_that_is_lost_is_found(report, pair):
    pair[1].predictions.unlink()
    with report.part("weights and captions"):
        resume.compare(report, *pair)
    assert report.failed == ["weights and captions"]


def test_a_run_that_ends_before_it_can_be_killed_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "start", lambda folder: subprocess.Popen([sys.executable, "-c", "pass"]))
    with refused("it ended before it could be killed"):
        resume.kill_at(RunFolder(tmp_path), 10)


@pytest.mark.parametrize(
    ("recorded", "taken", "failed"),
    [
        (5.0, 5.2 + CONTEXT_GIB, []),
        (0.9, 0.9 * FRAGMENTATION, ["the recorded peak of memory"]),  # mmengine had reset it
        (5.0, 7.0, ["the run takes of the card"]),  # more than is set aside
    ],
)
def test_memory_that_is_recorded_or_planned_wrong_is_found(report, recorded, taken, failed):
    resume.judge_memory(
        report, round(recorded * GIB), peak=5 * GIB, reserved=5 * GIB, taken=round(taken * GIB), alone=True
    )
    assert report.failed == failed


def test_beside_other_processes_what_the_card_gave_out_is_not_judged(report):
    resume.judge_memory(report, 5 * GIB, peak=5 * GIB, reserved=5 * GIB, taken=70 * GIB, alone=False)
    assert report.passed == ["the recorded peak of memory"] and not report.failed
    assert report.found["the run takes of the card"].absent


def test_the_true_peak_is_seen_whoever_resets_torchs(monkeypatch):
    held = [5]

    def reset(device: int) -> None:
        held[0] = 1

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *_: held[0])
    monkeypatch.setattr(torch._C, "_cuda_resetPeakMemoryStats", reset, raising=False)
    peak = Peak()
    torch._C._cuda_resetPeakMemoryStats(0)
    held[0] = 3
    assert torch.cuda.max_memory_allocated() == 3 and peak.bytes == 5


def test_a_worker_is_watched_to_its_end(tmp_path, monkeypatch):
    """What it held at its most: 3 GiB of tensors, 4 reserved, and beside them half a GiB that the card gave out."""
    held = {"max_memory_allocated": 3, "max_memory_reserved": 4, "memory_reserved": 2}
    for name, gib in held.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, gib=gib: gib * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (round(77.5 * GIB), 80 * GIB))
    monkeypatch.setattr(torch._C, "_cuda_resetPeakMemoryStats", lambda device: None, raising=False)
    monkeypatch.setattr(watched, "end_with_parent", lambda parent: None)
    monkeypatch.setattr(watched, "work", lambda folder, every: DONE)
    assert watched.main(tmp_path) == DONE
    found = json.loads((tmp_path / "watched.json").read_text())
    assert found == {"peak": 3 * GIB, "reserved": 4 * GIB, "taken": round(4.5 * GIB)}


# ---- the card ----------------------------------------------------------------------------------------------------

H100 = Gpu(uuid="GPU-0a1b", name="H100", free_gib=79.0, total_gib=80.0, capability=(9, 0))


@pytest.mark.parametrize(
    ("name", "uuid_found", "status", "right"),
    [
        ("H100", "0a1b", DONE, True),
        ("H100", "ffff", DONE, False),  # another card of the same kind
        ("H100", "", DONE, False),
        ("cpu", "", DONE, False),
        ("H100", "0a1b", FAULT, False),
    ],
)
def test_a_worker_on_another_card_is_found(report, tmp_path, name, uuid_found, status, right):
    run = RunFolder(tmp_path)
    run.trained.write_text(json.dumps({"device": {"name": name, "uuid": uuid_found}}))
    run.predictions.write_text("{}\n")
    uuid.judge(report, "the first card", H100, run, status)
    assert bool(report.passed) == right and bool(report.failed) != right


def test_a_worker_that_left_nothing_is_found(report, tmp_path):
    uuid.judge(report, "the first card", H100, RunFolder(tmp_path / "none"), DONE)
    assert report.failed == ["the first card"]


@pytest.mark.parametrize(("seen", "right"), [("0a1b", True), ("ffff", False)])
def test_another_card_than_gitbench_sees_is_found(report, monkeypatch, seen, right):
    described = {"name": "H100", "uuid": seen, "memory_bytes": 80 * GIB, "capability": "9.0"}
    monkeypatch.setattr(card, "described", lambda: described)
    monkeypatch.setattr(card, "gpus", lambda: (H100,))
    card._card(report)
    assert bool(report.passed) == right and report.found["precision in which it trains"].value == "bfloat16"


def test_rates_are_measured(monkeypatch):
    monkeypatch.setattr(card, "SIZE", 32)
    monkeypatch.setattr(card, "COPIED", 2**16)
    assert 1e5 < card.matrix_rate("float32", "cpu") < 1e15 and 1e5 < card.copy_rate("cpu") < 1e15


def test_a_slice_and_a_card_are_known_by_their_uuids():
    assert card.same_card("MIG-dd-11", "dd-11") and card.same_card("GPU-aa", "GPU-aa")
    assert not card.same_card("GPU-aa", "ab") and not card.same_card("GPU-", "")
