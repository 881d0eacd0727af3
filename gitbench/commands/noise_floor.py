"""The command `gitbench noise-floor`: train one arm in many replicates, measure how far apart they are."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from gitbench.commands.options import (
    data_of,
    print_outcome,
    print_plan,
    profile_of,
    study_options,
    study_words,
    work_dir_of,
)


def add(commands: Any) -> None:
    """Add the parser of the command."""
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
    from gitbench.commands.measure_noise import measure_plan, noise_plan, publish_noise_floor
    from gitbench.judge.noise import noise_file
    from gitbench.launch.scheduling import launch
    from gitbench.profiles import get_profile

    plan, seeds = noise_plan(
        get_profile(profile_of(arguments)),
        data_of(arguments),
        work_dir_of(arguments),
        arguments.seeds,
        tokenizer_path=arguments.tokenizer,
        task_name=arguments.task,
    )
    if arguments.dry_run:
        print_plan(plan, arguments.jobs)
        return 0
    command = shlex.join(["gitbench", "noise-floor", *study_words(arguments, plan.profile.name)])
    outcome = launch(plan, command, arguments.jobs, arguments.plain)
    print_outcome(plan, outcome)
    print_failures(outcome)
    if outcome.failed:
        return 1
    floors = measure_plan(plan, seeds)
    print(f"noise floor: {noise_file(plan.work_dir, plan.profile.name, plan.label)}")
    if not arguments.no_report:
        print(f"report: {publish_noise_floor(plan, floors, arguments.out) / 'noise_floor.md'}")
    return 0
