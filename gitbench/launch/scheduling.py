"""Run a plan: every run through an executor, once more where it fails, scored beside the training of the next ones.

Where no other executor is given it is this machine (`places`). Whatever ends a launch, a second one goes on where it
stopped.
"""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gitbench.data import SPLITS, limit_of
from gitbench.data.cache import decoded_split
from gitbench.data.image_processor import stored_size
from gitbench.data.tasks import open_task
from gitbench.errors import GitbenchError
from gitbench.files import make_dir
from gitbench.launch.executor import Event, Executor, LocalExecutor
from gitbench.launch.places import cards_for, check_jobs, places_for, start_context
from gitbench.launch.progress import Display
from gitbench.launch.prove import is_proven, prove
from gitbench.launch.records import DamagedRun, StudyScorer
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
    check_jobs(jobs)
    if executor is None:
        cards_for(study.plan)  # refuses what cannot be
    make_dir(study.plan_path.parent)  # a place that cannot be written shows before the work does
    with _handled(signal.SIGTERM, signal.default_int_handler):  # as Ctrl-C
        proven = is_proven(study)
        if not proven or any(not study.done(run) for run in study.unique_runs):
            prepare_images(study.plan)
        if not proven:
            prove(study, start_context())
        study.write_plan()
    with nullcontext(executor) if executor else local_executor(study, jobs) as chosen:
        return execute_runs(study, chosen, plain, until)


@contextmanager
def local_executor(study: Study, jobs: int | None = None) -> Iterator[LocalExecutor]:
    """Give this machine as an executor for the runs that a study has still to make."""
    with places_for(study, jobs) as places:
        yield LocalExecutor(places, start_context())


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
