"""The runs of a launch on their way through its slots: one process a run, or one a group of replicates; then scoring.

A group trains its runs to the last checkpoint; from there each is taken up by a process of its own, which makes its
captions. Where a group fails its runs are taken up the same way, from wherever they stand: that costs none of their
own attempts.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.runs.group_worker import run_group_worker
from gitbench.runs.grouping import add_group_costs, grouped, trained_with
from gitbench.runs.packing import Packing
from gitbench.runs.plan import Plan, PlannedRun
from gitbench.runs.progress import Display
from gitbench.runs.provenance import provenance
from gitbench.runs.score import DamagedRun, StudyScorer
from gitbench.runs.store import captioned
from gitbench.runs.worker import run_worker

ATTEMPTS = 2  # a failed run is tried once more


@dataclass(kw_only=True)
class Job:
    """A run on its way: queued, in a process, or being scored."""

    run: PlannedRun
    attempts: int = 0
    in_group: bool = False  # its training was begun with others, in this launch
    connection: Connection | None = None
    message: str = ""

    @property
    def captioned(self) -> bool:
        """True where only its scores are missing."""
        return captioned(self.run.folder)


@dataclass(kw_only=True)
class Task:
    """A process and the runs in it: one, or a group."""

    jobs: list[Job]
    slot: dict[str, str] = field(default_factory=dict)
    process: Any = None


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
        packing: Packing | None = None,
    ) -> None:
        self.plan, self.free, self.study, self.scoring = plan, free, study, scoring
        self.display, self.command, self.context, self.packing = display, command, context, packing
        self.running: list[Task] = []
        self.scores: dict[Future, Job] = {}
        self.failed: list[tuple[str, int, str]] = []
        self.left = 0  # runs that were not begun for want of time

    def work(self, todo: list[PlannedRun], until: float | None = None) -> list[tuple[str, int, str]]:
        """Bring every run to its end; return those that failed: (arm, replicate, reason). None is begun after `until`."""
        queue = deque(self._units(todo))
        try:
            while queue or self.running or self.scores:
                if until is not None and time.monotonic() >= until:
                    # what a group has trained lacks captions alone, and is no longer to be begun
                    begun = [unit for unit in queue if unit[0].in_group]
                    self.left += sum(len(unit) for unit in queue) - len(begun)
                    queue = deque(begun)
                self._fill(queue)
                self._listen()
                queue.extend([job] for job in self._collect_scores())
                self._collect_ended(queue)
        except BaseException:
            self._stop()
            raise
        return self.failed

    def _units(self, todo: list[PlannedRun]) -> list[list[Job]]:
        """The runs as they will share processes; what is trained already shares none."""
        jobs = {run.key: Job(run=run) for run in todo}
        ready = [[job] for job in jobs.values() if job.captioned]
        size = 1 if self.packing is None else self.packing.way.stack
        groups = grouped([job.run for job in jobs.values() if not job.captioned], size)
        return ready + [[jobs[run.key] for run in group] for group in groups]

    def _fill(self, queue: deque[list[Job]]) -> None:
        """Give the free slots to what waits, in its order."""
        for unit in list(queue):
            if not self.free:
                return
            if len(unit) == 1 and unit[0].captioned:
                unit[0].attempts += 1
                self._score(unit[0])
            else:
                slot = next((slot for slot in self.free if len(unit) == 1 or self._takes_group(slot)), None)
                if slot is None:
                    continue
                self.free.remove(slot)
                self._start(unit, slot)
            queue.remove(unit)

    def _takes_group(self, slot: dict[str, str]) -> bool:
        """One group fills a card; a core has a slot of its own."""
        card = slot.get("CUDA_VISIBLE_DEVICES")
        return not card or not any(len(task.jobs) > 1 and task.slot == slot for task in self.running)

    def _start(self, jobs: list[Job], slot: dict[str, str]) -> None:
        if len(jobs) > 1:
            for job in jobs:
                job.in_group = True
        else:
            jobs[0].attempts += 1
        pipes = [self.context.Pipe() for _ in jobs]
        folders, theirs = [job.run.folder for job in jobs], [end for _, end in pipes]
        origins = [self._origin(job) for job in jobs]
        if len(jobs) > 1:
            process = self.context.Process(target=run_group_worker, args=(folders, theirs, slot, origins))
        else:
            process = self.context.Process(target=run_worker, args=(folders[0], theirs[0], slot, origins[0]))
        process.start()
        for job, (ours, end) in zip(jobs, pipes, strict=True):
            job.connection, job.message = ours, ""
            end.close()
            self.display.started(job.run)
        self.running.append(Task(jobs=jobs, slot=slot, process=process))

    def _origin(self, job: Job) -> dict[str, Any]:
        origin = provenance(self.plan.data_fingerprint, self.command, self.plan.ablation)
        if self.packing is not None and (self.packing.rates or self.packing.way.stack > 1):
            origin["packing"] = self.packing.to_json()
        partners = trained_with(job.run.folder)
        if partners:
            origin["trained_with"] = partners
        return origin

    def _listen(self) -> None:
        """Read messages for up to half a second, or until a process ends."""
        readers = {job.connection: job for task in self.running for job in task.jobs if job.connection is not None}
        if not readers:
            time.sleep(0.05)
            return
        for reader in wait([*readers, *(task.process.sentinel for task in self.running)], timeout=0.5):
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

    def _collect_ended(self, queue: deque[list[Job]]) -> None:
        """Free the slots of ended processes; score what is captioned, queue what is to be gone on with."""
        for task in [task for task in self.running if task.process.exitcode is not None]:
            self.running.remove(task)
            self.free.append(task.slot)
            code = task.process.exitcode
            task.process.join()
            for job in task.jobs:
                self._read(job)
                assert job.connection is not None
                job.connection.close()
                job.connection = None
            if len(task.jobs) > 1:
                self._disband(task.jobs, code)
                queue.extendleft([job] for job in reversed(task.jobs))
            elif code == 0:
                self._score(task.jobs[0])
            else:
                task.jobs[0].message = task.jobs[0].message or _exit(code)
                queue.extend([job] for job in self._failed(task.jobs[0]))

    def _disband(self, jobs: list[Job], code: int) -> None:
        """Say so where a group failed; its runs go on one by one in any case."""
        if code != 0:
            others = f"the {len(jobs)} seeds of its group are trained one by one"
            self.display.note(jobs[0].run, f"{jobs[0].message or _exit(code)}; {others}")
            for job in jobs:
                job.in_group, job.message = False, ""

    def _score(self, job: Job) -> None:
        self.display.scoring(job.run)
        add_group_costs(job.run.folder)
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
        for task in self.running:
            task.process.kill()  # every file is whole at any moment
        for task in self.running:
            task.process.join(5)
        for future in self.scores:
            future.cancel()


def _exit(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit status {code}"
