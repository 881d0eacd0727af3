"""The command `gitbench run`: train, evaluate and report an ablation, once or until its claims are decided."""

from __future__ import annotations

import argparse
import functools
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gitbench.commands.cfg_options import cfg_option, parsed
from gitbench.commands.memory import hold_memory, memory_option
from gitbench.commands.options import (
    at_once,
    check_executor,
    compute_of,
    data_of,
    executor_of,
    study_words,
    task_of,
    training_options,
    with_own,
    work_dir_of,
)
from gitbench.commands.printing import print_data_notes, print_makers, print_memory, print_outcome, print_plan
from gitbench.commands.starts import profile_for, profile_of, tokenizer_of
from gitbench.commands.tracking import trackers_of
from gitbench.errors import GitbenchError
from gitbench.formats import plural
from gitbench.profiles import check_publishable

if TYPE_CHECKING:
    from gitbench.launch.executor import Executor
    from gitbench.launch.session import Outcome
    from gitbench.plan import ArmRate
    from gitbench.spec import Profile
    from gitbench.study.part import Part
    from gitbench.study.store import Study

MERGE = "this is one part of several, join their work directories with `gitbench merge`"
UNDER_WAY = "other launches still work on the study, the last of them writes it"


def add(commands: Any) -> None:
    """Add the parser of the command."""
    run = commands.add_parser("run", help="train, evaluate and report an ablation")
    run.add_argument(
        "ablation", metavar="ABLATION", help="a name from `gitbench list`, or the path of an ablation file"
    )
    training_options(run, "replicates per arm (default: the ablation's, or else the profile's)")
    memory_option(run)
    cfg_option(run)
    run.add_argument(
        "--rates",
        choices=("tuned", "shared"),
        default="tuned",
        help="learning rates: each arm's own, chosen on the validation likelihood (default), or the profile's for all",
    )
    run.add_argument(
        "--until-decided",
        action="store_true",
        help="add seeds where they help most until every claim is decided, with a test that is valid under looking",
    )
    part = run.add_argument_group("a part of the study, whose plan, seeds and keys stay those of the whole")
    part.add_argument(
        "--arms", nargs="+", action="extend", metavar="NAME", help="these arms alone (`blind`: the floor)"
    )
    part.add_argument("--replicates", metavar="N-M,...", help="these replicates alone, from 0: for example 5-9")
    part.add_argument(
        "--shard",
        metavar="I/N",
        help="the I-th of N equal parts, from 1; `gitbench merge` joins their work directories",
    )
    run.add_argument(
        "--no-wait",
        action="store_true",
        help="where other launches share the work directory: end once nothing is left to begin, without a report",
    )
    run.add_argument(
        "--fresh",
        action="store_true",
        help="make runs again that other code made, unless the gate found that this one gives the same numbers",
    )
    run.add_argument("--budget", metavar="TIME", help="of --until-decided: 45s, 90m, 2h (default: no limit)")
    run.add_argument("--max-seeds", type=int, metavar="N", help="of --until-decided: per arm, at most (default: 30)")
    run.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from gitbench.ablations import load_ablation

    arguments = with_own(arguments, load_ablation(arguments.ablation))
    if arguments.publish:  # before hours of training
        check_publishable(profile_of(arguments))
    if arguments.until_decided:
        return _run_until_decided(arguments)
    for option, value in (("--budget", arguments.budget), ("--max-seeds", arguments.max_seeds)):
        if value is not None:
            raise GitbenchError(f"{option} belongs to --until-decided: add that, or leave {option} out")
    part = _part(arguments)
    check_executor(arguments)
    hold_memory(arguments, lambda: _plan(arguments, profile_for(arguments)).plan)
    executor = functools.cache(lambda: executor_of(arguments, work_dir_of(arguments)))
    study = _planned(arguments, profile_for(arguments), executor, part=part)
    if study is None:
        return 1
    study = _of_this_code(arguments, study, part)
    if arguments.dry_run:
        print_plan(study, at_once(study, arguments), part)
        if study.plan.compute.device == "cuda":
            print_memory(study)
        return 0
    from gitbench.launch.scheduling import launch

    launching = functools.partial(launch, executor=executor(), trackers=trackers_of(arguments))
    outcome = launching(study, arguments.jobs, arguments.plain, part=part, wait=not arguments.no_wait)
    if arguments.shard is not None or outcome.under_way:
        print_outcome(study, outcome)
        print("no report: " + (MERGE if arguments.shard is not None else UNDER_WAY))
        return 1 if outcome.failed else 0
    return finish(arguments, study, outcome)


def _part(arguments: argparse.Namespace) -> Part | None:
    """Return the part of a study that is asked for, None: all of it."""
    from gitbench.study.part import Part, parse_replicates, parse_shard

    if (arguments.arms, arguments.replicates, arguments.shard) == (None, None, None):
        return None
    return Part(
        arms=tuple(arguments.arms) if arguments.arms else None,
        replicates=parse_replicates(arguments.replicates) if arguments.replicates is not None else None,
        shard=parse_shard(arguments.shard) if arguments.shard is not None else None,
    )


def _run_until_decided(arguments: argparse.Namespace) -> int:
    from gitbench.ablations import load_ablation
    from gitbench.commands.until_decided import FIRST, MAX_SEEDS, UntilDecided, alone, check, parse_budget, seeds_now
    from gitbench.formats import duration
    from gitbench.study.plan import with_seeds
    from gitbench.study.store import Study

    for option, value in (
        ("--arms", arguments.arms),
        ("--replicates", arguments.replicates),
        ("--shard", arguments.shard),
    ):
        if value is not None:
            raise GitbenchError(
                f"{option} with --until-decided: that adds seeds where they help: leave one of them out"
            )
    if arguments.no_wait:
        raise GitbenchError(
            "--no-wait with --until-decided: one launch decides, it waits for all: leave one of them out"
        )
    check_executor(arguments)
    hold_memory(arguments, lambda: _plan(arguments, profile_for(arguments)).plan)
    executor = functools.cache(lambda: executor_of(arguments, work_dir_of(arguments)))
    budget = None if arguments.budget is None else parse_budget(arguments.budget)
    most = MAX_SEEDS if arguments.max_seeds is None else arguments.max_seeds
    start, profile = arguments.seeds, profile_for(arguments)
    if start is None:  # the usual number, but enough for a look
        usual = load_ablation(arguments.ablation).replicates_in(profile)
        start = max(usual, FIRST)
    check(_plan(arguments, profile, start).plan, start, most)
    full = _planned(arguments, profile, executor, most)
    if full is None:
        return 1
    full = _of_this_code(arguments, full)
    if arguments.dry_run:
        first = Study(full.work_dir, with_seeds(full.plan, seeds_now(full, start)))
        print_plan(first, at_once(first, arguments))
        within = "" if budget is None else f" within {duration(budget)}"
        print(f"  then seeds are added to the arms of open claims{within}, up to {most} an arm")
        return 0
    from gitbench.launch.scheduling import launch

    launching = functools.partial(launch, executor=executor(), trackers=trackers_of(arguments))
    room = at_once(full, arguments)
    options: dict[str, Any] = {"launch": launching, "at_once": room}
    with alone(full):
        decision = UntilDecided(full, start, budget, arguments.jobs, arguments.plain, **options).run()
    print(f"{full.name}: {decision.said}")
    return finish(arguments, full, decision.outcome, judged=decision.looks > 0)


def _of_this_code(arguments: argparse.Namespace, study: Study, part: Part | None = None) -> Study:
    """Say which finished runs other code made, or with --fresh clear them (a dry run says how many); returns the study."""
    if not arguments.fresh:
        print_makers(study, (part.within(study) if part else study).unique_runs)
        return study
    from gitbench.launch.fresh import clear, of_other_code
    from gitbench.study.find import check_version

    check_version(study.work_dir)
    count, left = (len(of_other_code(study, part)), 0) if arguments.dry_run else clear(study, part)
    rest = f", {left} left to those who work on them" if left else ""
    print(f"{study.name}: {plural(count, 'run')} of other code to be made again{rest}")
    return type(study)(study.work_dir, study.plan)


def finish(arguments: argparse.Namespace, study: Study, outcome: Outcome, judged: bool = True) -> int:
    """Sum up, name what failed, and write the report; returns the exit status."""
    print_outcome(study, outcome)
    if not arguments.no_report and outcome.completed + outcome.found + outcome.others and judged:
        from gitbench.commands.report import make_report
        from gitbench.study.store import Study

        fresh = Study.open(study.work_dir, study.name)
        print(f"report: {make_report(fresh, arguments.out, arguments.publish) / 'report.html'}")
    return 0 if judged and not outcome.failed else 1


def _planned(
    arguments: argparse.Namespace,
    profile: Profile,
    executor: Callable[[], Executor | None],
    replicates: int | None = None,
    part: Part | None = None,
) -> Study | None:
    """Plan the study at its arms' rates, which are tuned first where that is not done; None where a tuning run failed.

    Errors: those of planning; GitbenchError for a part that the study has not.
    """
    from gitbench.ablations import load_ablation
    from gitbench.commands.tune import planned_at_rates
    from gitbench.study.rates import tuning_of

    tuning = None
    if arguments.rates == "tuned":
        tuning = tuning_of(load_ablation(arguments.ablation), profile, data_of(arguments), **_options(arguments))
    plan = functools.partial(_plan, arguments, profile, replicates, part)
    study = planned_at_rates(tuning, plan, arguments, executor)
    if study is not None:
        print_data_notes(study)
    return study


def _plan(
    arguments: argparse.Namespace,
    profile: Profile,
    replicates: int | None = None,
    part: Part | None = None,
    rates: Sequence[ArmRate] = (),
) -> Study:
    from gitbench.ablations import load_ablation
    from gitbench.study.plan import make_plan
    from gitbench.study.store import Study

    plan = make_plan(
        load_ablation(arguments.ablation),
        profile,
        data_of(arguments),
        replicates=replicates or arguments.seeds,
        sequential=arguments.until_decided,
        rates=rates,
        **_options(arguments),
    )
    if part is not None:
        part.check(plan)
    return Study(work_dir_of(arguments), plan)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what a study and its tuning runs are both planned with."""
    return {
        "cfg_options": parsed(arguments.cfg_options),
        "tokenizer_path": tokenizer_of(arguments),
        "task_name": task_of(arguments),
        "compute": compute_of(arguments),
        "command": _command(arguments),
    }


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that gives this study again, with defaults that depend on the machine written out."""
    words = ["gitbench", "run", arguments.ablation, *study_words(arguments)]
    if arguments.cfg_options:
        words += ["--cfg-options", *arguments.cfg_options]
    for plugin in arguments.plugin or ():
        words += ["--plugin", plugin]
    if arguments.rates == "shared":
        words += ["--rates", "shared"]
    if arguments.until_decided:
        words += ["--until-decided"]
    if arguments.budget is not None:
        words += ["--budget", arguments.budget]
    if arguments.max_seeds is not None:
        words += ["--max-seeds", str(arguments.max_seeds)]
    return shlex.join(words)
