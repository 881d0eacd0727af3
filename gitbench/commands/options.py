"""What the commands about a study share: the options that name it, and how they are read and written again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitbench.launch.scheduling import Outcome
    from gitbench.study.plan import Plan


def study_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a study."""
    parser.add_argument(
        "--profile", metavar="NAME", help="smoke, cpu, gpu or paper (default: gpu where CUDA is available, else cpu)"
    )
    parser.add_argument(
        "--task",
        default="caption",
        metavar="NAME",
        help="caption (default), vqa, video, classify or read: what the model is asked for",
    )
    parser.add_argument(
        "--data",
        metavar="NAME|PATH",
        help="scenes (default; scenes-motion for video), or a folder: Parquet shards, COCO layout, questions",
    )
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="where runs are kept (default: work_dirs)")


def data_of(arguments: argparse.Namespace) -> str:
    """Return the data asked for, or the task's own."""
    from gitbench.tasks import get_task

    return arguments.data or get_task(arguments.task).data


def profile_of(arguments: argparse.Namespace) -> str:
    """Return the name of the profile asked for, or of the one that suits this machine."""
    from gitbench.machine import gpus

    return arguments.profile or ("gpu" if gpus() else "cpu")


def work_dir_of(arguments: argparse.Namespace) -> Path:
    """Return the work directory asked for, or the default one."""
    from gitbench.study.store import DEFAULT_WORK_DIR

    return arguments.work_dir or DEFAULT_WORK_DIR


def study_of(arguments: argparse.Namespace) -> tuple[Path, str]:
    """Return the work directory, and the name of the one study in it that `ablation` and the options name."""
    from gitbench.commands.publish import find_study

    work_dir = work_dir_of(arguments)
    return work_dir, find_study(work_dir, arguments.ablation, profile_of(arguments), data_of(arguments), arguments.task)


def study_words(arguments: argparse.Namespace, profile: str) -> list[str]:
    """Return the options that name this study again: defaults of this machine written out, folders by name alone."""
    words = ["--profile", profile]
    if arguments.task != "caption":
        words += ["--task", arguments.task]
    if arguments.data is not None:
        words += ["--data", Path(arguments.data).name if Path(arguments.data).is_dir() else arguments.data]
    if arguments.seeds is not None:
        words += ["--seeds", str(arguments.seeds)]
    if arguments.tokenizer is not None:
        given = Path(arguments.tokenizer)
        words += ["--tokenizer", given.name if given.exists() else arguments.tokenizer]
    return words


def print_outcome(plan: Plan, outcome: Outcome) -> None:
    """Sum up what a launch did."""
    print(f"{plan.study}: {outcome.completed} runs trained, {outcome.found} found done, {len(outcome.failed)} failed")


def print_failures(outcome: Outcome) -> None:
    """Name the runs that failed, on stderr."""
    for arm, replicate, reason in outcome.failed:
        print(f"gitbench: {arm} seed {replicate} failed twice: {reason}", file=sys.stderr)


def print_plan(plan: Plan, jobs: int | None) -> None:
    """Print the plan, what of it is done, and how long the rest takes."""
    from gitbench.launch.estimate import estimate_seconds
    from gitbench.launch.progress import duration
    from gitbench.launch.scheduling import slots

    runs = {run.key: run for run in plan.runs}.values()
    done = [run for run in runs if run.done]
    print(f"{plan.study}: {len(runs)} runs, {len(done)} done, {len(runs) - len(done)} to do")
    for arm in dict.fromkeys(run.arm.name for run in plan.runs):
        states = "".join("x" if run.done else "." for run in plan.runs if run.arm.name == arm)
        first = next(run for run in plan.runs if run.arm.name == arm)
        print(f"  {arm:<12} {first.spec.variant_names[plan.ablation.axis]:<16} [{states}]")
    at_once = len(slots(plan, jobs))
    seconds, measured = estimate_seconds(plan, at_once)
    source = "from finished runs" if measured else "a first guess; no run is finished here yet"
    print(f"  about {duration(seconds)} with {at_once} at a time ({source})")
