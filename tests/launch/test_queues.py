"""Executors that hand runs to a queue: what they make of jobs, whichever system runs them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers_launch import planned, plugin
from helpers_processes import is_gone
from helpers_study import make_study

from gitbench.errors import GitbenchError
from gitbench.files import write_json, write_text
from gitbench.launch import queues
from gitbench.launch.executor import Event
from gitbench.launch.queues import Pack, QueueExecutor
from gitbench.launch.state import State, read_state, write_state
from gitbench.launch.work import CLAIMED, DONE, FAULT


class FakeJob:
    """A job that ends when `ends` is set: exit statuses, or an error of the queue."""

    def __init__(self, pack: Pack) -> None:
        self.pack, self.cancelled = pack, False
        self.ends: list[int] | GitbenchError | None = None

    def statuses(self) -> list[int] | None:
        if isinstance(self.ends, GitbenchError):
            raise self.ends
        return self.ends


class FakeQueue:
    def __init__(self) -> None:
        self.jobs: list[FakeJob] = []

    def start(self, packs: list[Pack]) -> list[FakeJob]:
        self.jobs += (started := [FakeJob(pack) for pack in packs])
        return started

    def cancel(self, jobs: list[FakeJob]) -> None:
        for job in jobs:
            job.cancelled = True


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(queues, "INTERVAL", 0.0)
    monkeypatch.setattr(queues, "PER_JOB", 0.0)


def say(folder: Path, kind: str, *values) -> None:
    write_state(folder, State(kind=kind, host="node", pid=1, values=values))


def test_what_runs_say_and_how_they_end_is_told_under_the_names_they_were_submitted_by(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queue, folders = FakeQueue(), [Path("runs") / name for name in "abc"]
    executor = QueueExecutor(queue, pack=2)
    for folder in folders:
        executor.submit(folder)
    say(folders[0], "ended", "an earlier fault")  # of another attempt
    assert executor.poll(0) == []
    assert [job.pack.folders for job in queue.jobs] == [
        tuple(each.resolve() for each in folders[:2]),
        (folders[2].resolve(),),
    ]
    say(folders[0], "progress", 3, 6, 1.5)
    assert executor.poll(0) == [Event(folder=folders[0], kind="progress", values=(3, 6, 1.5))]
    assert executor.poll(0) == []  # said once
    say(folders[1], "ended", "the disk is full")
    queue.jobs[0].ends = [DONE, FAULT]
    queue.jobs[1].ends = [CLAIMED]
    assert executor.poll(0) == [
        Event(folder=folders[0], kind="ended", values=("",)),
        Event(folder=folders[1], kind="ended", values=("the disk is full",)),
        Event(folder=folders[2], kind="elsewhere"),
    ]
    assert executor.jobs == []


def test_of_a_job_that_the_queue_ended_the_runs_that_were_done_are_done(tmp_path):
    queue, folders = FakeQueue(), [tmp_path / name for name in "ab"]
    executor = QueueExecutor(queue, pack=2)
    for folder in folders:
        executor.submit(folder)
    executor.poll(0)
    write_text(folders[0] / "predictions.jsonl", "")
    write_json(folders[0] / "trained.json", {})
    queue.jobs[0].ends = GitbenchError("job 7 was ended from outside")
    assert [event.values for event in executor.poll(0)] == [("",), ("job 7 was ended from outside",)]


def test_withdrawing_spares_what_has_begun_and_an_end_ends_all(tmp_path):
    queue, folders = FakeQueue(), [tmp_path / name for name in "abc"]
    executor = QueueExecutor(queue)
    for folder in folders[:2]:
        executor.submit(folder)
    executor.poll(0)
    say(folders[0], "started")
    executor.poll(0)
    executor.submit(folders[2])
    assert sorted(executor.cancel(running=False)) == folders[1:]
    assert [job.cancelled for job in queue.jobs] == [False, True]
    executor.cancel()
    assert queue.jobs[0].cancelled


def test_a_limit_is_kept_by_jobs_in_the_queue(tmp_path):
    queue = FakeQueue()
    executor = QueueExecutor(queue, limit=2)
    for name in "abc":
        executor.submit(tmp_path / name)
    executor.poll(0)
    assert len(queue.jobs) == 2
    queue.jobs[0].ends = [CLAIMED]
    executor.poll(0)
    executor.poll(0)
    assert len(queue.jobs) == 3


def test_a_pack_is_executed_side_by_side_and_tells_how_each_ended(tmp_path, monkeypatch):
    folders = planned(make_study(tmp_path / "work"))
    body = "if path.name < max(each.name for each in path.parent.iterdir()): raise GitbenchError('no')"
    pack = Pack([folder.path for folder in folders[:2]], {"GITBENCH_PLUGINS": str(plugin(tmp_path, body))})
    statuses = dict(zip((folder.path.name for folder in folders), pack(), strict=False))
    names = [folder.path.name for folder in folders]
    assert statuses == {name: (DONE if name == max(names) else 2) for name in names[:2]}


SIGNALLED = """
import os, signal, sys, types
from pathlib import Path
from gitbench.launch.queues import Pack

def handle(*_):
    again = pack.checkpoint()
    os._exit(7 if again.folders == pack.folders and not again.processes else 8)

sys.modules["submitit"] = types.SimpleNamespace(helpers=types.SimpleNamespace(DelayedSubmission=lambda pack: pack))
signal.signal(signal.SIGUSR2, handle)
pack = Pack([Path(sys.argv[1])], {"GITBENCH_PLUGINS": sys.argv[2]})
pack()
"""


def test_a_job_that_is_signalled_ends_its_runs_and_hands_them_on(tmp_path):
    """The signal comes while the job waits for them."""
    folder = planned(make_study(tmp_path / "work"))[0].path
    job = subprocess.Popen([sys.executable, "-c", SIGNALLED, str(folder), str(plugin(tmp_path, "time.sleep(60)"))])
    deadline = time.monotonic() + 60
    while (state := read_state(folder)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR2)
    try:
        assert job.wait(30) == 7
        assert is_gone(state.pid)
    finally:
        job.kill()
