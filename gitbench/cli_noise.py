"""The command `gitbench noise-floor`: train one arm in many replicates, measure how far apart they are."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any


def add(commands: Any, study_options: Any) -> None:
    """Add the parser of the command; `study_options` adds the options that name a study."""
    noise = commands.add_parser(
        "noise-floor", help="how far apart replicates of one arm are (A/A), and what the judge makes of it"
    )
    study_options(noise)
    noise.add_argument(
        "--seeds", type=int, metavar="N", help="of a pseudo-arm; 2 N runs are made (default: the profile's, at least 3)"
    )
    noise.add_argument("--tokenizer", metavar="NAME|PATH", help="a BERT tokenizer instead of the profile's")
    noise.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: one per CPU core or GPU share)")
    noise.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (default: reports/results/...)")
    noise.add_argument("--dry-run", action="store_true", help="print the plan and the estimated time, train nothing")
    noise.add_argument("--no-report", action="store_true", help="measure only")
    noise.add_argument("--plain", action="store_true", help="plain progress lines, no bar")
    noise.set_defaults(run=_noise_floor)


def _noise_floor(arguments: argparse.Namespace) -> int:
    """0: measured; 1: a run failed, nothing was measured."""
    from gitbench.cli import _data, _default_profile, _print_plan
    from gitbench.judge.noise import noise_file
    from gitbench.profiles import get_profile
    from gitbench.runs.launch import launch
    from gitbench.runs.noise_floor import measure_plan, noise_plan, publish_noise_floor
    from gitbench.runs.store import DEFAULT_WORK_DIR

    plan, seeds = noise_plan(
        get_profile(arguments.profile or _default_profile()),
        _data(arguments),
        arguments.work_dir or DEFAULT_WORK_DIR,
        arguments.seeds,
        tokenizer_path=arguments.tokenizer,
        task_name=arguments.task,
    )
    if arguments.dry_run:
        _print_plan(plan, arguments.jobs)
        return 0
    outcome = launch(plan, _command(arguments, plan.profile.name), arguments.jobs, arguments.plain)
    print(f"{plan.study}: {outcome.completed} runs trained, {outcome.found} found done, {len(outcome.failed)} failed")
    for arm, replicate, reason in outcome.failed:
        print(f"gitbench: {arm} seed {replicate} failed twice: {reason}", file=sys.stderr)
    if outcome.failed:
        return 1
    floors = measure_plan(plan, seeds)
    print(f"noise floor: {noise_file(plan.work_dir, plan.profile.name, plan.label)}")
    if not arguments.no_report:
        print(f"report: {publish_noise_floor(plan, floors, arguments.out) / 'noise_floor.md'}")
    return 0


def _command(arguments: argparse.Namespace, profile: str) -> str:
    """Return the command that measures this again, with the profile written out."""
    words = ["gitbench", "noise-floor", "--profile", profile]
    if arguments.task != "caption":
        words += ["--task", arguments.task]
    if arguments.data is not None:
        words += ["--data", Path(arguments.data).name if Path(arguments.data).is_dir() else arguments.data]
    if arguments.seeds is not None:
        words += ["--seeds", str(arguments.seeds)]
    return shlex.join(words)
