"""Run a plan: a small pool of slots (`pool.py`), a retry for what fails, scoring beside training.

A slot is a CPU core (one thread a run, so that results do not depend on how many run at once) or a share of a GPU.
Whatever ends a launch, a second one goes on where it stopped.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import Any

from gitbench.data import SPLITS, limit_of
from gitbench.data.cache import decoded_split
from gitbench.data.tasks import open_task
from gitbench.data.transforms import stored_size
from gitbench.errors import GitbenchError
from gitbench.files import load_json, make_dir
from gitbench.launch.pool import Pool
from gitbench.launch.progress import Display
from gitbench.launch.prove import is_proven, prove
from gitbench.launch.scoring import StudyScorer
from gitbench.machine import cpu_count, gpus
from gitbench.metrics import CaptionScorer
from gitbench.study.plan import Plan, write_plan
from gitbench.study.store import study_file, yardstick_file


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a launch did: runs completed now, found done, failed (arm, replicate, reason), and not begun for want of time."""

    completed: int
    found: int
    failed: tuple[tuple[str, int, str], ...]
    left: int = 0


def slots(plan: Plan, jobs: int | None = None) -> list[dict[str, str]]:
    """Return the environment of each slot: one per CPU core, or as many on a GPU as its free memory allows."""
    if jobs is not None and jobs < 1:
        raise GitbenchError(f"--jobs {jobs}: at least 1 run at a time is needed")
    cards = gpus()
    if not cards:
        return [{"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} for _ in range(jobs or cpu_count())]
    room = {card.uuid: max(1, int(card.free_gib // plan.profile.gpu_gib)) for card in cards}
    ordered = [
        {"CUDA_VISIBLE_DEVICES": uuid}
        for share in range(max(room.values()))
        for uuid, count in room.items()
        if count > share
    ]
    return ordered[:jobs] if jobs else ordered


def launch(
    plan: Plan,
    command: str,
    jobs: int | None = None,
    plain: bool = False,
    until: float | None = None,
) -> Outcome:
    """Train, caption and score every run of a plan that is not done; none is begun after `until` (`time.monotonic`).

    SIGINT or SIGTERM stops the runs and raises KeyboardInterrupt; nothing is lost. Failed runs are in the outcome.
    Errors: GitbenchError where an arm differs from the base in more than its axis: nothing is written, nothing trained.
    """
    free = slots(plan, jobs)  # refuses what cannot be
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
    plan: Plan,
    command: str,
    free: list[dict[str, str]],
    plain: bool = False,
    until: float | None = None,
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
        pool_of_runs = Pool(plan, free, study, pool, display, command, start_context())
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
