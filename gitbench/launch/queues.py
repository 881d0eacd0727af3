"""Executors that hand runs to a queueing system: what Slurm and Ray have in common.

A job of the queue is a pack of runs, executed side by side by as many processes of `gitbench.launch.work`; these end with
the job and not with the launch. Work directory and `$GITBENCH_CACHE` must be the same folders on all hosts.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gitbench import plugins
from gitbench.errors import GitbenchError
from gitbench.launch.executor import Event, end_of, news_of
from gitbench.launch.state import State, read_state
from gitbench.launch.work import COMMAND, DONE, is_done
from gitbench.run_folder import RunFolder

INTERVAL = 2.0  # seconds between two looks at the jobs,
PER_JOB = 0.05  # and for each of them so many more: what that costs the file server


class Pack:
    """What a job executes: runs, side by side. `environment` is added to that of the job."""

    def __init__(self, folders: Sequence[Path], environment: Mapping[str, str]) -> None:
        self.folders, self.environment = tuple(folders), dict(environment)
        self.processes: list[subprocess.Popen] = []

    def __call__(self) -> list[int]:
        """Execute the runs; returns their exit statuses, negative: the signal that ended one."""
        command = [*COMMAND, "--parent", str(os.getpid())]
        environment = {**os.environ, **self.environment}
        self.processes = [subprocess.Popen([*command, str(each)], env=environment) for each in self.folders]
        return [process.wait() for process in self.processes]

    def checkpoint(self) -> Any:
        """Return what goes on from here, as submitit asks at a time limit; every file of a run is whole at any moment.

        It is called in a signal handler, which must not wait for the runs: the call that it interrupts does so under a lock.
        """
        import submitit

        for process in self.processes:
            process.kill()
        return submitit.helpers.DelayedSubmission(Pack(self.folders, self.environment))


class Job(Protocol):
    """A pack in the queue."""

    def statuses(self) -> list[int] | None:
        """Return the exit statuses of its runs, None while it waits or runs. Errors: GitbenchError where it ended otherwise."""


class Queue(Protocol):
    """A queueing system."""

    def start(self, packs: Sequence[Pack]) -> Sequence[Job]:
        """Queue a job a pack. Errors: GitbenchError where the system refuses them."""

    def cancel(self, jobs: Sequence[Any]) -> None:
        """End such jobs, or take them out of the queue."""


@dataclass(kw_only=True)
class _Queued:
    """A job, its folders as they were submitted, and what each said last."""

    job: Job
    last: dict[Path, State | None]
    begun: bool = False


class QueueExecutor:
    """Executes runs as jobs of a queue, `pack` of them a job; `limit`: jobs in the queue at a time, where it sets none itself."""

    def __init__(self, queue: Queue, pack: int = 1, limit: int | None = None) -> None:
        self.queue, self.pack, self.limit = queue, pack, limit
        self.submitted: deque[Path] = deque()
        self.jobs: list[_Queued] = []
        self.looked = 0.0

    def submit(self, folder: Path) -> None:
        """Take a run; the queue gets it with the next `poll`."""
        self.submitted.append(folder)

    def poll(self, timeout: float) -> list[Event]:
        """Queue what was submitted; every few seconds, return what the runs have said and how they ended."""
        self._start()
        left = self.looked + INTERVAL + PER_JOB * len(self.jobs) - time.monotonic()
        if left > 0:
            time.sleep(min(timeout, left))
        if left > timeout:
            return []
        self.looked = time.monotonic()
        return [event for queued in list(self.jobs) for event in self._events(queued)]

    def cancel(self, running: bool = True) -> list[Path]:
        """Take jobs out of the queue whose runs have not said anything, and where `running` end all others."""
        waiting = list(self.submitted)
        self.submitted.clear()
        withdrawn = [queued for queued in self.jobs if not queued.begun]
        if ended := self.jobs if running else withdrawn:
            self.queue.cancel([queued.job for queued in ended])
        self.jobs = [queued for queued in self.jobs if queued.begun]
        return waiting + [folder for queued in withdrawn for folder in queued.last]

    def _start(self) -> None:
        room = len(self.submitted) if self.limit is None else self.pack * (self.limit - len(self.jobs))
        chosen = [self.submitted.popleft() for _ in range(min(max(0, room), len(self.submitted)))]
        groups = [chosen[at : at + self.pack] for at in range(0, len(chosen), self.pack)]
        if groups:
            handed_on = _environment()
            packs = [Pack([folder.resolve() for folder in group], handed_on) for group in groups]
            last = [{folder: read_state(folder) for folder in group} for group in groups]
            started = self.queue.start(packs)
            self.jobs += [_Queued(job=job, last=each) for job, each in zip(started, last, strict=True)]

    def _events(self, queued: _Queued) -> list[Event]:
        try:
            statuses, problem = queued.job.statuses(), ""
        except GitbenchError as error:
            statuses, problem = None, str(error)
        events = []
        for folder in queued.last:
            queued.last[folder], news = news_of(folder, queued.last[folder])
            events += news
        queued.begun = queued.begun or bool(events)
        if statuses is None and not problem:
            return events
        self.jobs.remove(queued)
        if statuses is not None:
            return events + [end_of(folder, status) for folder, status in zip(queued.last, statuses, strict=True)]
        done = {folder: is_done(RunFolder(folder)) for folder in queued.last}
        return events + [
            end_of(folder, DONE) if done[folder] else Event(folder=folder, kind="ended", values=(problem,))
            for folder in queued.last
        ]


def _environment() -> dict[str, str]:
    """Return what processes on other hosts need of this one's environment: where the cache, plugins and modules are."""
    kept = {name: os.environ[name] for name in ("GITBENCH_CACHE", "PYTHONPATH") if os.environ.get(name)}
    return {**kept, **plugins.environment()}
