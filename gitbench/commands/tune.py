"""The command `gitbench tune`: make the tuning runs of ablations, which choose their arms' learning rates.

`gitbench run` makes those that it needs by itself. With `--ship`, in a clone, what came of all built-in ablations of a
profile is written into the table that ships with the package, so that nobody has to tune them again.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gitbench.commands.options import (
    at_once,
    check_executor,
    compute_of,
    compute_options,
    data_of,
    executor_of,
    executor_options,
    run_options,
    study_options,
    task_of,
    with_own,
)
from gitbench.commands.starts import profile_for, profile_of, start_options, tokenizer_of
from gitbench.commands.tracking import trackers_of
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir

if TYPE_CHECKING:
    from gitbench.launch.executor import Executor
    from gitbench.plan import ArmRate
    from gitbench.spec import RunSpec
    from gitbench.study.rates import Tuning
    from gitbench.study.store import Study


def add(commands: Any) -> None:
    """Add the parser of the command."""
    tune = commands.add_parser("tune", help="choose the learning rates of each arm of an ablation beforehand")
    tune.add_argument("ablations", nargs="*", metavar="ABLATION", help="names from `gitbench list`, or ablation files")
    tune.add_argument("--all", action="store_true", help="all ablations that have arms for the profile")
    study_options(tune, work_dir=False)
    run_options(tune)
    executor_options(tune)
    start_options(tune)
    compute_options(tune)
    tune.add_argument("--dry-run", action="store_true", help="say what is to be done and how long it takes")
    tune.add_argument(
        "--ship", action="store_true", help="in a clone: write the results into the table that ships with the package"
    )
    tune.set_defaults(run=_tune)


def _tune(arguments: argparse.Namespace) -> int:
    """0: all that was asked for is tuned; 1: a run failed."""
    from gitbench.ablations import load_ablation

    profile = profile_of(arguments)
    if bool(arguments.ablations) == arguments.all:
        raise GitbenchError("name the ablations to tune, or pass --all for every one of the profile")
    if arguments.ship:
        _check_ship(arguments)
    tuning_of = functools.cache(lambda name: _tuning(name, arguments))
    asked = {
        name: tuning_of(name) for name in arguments.ablations or _built_in(arguments)
    }  # refused before any is tuned
    check_executor(arguments)
    executor = functools.cache(lambda: executor_of(arguments, cache_dir() / "rates"))
    failed = False
    for name, tuning in asked.items():
        if tuning is None:
            print(f"{load_ablation(name).name}.{profile}: the profile has one pair of rates, nothing is to be chosen")
        elif arguments.dry_run:
            print_tuning(tuning, at_once(tuning, arguments))
        elif train(tuning, arguments, executor):
            _print_rates(tuning)
        else:
            failed = True
    if arguments.ship and not arguments.dry_run:
        from gitbench.study.rates import TABLE, ship

        every = [tuning for name in _built_in(arguments) if (tuning := tuning_of(name)) is not None]
        count = ship(profile, every)
        print(f"{TABLE}: {count} runs of the {profile} profile")
    return 1 if failed else 0


def planned_at_rates(
    tuning: Tuning | None,
    plan: Callable[[Sequence[ArmRate]], Study],
    arguments: argparse.Namespace,
    executor: Callable[[], Executor | None],
) -> Study | None:
    """Return the study that `plan` makes of its arms' rates, which are tuned first where they are not known.

    `tuning` of None: at the profile's rates. `executor` gives what executes tuning runs, None: this machine. A dry run
    trains nothing: what is not known yet is 1. None: a run failed.
    """
    before = tuning.rates() if tuning else ()
    study = plan(before)  # refuses what cannot be, before anything is trained
    _check_encoder({run.arm: run.resolved for run in study.plan.runs})
    if tuning is None:
        return study
    tuning.learn(study.plan_path)
    if arguments.dry_run:
        print_tuning(tuning, at_once(tuning, arguments))
        if tuning.to_do:
            print(
                "  until then arms without known rates are planned at the profile's: what counts as done below may change"
            )
    elif not train(tuning, arguments, executor):
        return None
    return study if (rates := tuning.rates()) == before else plan(rates)


def train(tuning: Tuning, arguments: argparse.Namespace, executor: Callable[[], Executor | None]) -> bool:
    """Make the runs that are to do; returns whether all went well, those that failed are named on stderr."""
    trackers = trackers_of(arguments)
    if not tuning.to_do and trackers is None:
        return True
    from gitbench.launch.tuning import tune

    outcome = tune(tuning, arguments.jobs, arguments.plain, executor() if tuning.to_do else None, trackers)
    for arm, seed, reason in outcome.failed:
        print(f"gitbench: {arm} seed {seed} failed twice: {reason}", file=sys.stderr)
    return not outcome.failed


def print_tuning(tuning: Tuning, at_once: int) -> None:
    """Print how many tuning runs are known, and how long the others take with so many `at_once`."""
    from gitbench.formats import duration
    from gitbench.launch.progress import estimate_seconds

    runs, left = tuning.unique_runs, len(tuning.to_do)
    seconds, _ = estimate_seconds(tuning, at_once)
    more = f", about {duration(seconds)} with {at_once} at a time, before the rates are known" if left else ""
    print(f"{tuning.name}: {len(runs)} tuning runs, {len(runs) - left} done, {left} to do{more}")


def _print_rates(tuning: Tuning) -> None:
    rates = tuning.rates()
    print(f"{tuning.name}: " + ", ".join(f"{each.arm} x {each.factor:g}" for each in rates))


def _tuning(name: str, arguments: argparse.Namespace) -> Tuning | None:
    from gitbench.ablations import load_ablation
    from gitbench.study.rates import tuning_of

    ablation = load_ablation(name)
    arguments = with_own(arguments, ablation)
    tuning = tuning_of(
        ablation,
        profile_for(arguments),
        data_of(arguments),
        tokenizer_path=tokenizer_of(arguments),
        task_name=task_of(arguments),
        compute=compute_of(arguments),
        command="gitbench tune",
    )
    if tuning is not None:
        _check_encoder({each.arm: each.run.resolved for each in tuning.runs})
    return tuning


def _built_in(arguments: argparse.Namespace) -> list[str]:
    """Return the ablations of the package that have arms for the profile, and a checkpoint where they start from one."""
    from gitbench.ablations import ablation_files, load_ablation

    profile, found = profile_of(arguments), {name: load_ablation(name) for name in ablation_files()}
    return [
        name
        for name, each in found.items()
        if profile in each.arms and ("start" not in each.common or with_own(arguments, each).start is not None)
    ]


def _check_ship(arguments: argparse.Namespace) -> None:
    """Refuse to write a table that is not a clone's own, or that holds other data than the ablations' own."""
    from gitbench.files import ROOT

    if not (ROOT / "pyproject.toml").is_file():
        raise GitbenchError("--ship writes into the package, and this is no clone: leave it out, results are cached")
    names = ("data", "task", "tokenizer", "encoder", "start")
    if any(getattr(arguments, name) is not None for name in names):
        raise GitbenchError(
            f"--ship is for what ablations have by themselves: leave {', '.join(f'--{name}' for name in names)} out"
        )


def _check_encoder(arms: Mapping[str, RunSpec]) -> None:
    """Refuse weights of `--encoder` that do not fit every arm (name -> one of its runs) that takes them; nothing is fetched."""
    from gitbench.variants.encoder_init import GIVEN

    taking = {arm: spec.variants for arm, spec in arms.items() if spec.variant_names.get("encoder_init") == GIVEN}
    if taking:
        from gitbench.training.encoder_init import check_weights

        (source,) = {variants["encoder_init"].path for variants in taking.values()}
        check_weights(source, {arm: variants["encoder"] for arm, variants in taking.items()})
