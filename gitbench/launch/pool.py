"""The runs of a launch on their way through its slots: one process a run, then scoring."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.launch.progress import Display
from gitbench.launch.scoring import DamagedRun, StudyScorer
from gitbench.launch.worker import run_worker
from gitbench.study.plan import Plan, PlannedRun
from gitbench.study.provenance import provenance
from gitbench.study.store import captioned

ATTEMPTS = 2  # a failed run is tried once more


@dataclass(kw_only=True)
class Job:
    """A run on its way: queued, in a process, or being scored."""

    run: PlannedRun
    attempts: int = 0
    slot: dict[str, str] = field(default_factory=dict)
    process: Any = None
    connection: Connection | None = None
    message: str = ""

    @property
    def captioned(self) -> bool:
        """True where only its scores are missing."""
        return captioned(self.run.folder)


class Pool:
    """The slots and what runs in them."""

    def __init__(
        self,
        plan: Plan,
        free: list[dict[str, str]],
        study: StudyScorer,
        scoring: ThreadPoolExecutor,
        display: Display,
        command: str,
        context: Any,
    ) -> None:
        self.plan, self.free, self.study, self.scoring = plan, free, study, scoring
        self.display, self.command, self.context = display, command, context
        self.running: list[Job] = []
        self.scores: dict[Future, Job] = {}
        self.failed: list[tuple[str, int, str]] = []
        self.left = 0  # runs that were not begun for want of time

    def work(self, todo: list[PlannedRun], until: float | None = None) -> list[tuple[str, int, str]]:
        """Bring every run to its end; return those that failed: (arm, replicate, reason). None is begun after `until`."""
        queue = deque(sorted((Job(run=run) for run in todo), key=lambda job: not job.captioned))
        try:
            while queue or self.running or self.scores:
                if until is not None and time.monotonic() >= until:
                    self.left += len(queue)
                    queue.clear()
                while queue and self.free:
                    self._begin(queue.popleft())
                self._listen()
                queue.extend(self._collect_scores())
                queue.extend(self._collect_ended())
        except BaseException:
            self._stop()
            raise
        return self.failed

    def _begin(self, job: Job) -> None:
        """Score a run that has its captions; start the process of any other in a free slot."""
        job.attempts += 1
        if job.captioned:
            self._score(job)
            return
        job.slot, job.message = self.free.pop(0), ""
        job.connection, theirs = self.context.Pipe()
        origin = provenance(self.plan.data_fingerprint, self.command, self.plan.ablation)
        job.process = self.context.Process(target=run_worker, args=(job.run.folder, theirs, job.slot, origin))
        job.process.start()
        theirs.close()
        self.running.append(job)
        self.display.started(job.run)

    def _listen(self) -> None:
        """Read messages for up to half a second, or until a process ends."""
        readers = {job.connection: job for job in self.running if job.connection is not None}
        if not readers:
            time.sleep(0.05)
            return
        for reader in wait([*readers, *(job.process.sentinel for job in self.running)], timeout=0.5):
            if reader in readers:
                self._read(readers[reader])  # type: ignore[index]

    def _read(self, job: Job) -> None:
        assert job.connection is not None
        try:
            while job.connection.poll():
                kind, *rest = job.connection.recv()
                if kind == "progress":
                    self.display.progress(job.run, *rest)
                elif kind == "pretraining":
                    self.display.pretraining(job.run, *rest)
                elif kind == "waiting":
                    self.display.note(job.run, rest[0])
                else:
                    job.message = rest[0]
        except (EOFError, OSError):
            pass

    def _collect_ended(self) -> list[Job]:
        """Free the slots of ended processes; score what is captioned, return what is to be tried again."""
        again = []
        for job in [job for job in self.running if job.process.exitcode is not None]:
            self.running.remove(job)
            self.free.append(job.slot)
            code = job.process.exitcode
            job.process.join()
            self._read(job)
            assert job.connection is not None
            job.connection.close()
            job.connection = None
            if code == 0:
                self._score(job)
            else:
                job.message = job.message or _exit(code)
                again.extend(self._failed(job))
        return again

    def _score(self, job: Job) -> None:
        self.display.scoring(job.run)
        self.scores[self.scoring.submit(self.study.score_run, job.run)] = job

    def _collect_scores(self) -> list[Job]:
        again = []
        for future in [future for future in self.scores if future.done()]:
            job = self.scores.pop(future)
            error = future.exception()
            if error is None:
                self.display.finished(job.run, future.result())
                continue
            if isinstance(error, DamagedRun):  # its captions cannot be read: they are made again
                for name in ("trained.json", "predictions.jsonl"):
                    (job.run.folder / name).unlink(missing_ok=True)
            job.message = str(error) if isinstance(error, GitbenchError) else f"{type(error).__name__}: {error}"
            again.extend(self._failed(job))
        return again

    def _failed(self, job: Job) -> list[Job]:
        last = job.attempts >= ATTEMPTS
        self.display.failed(job.run, job.message, last)
        if not last:
            return [Job(run=job.run, attempts=job.attempts)]
        self.failed.append((job.run.arm.name, job.run.replicate, job.message))
        return []

    def _stop(self) -> None:
        for job in self.running:
            job.process.kill()  # every file is whole at any moment
        for job in self.running:
            job.process.join(5)
        for future in self.scores:
            future.cancel()


def _exit(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit status {code}"
