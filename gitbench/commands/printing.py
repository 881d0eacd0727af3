"""What the commands that train say of a study: the plan and how long it takes, and what a launch did."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitbench.launch.session import Outcome
    from gitbench.plan import PlannedRun
    from gitbench.study.part import Part
    from gitbench.study.store import Study


def print_outcome(study: Study, outcome: Outcome) -> None:
    """Sum up what a launch did; runs that failed are named on stderr."""
    from gitbench.formats import plural

    others = f"{outcome.others} by other launches, " if outcome.others else ""
    rest = f", {outcome.under_way} under way in other launches" if outcome.under_way else ""
    print(
        f"{study.name}: {plural(outcome.completed, 'run')} trained, {others}{outcome.found} found done, "
        f"{len(outcome.failed)} failed{rest}"
    )
    for arm, replicate, reason in outcome.failed:
        print(f"gitbench: {arm} seed {replicate} failed twice: {reason}", file=sys.stderr)


def print_data_notes(study: Study) -> None:
    """Say on stderr how a study's splits were made and what else was done to its data; nothing where it is as stated."""
    for note in study.plan.data_notes:
        print(f"gitbench: data: {note}", file=sys.stderr)


def print_makers(study: Study, runs: Iterable[PlannedRun] | None = None) -> None:
    """Say on stderr which finished runs of a study, or of `runs`, other code made; nothing where there are none."""
    from gitbench.study.makers import Standing

    for line in Standing.of_study(study, runs).lines:
        print(f"gitbench: {study.name}: {line}", file=sys.stderr)


def print_memory(study: Study) -> None:
    """Print what each arm's runs need of memory, by formula, and what would fit where a GPU here has less."""
    from gitbench.errors import GitbenchError
    from gitbench.machine import gpus
    from gitbench.study.memory import fit_plan, planned_gib

    needs: list[float] = []
    for arm in dict.fromkeys(run.arm for run in study.plan.runs):
        run = next(each for each in study.plan.runs if each.arm == arm)
        needs.append(planned_gib(study.plan, run))
        print(f"  {arm}: about {needs[-1]:.1f} GiB a run, by formula")
    least = (
        min((card.total_gib for card in gpus()), default=math.inf) if study.plan.compute.device == "cuda" else math.inf
    )
    if least < max(needs):
        try:
            micro, again = fit_plan(study.plan, least)
        except GitbenchError as error:
            print(f"  mind: a GPU here has {least:.1f} GiB: {str(error).partition(': ')[2]}")
            return
        chosen = [f"--micro-batch {micro}"] * bool(micro) + ["--checkpointing"] * again
        print(f"  mind: a GPU here has {least:.1f} GiB, into which it fits with {' '.join(chosen)}, or --memory")


def print_plan(study: Study, at_once: int, part: Part | None = None) -> None:
    """Print the plan, what of it (or of a part) is done, and how long the rest takes with so many runs `at_once`."""
    from gitbench.compute import in_words
    from gitbench.formats import duration
    from gitbench.launch.progress import estimate_seconds
    from gitbench.study.find import check_version
    from gitbench.variants.encoder_init import start_note

    check_version(study.work_dir)
    base = next(run.spec for run in study.plan.runs if run.arm == study.plan.base)
    if part is not None:
        study = part.within(study)
    plan, runs = study.plan, study.unique_runs
    done = [run for run in runs if study.done(run)]
    print(f"{study.name}: {len(runs)} runs, {len(done)} done, {len(runs) - len(done)} to do")
    for arm in dict.fromkeys(run.arm for run in plan.runs):
        own = [run for run in plan.runs if run.arm == arm]
        states = "".join("x" if study.done(run) else "." for run in own)
        names = own[0].spec.variant_names if own[0].spec else {}
        print(f"  {arm:<12} {names.get(plan.axis, ''):<16} [{states}]")
    sources = {axis: spec.source for axis, spec in base.variants.items() if hasattr(spec, "source")} if base else {}
    note = start_note(sources, plan.axis) if base else None
    if note is not None:
        print(f"  mind: {note}")
    seconds, measured = estimate_seconds(study, at_once)
    source = "from finished runs" if measured else "a first guess; no run is finished here yet"
    print(f"  about {duration(seconds)} with {at_once} at a time on a {in_words(plan.compute)} ({source})")
