"""What a launch does with runs, whoever executes them: a second try, a time limit, an interrupt. No training here."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from helpers_errors import refused
from helpers_study import make_study, runs_of

from gitbench.files import read_json
from gitbench.launch.executor import Event
from gitbench.launch.progress import Display
from gitbench.launch.records import StudyScorer
from gitbench.launch.scheduling import execute_runs, launch
from gitbench.spec import Compute


class FakeExecutor:
    """Begins one run a poll and ends it with the next; `faults` maps a folder's name to what goes wrong there."""

    def __init__(self, faults: dict[str, str] | None = None) -> None:
        self.faults, self.submitted, self.queue, self.running = faults or {}, [], [], []
        self.cancelled: list[bool] = []

    def submit(self, folder: Path) -> None:
        assert (folder / "config.py").is_file() and read_json(folder / "origin.json")["data_fingerprint"]
        self.submitted.append(folder.name)
        self.queue.append(folder)

    def poll(self, timeout: float) -> list[Event]:
        ended = [Event(folder=each, kind="ended", values=(self.faults.get(each.name, ""),)) for each in self.running]
        self.running = [self.queue.pop(0)] if self.queue else []
        begun = [Event(folder=each, kind=kind, values=values) for each in self.running for kind, values in SAID]
        return ended + begun

    def cancel(self, running: bool = True) -> list[Path]:
        self.cancelled.append(running)
        waiting, self.queue = self.queue, []
        return waiting


SAID = (("started", ()), ("pretraining", (1, 2)), ("progress", (3, 6, 1.5)))
RECORD = {"metrics": {"CIDEr": {"value": 1.0}}, "cost": {"seconds": 2.0}}


@pytest.fixture
def scored(monkeypatch) -> list[str]:
    """Keys of the runs that were scored; nothing is really scored."""
    found: list[str] = []
    monkeypatch.setattr(StudyScorer, "score_ceiling", lambda self: None)
    monkeypatch.setattr(StudyScorer, "score_run", lambda self, run: found.append(run.run_key) or RECORD)
    return found


def test_a_run_that_fails_twice_is_reported_and_the_others_go_on(tmp_path, scored, capsys):
    study = make_study(tmp_path / "w")
    victim, *others = runs_of(study)
    executor = FakeExecutor({victim.key: "it broke"})
    outcome = execute_runs(study, executor, plain=True)
    assert outcome.failed == ((victim.arm, 0, "it broke"),) and outcome.completed == len(others)
    assert sorted(scored) == sorted(run.key for run in others)
    assert executor.submitted.count(victim.key) == 2 and len(executor.submitted) == len(others) + 2
    printed = capsys.readouterr().out
    assert printed.count("trying again") == 1 and printed.count("it broke") == 2


def test_nothing_is_begun_after_the_time_is_up(tmp_path, scored):
    study = make_study(tmp_path / "w")
    executor = FakeExecutor()
    outcome = execute_runs(study, executor, plain=True, until=time.monotonic() - 1)
    assert (outcome.completed, outcome.left, outcome.failed) == (0, 3, ()) and not scored
    assert executor.cancelled[0] is False


def test_an_interrupt_ends_what_runs(tmp_path, scored, monkeypatch, capsys):
    study = make_study(tmp_path / "w")
    executor = FakeExecutor()
    monkeypatch.setattr(executor, "poll", lambda timeout: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        execute_runs(study, executor, plain=True)
    assert executor.cancelled == [True] and not scored
    assert "stopping: " in capsys.readouterr().out  # at once, since scores may take a while


def test_the_display_says_pretraining_and_counts_none_of_it(tiny_study, capsys, monkeypatch):
    run = tiny_study.plan.runs[0]
    with Display(tiny_study.name, 0, 3, plain=True) as display:
        monkeypatch.setattr("gitbench.launch.progress.QUIET_SECONDS", -1.0)
        display.training(run)
        display.training(run, 2, 5)
        assert "base/0 pre-training 40%" in capsys.readouterr().out
        assert display.bar.tasks[0].completed == 0
        display.training(run, 1, 4, 2.5)
        assert "base/0 25% loss 2.50" in capsys.readouterr().out
        assert display.bar.tasks[0].completed == 0.25
        metrics = {"test_nll": {"value": 1.0}, "VQA": {"value": 41.23}}
        display.finished(run, {"metrics": metrics, "cost": {"seconds": 9}})
        assert "VQA accuracy 41.2, 9 s" in capsys.readouterr().out


def test_warnings_about_captions_are_printed_when_a_run_is_scored_and_that_of_the_images_once(tiny_study, capsys):
    record = {"metrics": {}, "cost": {"seconds": 9}, "warnings": ["CIDEr of few images", "one caption"]}
    with Display(tiny_study.name, 0, 3, plain=True) as display:
        display.finished(tiny_study.plan.runs[0], record)
        display.finished(tiny_study.plan.runs[1], record | {"warnings": ["CIDEr of few images", "one caption"]})
    said = capsys.readouterr().out
    assert [said.count(f"mind: {line}") for line in ("CIDEr of few images", "one caption")] == [1, 2]


def test_sigterm_stops_the_runs_as_ctrl_c_does_and_is_handled_no_longer_afterwards(tmp_path, scored):
    class Terminated(FakeExecutor):
        def poll(self, timeout: float) -> list[Event]:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().poll(timeout)

    before, executor = signal.getsignal(signal.SIGTERM), Terminated()
    with pytest.raises(KeyboardInterrupt):
        execute_runs(make_study(tmp_path / "w"), executor, plain=True)
    assert executor.cancelled == [True] and signal.getsignal(signal.SIGTERM) == before


def test_runs_for_gpus_are_launched_elsewhere_from_a_machine_without_one(tmp_path, scored, monkeypatch):
    monkeypatch.setattr("gitbench.launch.places.gpus", list)
    monkeypatch.setattr("gitbench.launch.scheduling.is_proven", lambda study: True)
    study = make_study(tmp_path, compute=Compute(device="cuda", precision="bfloat16"))
    with refused("planned for a GPU, and none is in sight"):
        launch(study, plain=True)
    executor = FakeExecutor()
    assert launch(study, plain=True, executor=executor).completed == len(executor.submitted) == len(study.unique_runs)
