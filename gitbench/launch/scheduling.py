"""Run a plan: every run through an executor, once more where it fails, scored beside the training of the next ones.

Here the executor is this machine: a slot is a CPU core (one thread a run, so that results do not depend on how many run
at once) or a share of a GPU. Whatever ends a launch, a second one goes on where it stopped.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Protocol

from gitbench import plugins
from gitbench.data import SPLITS, limit_of
from gitbench.data.cache import decoded_split
from gitbench.data.image_processor import stored_size
from gitbench.data.tasks import open_task
from gitbench.errors import GitbenchError
from gitbench.files import make_dir
from gitbench.launch.executor import Event, Executor, LocalExecutor
from gitbench.launch.progress import Display
from gitbench.launch.prove import is_proven, prove
from gitbench.launch.records import DamagedRun, StudyScorer
from gitbench.machine import cpu_count, gpus
from gitbench.metrics import CaptionScorer
from gitbench.plan import Plan, PlannedRun
from gitbench.study.config import config_text, make_config
from gitbench.study.find import check_version
from gitbench.study.provenance import provenance
from gitbench.study.rates import SPLITS as TUNED_ON
from gitbench.study.store import Study, write_if_changed

ATTEMPTS = 2  # a failed run is tried once more


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a launch did: runs completed now, found done, failed (arm, replicate, reason), and not begun for want of time."""

    completed: int
    found: int
    failed: tuple[tuple[str, int, str], ...]
    left: int = 0


class Scorer(Protocol):
    """Makes the record of a run from what it left behind, and the ceiling of a study."""

    def score_run(self, run: PlannedRun) -> dict[str, Any]:
        """Return the record of a run that is trained."""

    def score_ceiling(self) -> None:
        """Write the ceiling of the study's data, where it has one."""


def slots(gpu_gib: float, jobs: int | None = None, device: str | None = None) -> list[dict[str, str]]:
    """Return the environment of each slot: one per CPU core, or as many on a GPU as runs of `gpu_gib` fit its free memory.

    `device` is what the runs were planned for (None: a GPU where there is one). Errors: it is a GPU, and none is in sight.
    """
    if jobs is not None and jobs < 1:
        raise GitbenchError(f"--jobs {jobs}: at least 1 run at a time is needed")
    cards = [] if device == "cpu" else gpus()
    if device == "cuda" and not cards:
        raise GitbenchError("the runs are planned for a GPU, and none is in sight: pass --device cpu to use the CPU")
    if not cards:
        return [{"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} for _ in range(jobs or cpu_count())]
    room = {card.uuid: max(1, int(card.free_gib // gpu_gib)) for card in cards}
    ordered = [
        {"CUDA_VISIBLE_DEVICES": uuid}
        for share in range(max(room.values()))
        for uuid, count in room.items()
        if count > share
    ]
    return ordered[:jobs] if jobs else ordered


def at_once(plan: Plan, jobs: int | None = None) -> int:
    """Return how many runs of a plan are made at a time here; of one for GPUs that are elsewhere, 1 or what `jobs` says."""
    if plan.compute.device == "cuda" and not gpus():
        return jobs or 1
    return len(slots(plan.gpu_gib, jobs, plan.compute.device))


def launch(
    study: Study,
    jobs: int | None = None,
    plain: bool = False,
    until: float | None = None,
    executor: Executor | None = None,
) -> Outcome:
    """Train, caption and score every run of a study that is not done; none is begun after `until` (`time.monotonic`).

    `executor` executes them; None: this machine, `jobs` at a time.

    The plan must be one that was just made. SIGINT or SIGTERM stops the runs and raises KeyboardInterrupt; nothing is
    lost. Failed runs are in the outcome. Errors: GitbenchError where an arm differs from the base in more than its
    axis: nothing is written, nothing trained.
    """
    check_version(study.work_dir)
    places = [] if executor else slots(study.plan.gpu_gib, jobs, study.plan.compute.device)  # refuses what cannot be
    make_dir(study.plan_path.parent)  # a place that cannot be written shows before the work does
    with _handled(signal.SIGTERM, signal.default_int_handler):  # as Ctrl-C
        proven = is_proven(study)
        if not proven or any(not study.done(run) for run in study.unique_runs):
            prepare_images(study.plan)
        if not proven:
            prove(study, start_context())
        study.write_plan()
    return execute_runs(study, executor or local_executor(places), plain, until)


def local_executor(places: Sequence[dict[str, str]]) -> LocalExecutor:
    """Return this machine as an executor, with these slots."""
    handed_on = plugins.environment()
    return LocalExecutor([{**place, **handed_on} for place in places], start_context())


def execute_runs(
    study: Study, executor: Executor, plain: bool = False, until: float | None = None, scorer: Scorer | None = None
) -> Outcome:
    """Write the configs of the runs that are not done, and train, caption and score them; see `launch`.

    `scorer` makes a record of what a run left behind; None: a study's own.
    """
    runs = study.unique_runs
    todo = [run for run in runs if not study.done(run)]
    for run in todo:
        config = make_config(run.resolved, study.plan.vocabulary, run.run_key)
        write_if_changed(study.folder(run.run_key).config, config_text(config))
    study.adopt()
    found = len(runs) - len(todo)
    if not todo and study.yardstick.kind is not None:
        return Outcome(completed=0, found=found, failed=())
    with Display(study.name, found, len(runs), plain) as display:
        work = _Launch(study, executor, scorer or StudyScorer(study, _scorer()), display)
        with _handled(signal.SIGTERM, signal.default_int_handler):  # as Ctrl-C
            work.run(todo, until)
    failed = tuple(work.failed)
    return Outcome(completed=len(todo) - len(failed) - work.left, found=found, failed=failed, left=work.left)


@functools.cache
def _scorer() -> CaptionScorer:
    """Return the scorer of every launch of this process: METEOR reads its table for 10 s of CPU when it starts."""
    return CaptionScorer()


class _Launch:
    """Runs on their way: queued or training in the executor, then being scored in a thread of this process."""

    def __init__(self, study: Study, executor: Executor, scorer: Scorer, display: Display) -> None:
        self.study, self.executor, self.scorer, self.display = study, executor, scorer, display
        self.origin = provenance(study)
        self.attempts: dict[str, int] = {}
        self.waiting: dict[Path, PlannedRun] = {}  # in the executor
        self.scores: dict[Future, PlannedRun] = {}
        self.failed: list[tuple[str, int, str]] = []
        self.left = 0  # runs that were not begun for want of time

    def run(self, todo: Sequence[PlannedRun], until: float | None) -> None:
        """Bring every run to its end."""
        with ThreadPoolExecutor(1) as self.pool:
            ceiling = self.pool.submit(self.scorer.score_ceiling)
            try:
                for run in todo:
                    self._begin(run)
                while self.waiting or self.scores:
                    if until is not None and time.monotonic() >= until:
                        for folder in self.executor.cancel(running=False):
                            del self.waiting[folder]
                            self.left += 1
                    for event in self.executor.poll(0.5 if self.waiting else 0.05):
                        self._hear(event)
                    self._collect_scores()
            except BaseException:
                self.executor.cancel()
                for future in self.scores:
                    future.cancel()
                raise
            ceiling.result()
            self.study.adopt()

    def _begin(self, run: PlannedRun) -> None:
        """Score a run that has its captions, submit any other."""
        self.attempts[run.run_key] = self.attempts.get(run.run_key, 0) + 1
        folder = self.study.folder(run.run_key)
        if folder.captioned:
            self._score(run)
        else:
            self.waiting[folder.path] = run
            self.executor.submit(folder.path, self.origin)

    def _hear(self, event: Event) -> None:
        run = self.waiting[event.folder]
        if event.kind == "waiting":
            self.display.note(run, event.values[0])
        elif event.kind != "ended":
            self.display.training(run, *event.values)
        else:
            del self.waiting[event.folder]
            if event.values[0]:
                self._fail(run, event.values[0])
            else:
                self._score(run)

    def _score(self, run: PlannedRun) -> None:
        self.display.scoring(run)
        self.scores[self.pool.submit(self.scorer.score_run, run)] = run

    def _collect_scores(self) -> None:
        for future in [future for future in self.scores if future.done()]:
            run = self.scores.pop(future)
            error = future.exception()
            if error is None:
                self.study.adopt()
                self.display.finished(run, future.result())
                continue
            if isinstance(error, DamagedRun):  # its captions cannot be read: they are made again
                folder = self.study.folder(run.run_key)
                for path in (folder.trained, folder.predictions):
                    path.unlink(missing_ok=True)
            self._fail(run, str(error) if isinstance(error, GitbenchError) else f"{type(error).__name__}: {error}")

    def _fail(self, run: PlannedRun, message: str) -> None:
        last = self.attempts[run.run_key] >= ATTEMPTS
        self.display.failed(run, message, last)
        if last:
            self.failed.append((run.arm, run.replicate, message))
        else:
            self._begin(run)


def prepare_images(plan: Plan) -> None:
    """Decode every image once, so that a bad one is reported before anything is trained, and runs share the result."""
    specs = [run.resolved for run in plan.runs]
    used = dict.fromkeys((spec.data_name, spec.data, spec.task, TUNED_ON if spec.tuning else SPLITS) for spec in specs)
    for data_name, sizes, task, splits in used:
        for split in splits:
            crop = sizes.crop_scale if split == "train" else None
            source = open_task(data_name, split, limit_of(sizes, split), task)
            decoded_split(source, stored_size(sizes.image_size, crop))


@contextmanager
def _handled(number: signal.Signals, handler: Any) -> Iterator[None]:
    """Handle a signal so while the block runs."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def start_context() -> Any:
    """Return the way runs are started: forked from a process that has imported torch once (5 s saved a run).

    With GPUs each run is a fresh process: mmengine asks for CUDA when imported, and no fork can use CUDA after that.
    """
    if gpus():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gitbench.training.run"])
    with _handled(signal.SIGINT, signal.SIG_IGN):  # it would print a traceback while it imports
        forkserver.ensure_running()
    return context
