"""Run a plan: a small pool of slots, one process a run, a retry for what fails, scoring beside training.

A slot is a CPU core (one thread a run, so that results do not depend on how many run at once) or a share of a GPU.
Whatever ends a launch, a second one goes on where it stopped.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any

from gitbench.data import SPLITS, limit_of
from gitbench.data.cache import decoded_split
from gitbench.data.tasks import open_task
from gitbench.data.transforms import stored_size
from gitbench.errors import GitbenchError
from gitbench.files import load_json, make_dir
from gitbench.metrics import CaptionScorer
from gitbench.runs.machine import cpu_count, gpus
from gitbench.runs.plan import Plan, PlannedRun, write_plan
from gitbench.runs.progress import Display
from gitbench.runs.prove import is_proven, prove
from gitbench.runs.provenance import provenance
from gitbench.runs.score import DamagedRun, StudyScorer
from gitbench.runs.store import study_file, yardstick_file
from gitbench.runs.worker import run_worker

ATTEMPTS = 2  # a failed run is tried once more
MAX_PER_GPU = 4  # beyond this, small runs only wait for each other


@dataclass(kw_only=True)
class Job:
    """A run on its way: queued, in a process, or being scored."""

    run: PlannedRun
    attempts: int = 0
    process: Any = None
    connection: Connection | None = None
    slot: dict[str, str] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a launch did: runs completed now, found done, failed (arm, replicate, reason), and not begun for want of time."""

    completed: int
    found: int
    failed: tuple[tuple[str, int, str], ...]
    left: int = 0


def slots(plan: Plan, jobs: int | None = None) -> list[dict[str, str]]:
    """Return the environment of each slot: one per GPU share that fits the profile's memory, or one per CPU core."""
    if jobs is not None and jobs < 1:
        raise GitbenchError(f"--jobs {jobs}: at least 1 run at a time is needed")
    cards = gpus()
    if not cards:
        count = jobs or cpu_count()
        return [{"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} for _ in range(count)]
    need = plan.profile.gpu_gib
    shares = max(min(MAX_PER_GPU, int(card.free_gib // need)) for card in cards)
    ordered = [
        {"CUDA_VISIBLE_DEVICES": card.uuid}
        for share in range(max(1, shares))
        for card in cards
        if share == 0 or card.free_gib // need > share
    ]
    return ordered[:jobs] if jobs else ordered


def launch(
    plan: Plan, command: str, jobs: int | None = None, plain: bool = False, until: float | None = None
) -> Outcome:
    """Train, caption and score every run of a plan that is not done; none is begun after `until` (`time.monotonic`).

    SIGINT or SIGTERM stops the runs and raises KeyboardInterrupt; nothing is lost. Failed runs are in the outcome.
    Errors: GitbenchError where an arm differs from the base in more than its axis: nothing is written, nothing trained.
    """
    free = slots(plan, jobs)
    todo = [run for run in plan.runs if not run.done]
    make_dir(study_file(plan.work_dir, plan.study).parent)  # a place that cannot be written shows before the work does
    proven = is_proven(plan)
    if todo or not proven:
        prepare_images(plan)
    if not proven:
        prove(plan, start_context())
    write_plan(plan, command)
    return train(plan, command, free, plain, until)


def train(
    plan: Plan, command: str, free: list[dict[str, str]], plain: bool = False, until: float | None = None
) -> Outcome:
    """Train, caption and score the runs of a plan whose `config.py` is written, in the slots `free`; see `launch`."""
    unique = {run.key: run for run in plan.runs}
    todo = [run for run in unique.values() if not run.done]
    found = len(unique) - len(todo)
    if not todo and load_json(yardstick_file(plan.work_dir, plan.yardstick_key)) is not None:
        return Outcome(completed=0, found=found, failed=())
    with CaptionScorer() as scorer, ThreadPoolExecutor(1) as pool, Display(plan, found, len(unique), plain) as display:
        study = StudyScorer(plan, scorer)
        ceiling = pool.submit(study.score_ceiling)
        pool_of_runs = _Pool(plan, free, study, pool, display, command)
        with _terminable():
            failed = pool_of_runs.work(todo, until)
        ceiling.result()
    left = pool_of_runs.left
    return Outcome(completed=len(todo) - len(failed) - left, found=found, failed=tuple(failed), left=left)


def prepare_images(plan: Plan) -> None:
    """Decode every image once, so that a bad one is reported before anything is trained, and runs share the result."""
    for sizes in dict.fromkeys(run.spec.data for run in plan.runs):
        for split in SPLITS:
            crop = sizes.crop_scale if split == "train" else None
            decoded_split(
                open_task(plan.data, split, limit_of(sizes, split), plan.task), stored_size(sizes.image_size, crop)
            )


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM stop a launch the way Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def start_context() -> Any:
    """Return the way runs are started: forked from a process that has imported torch once (5 s saved a run).

    With GPUs each run is a fresh process: mmengine asks for CUDA when imported, and no fork can use CUDA after that.
    """
    if gpus():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gitbench.training.run"])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it would print a traceback while it imports
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
    return context


class _Pool:
    """The slots and what runs in them."""

    def __init__(
        self,
        plan: Plan,
        free: list[dict[str, str]],
        study: StudyScorer,
        scoring: ThreadPoolExecutor,
        display: Display,
        command: str,
    ) -> None:
        self.plan, self.free, self.study, self.scoring = plan, free, study, scoring
        self.display, self.command = display, command
        self.context = start_context()
        self.running: list[Job] = []
        self.scores: dict[Future, Job] = {}
        self.failed: list[tuple[str, int, str]] = []
        self.left = 0  # runs that were not begun for want of time

    def work(self, todo: list[PlannedRun], until: float | None = None) -> list[tuple[str, int, str]]:
        queue = deque(Job(run=run) for run in todo)
        try:
            while queue or self.running or self.scores:
                if until is not None and time.monotonic() >= until:
                    self.left += len(queue)
                    queue.clear()
                while queue and self.free:
                    job = queue.popleft()
                    if (job.run.folder / "trained.json").is_file() and (job.run.folder / "predictions.jsonl").is_file():
                        job.attempts += 1
                        self._score(job)
                    else:
                        self._start(job)
                self._listen()
                queue.extend(self._collect_scores())
                queue.extend(self._collect_ended())
        except BaseException:
            self._stop()
            raise
        return self.failed

    def _start(self, job: Job) -> None:
        job.slot = self.free.pop(0)
        job.attempts += 1
        origin = provenance(self.plan.data_fingerprint, self.command, self.plan.ablation)
        job.connection, theirs = self.context.Pipe()
        job.process = self.context.Process(target=run_worker, args=(job.run.folder, theirs, job.slot, origin))
        job.process.start()
        theirs.close()
        self.running.append(job)
        self.display.started(job.run)

    def _listen(self) -> None:
        """Read messages for up to half a second, or until a process ends."""
        readers = [job.connection for job in self.running if job.connection is not None]
        sentinels = [job.process.sentinel for job in self.running]
        if not readers:
            time.sleep(0.05)
            return
        for reader in wait([*readers, *sentinels], timeout=0.5):
            job = next((job for job in self.running if job.connection is reader), None)
            if job is not None:
                self._read(job)

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
        """Free the slots of ended processes; score what is trained, return what is to be tried again."""
        again = []
        for job in [job for job in self.running if job.process.exitcode is not None]:
            self._read(job)
            self.running.remove(job)
            self.free.append(job.slot)
            code = job.process.exitcode
            job.process.join()
            assert job.connection is not None
            job.connection.close()
            if code == 0:
                self._score(job)
                continue
            if not job.message:
                job.message = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
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
        job.connection = job.process = None
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
