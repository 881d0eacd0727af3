"""Run a plan: every run through an executor, once more where it fails, scored beside the training of the next ones.

Where no other executor is given it is this machine (`places`). Whatever ends a launch, a second one goes on where it
stopped.
"""

from __future__ import annotations

import functools
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

from gitbench.claim import Claim, claimed
from gitbench.data import SPLITS, limit_of, read_once
from gitbench.data.cache import decoded_split
from gitbench.data.image_processor import stored_size
from gitbench.data.tasks import open_task
from gitbench.files import load_json, make_dir, write_json
from gitbench.launch.executor import Executor, LocalExecutor
from gitbench.launch.places import cards_for, check_jobs, places_for
from gitbench.launch.progress import Display
from gitbench.launch.prove import is_proven, prove
from gitbench.launch.records import StudyScorer
from gitbench.launch.session import Outcome, Scorer, Session
from gitbench.launch.tracking import TrackedScorer, report_rest, tracking_of
from gitbench.metrics import CaptionScorer
from gitbench.plan import Plan
from gitbench.processes import start_context
from gitbench.run_folder import RunFolder
from gitbench.study.config import config_text, make_config
from gitbench.study.find import check_version
from gitbench.study.part import Part
from gitbench.study.provenance import origin
from gitbench.study.rates import SPLITS as TUNED_ON
from gitbench.study.store import Study, write_if_changed
from gitbench.trackers import Trackers, Tracking


def launch(
    study: Study,
    jobs: int | None = None,
    plain: bool = False,
    until: float | None = None,
    executor: Executor | None = None,
    part: Part | None = None,
    wait: bool = True,
    trackers: Trackers | None = None,
) -> Outcome:
    """Train, caption and score every run of a study that is not done; none is begun after `until` (`time.monotonic`).

    `executor` executes them; None: this machine, `jobs` at a time. `part` names those that are wanted; None: all. Where
    other launches work on runs of the study, this one does the others and then waits for those, unless not to `wait`.

    The plan must be one that was just made. SIGINT or SIGTERM stops the runs and raises KeyboardInterrupt; nothing is
    lost. `trackers` hear of the runs. Failed runs are in the outcome. Errors: GitbenchError where an arm differs from the
    base in more than its axis: nothing is written, nothing trained.
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
            context = start_context()  # which imports torch meanwhile
            with claimed(study.proof_path):  # another launch may be at it
                if not is_proven(Study(study.work_dir, study.plan)):
                    prove(study, context)
        study.write_plan()
    with nullcontext(executor) if executor else local_executor(part.within(study) if part else study, jobs) as chosen:
        return execute_runs(study, chosen, plain, until, part=part, wait=wait, trackers=trackers)


@contextmanager
def local_executor(study: Study, jobs: int | None = None) -> Iterator[LocalExecutor]:
    """Give this machine as an executor for the runs that a study has still to make."""
    with places_for(study, jobs) as places:
        yield LocalExecutor(places, start_context())


def execute_runs(
    study: Study,
    executor: Executor,
    plain: bool = False,
    until: float | None = None,
    scorer: Scorer | None = None,
    part: Part | None = None,
    wait: bool = True,
    trackers: Trackers | None = None,
) -> Outcome:
    """Write the configs of the runs that are not done, and train, caption and score them; see `launch`.

    `scorer` makes a record of what a run left behind; None: a study's own.
    """
    runs = (part.within(study) if part else study).unique_runs
    todo = [run for run in runs if not study.done(run)]
    said = origin(study)
    for run in todo:
        config = make_config(run.resolved, study.plan.vocabulary, run.run_key)
        asked = tracking_of(study, run, trackers) if trackers else None
        _plan_folder(study.folder(run.run_key), config_text(config), said, asked)
    study.adopt()
    found = len(runs) - len(todo)
    outcome = Outcome(completed=0, found=found, failed=())
    if todo or study.yardstick.kind is None:
        scorer = scorer or StudyScorer(study, _scorer())
        scorer = TrackedScorer(scorer, study, trackers) if trackers else scorer
        with Display(study.name, found, len(runs), plain) as display:
            session = Session(study, executor, scorer, display, wait)
            with _handled(signal.SIGTERM, signal.default_int_handler):  # as Ctrl-C
                session.run(todo, until)
        outcome = session.outcome(found)
    if trackers:
        report_rest(study, runs, trackers)
    return outcome


def _plan_folder(folder: RunFolder, config: str, said: dict[str, Any], asked: Tracking | None) -> None:
    """Write what a run is executed from, unless its folder says the same already, or somebody executes it."""
    track = asdict(asked) if asked else None
    planned = (load_json(folder.origin), load_json(folder.track)) == (said, json.loads(json.dumps(track)))
    if planned and folder.config.is_file() and folder.config.read_bytes() == config.encode():
        return
    claim = Claim(folder.claim)
    while not claim.take():
        if folder.config.is_file():
            return
        time.sleep(0.05)
    try:
        if folder.completed_record() is None:  # another launch may have finished it meanwhile
            write_if_changed(folder.config, config)
            write_json(folder.origin, said)
            if track:
                write_json(folder.track, track)
            else:
                folder.track.unlink(missing_ok=True)
    finally:
        claim.release()


@functools.cache
def _scorer() -> CaptionScorer:
    """Return the scorer of every launch of this process: METEOR reads its table for 10 s of CPU when it starts."""
    return CaptionScorer()


@read_once()
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
