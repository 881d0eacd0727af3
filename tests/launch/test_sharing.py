"""Several launches on one work directory: each run is trained once, by whichever is first; nobody waits in lockstep."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers_launch import MadeUpScores, planned
from helpers_study import make_study

from gitbench import claim as claims
from gitbench.claim import Claim
from gitbench.files import write_json, write_text
from gitbench.launch import scheduling
from gitbench.launch import session as sessions
from gitbench.launch.executor import Event
from gitbench.launch.progress import Display
from gitbench.launch.session import Outcome, Session
from gitbench.launch.work import is_taken
from gitbench.plan import Plan
from gitbench.run_folder import RunFolder
from gitbench.study.store import Study


class OneSlot:
    """Executes one run at a time, as a worker does, in `seconds`; keeps what it trained. `stop` freezes it for good."""

    def __init__(self, seconds: float = 0.05) -> None:
        self.seconds, self.stop = seconds, threading.Event()
        self.queue: deque[Path] = deque()
        self.trained: list[str] = []
        self.slot: tuple[Path, Claim, float] | None = None

    def submit(self, folder: Path) -> None:
        self.queue.append(folder)

    def poll(self, timeout: float) -> list[Event]:
        time.sleep(0.02)
        while self.stop.is_set():
            time.sleep(0.01)
        if self.slot is None:
            return self._begin()
        folder, claim, ends = self.slot
        if time.monotonic() < ends:
            return []
        self.slot = None
        write_text(folder / "predictions.jsonl", "")
        write_json(folder / "trained.json", {})
        claim.release()
        self.trained.append(folder.name)
        return [Event(folder=folder, kind="ended", values=("",))]

    def _begin(self) -> list[Event]:
        if not self.queue:
            return []
        folder = self.queue.popleft()
        claim = Claim(RunFolder(folder).claim)
        if is_taken(folder) or not claim.take():
            return [Event(folder=folder, kind="elsewhere")]
        self.slot = (folder, claim, time.monotonic() + self.seconds)
        return []

    def cancel(self, running: bool = True) -> list[Path]:
        waiting = list(self.queue)
        self.queue.clear()
        return waiting


@pytest.fixture
def plan(tmp_path) -> Plan:
    """The plan of a study of twelve runs, written into the folders of `tmp_path`/work."""
    study = make_study(tmp_path / "work", replicates=4)
    planned(study)
    return study.plan


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(sessions, "LOOK", 0.02)
    monkeypatch.setattr(sessions, "LOOK_BUSY", 0.02)


def launch(
    tmp_path: Path, plan: Plan, executor: OneSlot, name: str, wait: bool = True, ends: float | None = None
) -> Callable[[], Outcome]:
    """Start a launch in a thread; returns what waits for its outcome."""
    study = Study(tmp_path / "work", plan)
    display = Display(study.name, 0, len(study.unique_runs), plain=True)
    session = Session(study, executor, MadeUpScores(study, tmp_path / f"{name}.log"), display, wait)
    found = sum(study.done(run) for run in study.unique_runs)
    todo = [run for run in study.unique_runs if not study.done(run)]

    def run() -> None:
        with display:
            session.run(todo, ends)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def outcome() -> Outcome:
        thread.join(250)
        assert not thread.is_alive()
        return session.outcome(found)

    return outcome


def until(happened: Callable[[], bool]) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + 200
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def scored(tmp_path: Path) -> list[str]:
    """Return the keys of all runs that any launch has scored."""
    return [key for path in tmp_path.glob("*.log") for key in path.read_text().split()]


def test_two_launches_share_the_runs_out_and_both_say_the_truth(tmp_path, plan, capsys):
    one, two = OneSlot(), OneSlot()
    began = [launch(tmp_path, plan, each, name) for each, name in ((one, "one"), (two, "two"))]
    outcomes = [each() for each in began]
    keys = sorted(run.run_key for run in plan.runs)
    assert sorted(one.trained + two.trained) == keys == sorted(scored(tmp_path))
    assert min(len(one.trained), len(two.trained)) >= 4  # of twelve: neither was idle
    for mine, other in (outcomes, reversed(outcomes)):
        assert mine.completed == other.others and mine.completed + mine.others == 12
        assert (mine.failed, mine.left, mine.under_way) == ((), 0, 0)
    entered = json.loads(Study(tmp_path / "work", plan).manifest_path.read_text())["runs"]
    assert sorted(entry["run_key"] for entry in entered) == keys
    assert Study(tmp_path / "work", plan).manifest.unchained is None
    assert "by another launch" in capsys.readouterr().out


def test_what_a_launch_leaves_behind_that_is_gone_is_taken_over_and_nothing_twice(tmp_path, plan, monkeypatch):
    """It was on another host: its claim is stale after a while, and what it had trained is scored by the other one."""
    monkeypatch.setattr(claims, "STALE", 0.6)
    gone, other = OneSlot(), OneSlot()
    launch(tmp_path, plan, gone, "gone")
    until(lambda: len(gone.trained) >= 2)
    gone.stop.set()  # no signal, no farewell
    if gone.slot is not None:
        gone.slot[1]._ended.set()  # its claim is touched no more
    outcome = launch(tmp_path, plan, other, "other")()
    assert outcome.completed + outcome.others + outcome.found == 12 and not outcome.failed and outcome.completed >= 9
    assert sorted(scored(tmp_path)) == sorted(run.run_key for run in plan.runs)
    assert set(gone.trained).isdisjoint(other.trained)


def test_without_waiting_a_launch_ends_when_nothing_is_left_to_begin(tmp_path, plan):
    busy = [Claim(Study(tmp_path / "work", plan).folder(run.run_key).claim) for run in plan.runs[:2]]
    assert all(claim.take() for claim in busy)
    outcome = launch(tmp_path, plan, OneSlot(), "one", wait=False)()
    assert (outcome.completed, outcome.under_way, outcome.others) == (10, 2, 0)
    busy[0].release()
    outcome = launch(tmp_path, plan, OneSlot(), "one", wait=False)()
    assert (outcome.completed, outcome.under_way) == (1, 1)


def test_nothing_is_begun_and_nobody_waited_for_after_the_time_is_up(tmp_path, plan, monkeypatch):
    claim = Claim(Study(tmp_path / "work", plan).folder(plan.runs[0].run_key).claim)
    assert claim.take()
    executor = OneSlot()
    clock = SimpleNamespace(monotonic=lambda: 9.0 if len(executor.trained) >= 2 else 0.0)
    monkeypatch.setattr(sessions, "time", clock)
    outcome = launch(tmp_path, plan, executor, "one", ends=5.0)()
    assert outcome.under_way == 1 and 2 <= outcome.completed <= 3
    assert outcome.completed + outcome.left + outcome.under_way == 12


def test_a_run_that_another_launch_could_not_train_is_tried_here(tmp_path, plan):
    """The other one holds it, fails and gives it up: that is no attempt of this launch."""
    folder = Study(tmp_path / "work", plan).folder(plan.runs[0].run_key)
    claim = Claim(folder.claim)
    assert claim.take()
    executor = OneSlot(0.01)
    outcome = launch(tmp_path, plan, executor, "one")
    until(lambda: len(executor.trained) == 11)
    claim.release()
    found = outcome()
    assert found.completed == 12 and executor.trained[-1] == folder.path.name


def test_who_scores_a_run_holds_its_claim(tmp_path, plan):
    """A launch that finds a run trained does not score it while another one is at it."""
    study = Study(tmp_path / "work", plan)
    folder = study.folder(plan.runs[0].run_key)
    write_text(folder.predictions, "")
    write_json(folder.trained, {})
    claim = Claim(folder.claim)
    assert claim.take()
    outcome = launch(tmp_path, plan, OneSlot(0.01), "one")
    time.sleep(0.3)
    assert folder.path.name not in scored(tmp_path)
    MadeUpScores(study, tmp_path / "other.log").score_run(plan.runs[0])
    claim.release()
    assert (outcome().others, scored(tmp_path).count(folder.path.name)) == (1, 1)


def test_who_scores_a_run_removes_what_a_killed_process_was_writing_there(tmp_path, plan):
    study = Study(tmp_path / "work", dataclasses.replace(plan, runs=plan.runs[:1]))
    folder = study.folder(plan.runs[0].run_key)
    write_text(folder.predictions, "")
    write_json(folder.trained, {})
    leftover = folder.path / ".record.json.0a1b2c3d.tmp.json"
    leftover.write_text("{")
    assert launch(tmp_path, study.plan, OneSlot(), "one")().completed == 1
    assert not leftover.exists()


def test_a_run_that_another_launch_completed_meanwhile_keeps_what_it_was_planned_from(tmp_path, plan):
    study = Study(tmp_path / "work", plan)
    folder = study.folder(plan.runs[0].run_key)
    write_text(folder.predictions, "")
    write_json(folder.trained, {})
    before = [path.read_bytes() for path in (folder.config, folder.origin)]
    said = {"command": "gitbench run tiny --jobs 2"}
    MadeUpScores(study, tmp_path / "other.log").score_run(plan.runs[0])
    scheduling._plan_folder(folder, "", said, None)
    assert before == [path.read_bytes() for path in (folder.config, folder.origin)]
    folder.record.unlink()
    scheduling._plan_folder(folder, "", said, None)
    assert folder.config.read_bytes() == b"" and json.loads(folder.origin.read_text()) == said


def test_the_last_runs_of_others_are_said_to_be_waited_for(tmp_path, plan, capsys):
    claim = Claim(Study(tmp_path / "work", plan).folder(plan.runs[0].run_key).claim)
    assert claim.take()
    outcome = launch(tmp_path, plan, OneSlot(0.01), "one")
    until(lambda: "waiting for 1 run of other launches" in capsys.readouterr().out)
    claim.release()
    assert outcome().completed == 12
