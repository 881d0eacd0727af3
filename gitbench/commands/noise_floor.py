"""The command `gitbench noise-floor`: train one arm in many replicates, measure how far apart they are (A/A).

`gitbench noise-floor [--profile P] [--data D] [--seeds N]`: the profile's own model, the base arm of most ablations,
in 2 N replicates (N: the profile's number of seeds, at least 3), so that they split into two pseudo-arms as large as
a study's. Its runs have seeds of their own, as those of every study.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gitbench.commands.options import (
    at_once,
    check_executor,
    compute_of,
    data_of,
    executor_of,
    study_words,
    task_of,
    training_options,
    work_dir_of,
)
from gitbench.commands.printing import print_outcome, print_plan
from gitbench.commands.starts import profile_for, profile_of, tokenizer_of
from gitbench.commands.tracking import trackers_of
from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    from gitbench.judge.noise import NoiseFloor
    from gitbench.plan import ArmRate, Plan
    from gitbench.spec import Ablation, Profile
    from gitbench.study.store import Study

BASE = "base"
FLOOR_RUNS = 2  # of the blind arm: the judge wants a floor, and the proof of the arms compares two replicates


def add(commands: Any) -> None:
    """Add the parser of the command."""
    noise = commands.add_parser(
        "noise-floor", help="how far apart replicates of one arm are (A/A), and what the judge makes of it"
    )
    training_options(noise, "of a pseudo-arm; 2 N runs are made (default: the profile's, at least 3)")
    noise.set_defaults(run=_noise_floor)


def _noise_floor(arguments: argparse.Namespace) -> int:
    """0: measured; 1: a run failed, nothing was measured."""
    from gitbench.commands.report import report_folder
    from gitbench.commands.tune import planned_at_rates
    from gitbench.launch.scheduling import launch
    from gitbench.profiles import check_publishable
    from gitbench.report.noise import write_noise_report
    from gitbench.study.rates import tuning_of
    from gitbench.study.store import Study

    if arguments.publish:
        check_publishable(profile_of(arguments))
    profile, data = profile_for(arguments), data_of(arguments)
    options: dict[str, Any] = {
        "tokenizer_path": tokenizer_of(arguments),
        "task_name": task_of(arguments),
        "compute": compute_of(arguments),
        "command": shlex.join(["gitbench", "noise-floor", *study_words(arguments)]),
    }

    def plan(rates: Sequence[ArmRate]) -> Study:
        return Study(work_dir_of(arguments), noise_plan(profile, data, arguments.seeds, rates=rates, **options))

    tuning = tuning_of(noise_ablation(profile), profile, data, **options)
    check_executor(arguments)
    executor = functools.cache(lambda: executor_of(arguments, work_dir_of(arguments)))
    study = planned_at_rates(tuning, plan, arguments, executor)
    if study is None:
        return 1
    if arguments.dry_run:
        print_plan(study, at_once(study, arguments))
        return 0
    outcome = launch(study, arguments.jobs, arguments.plain, executor=executor(), trackers=trackers_of(arguments))
    print_outcome(study, outcome)
    if outcome.failed:
        return 1
    study = Study.open(study.work_dir, study.name)
    floors = measure_noise(study, (study.plan.seeds or 0) // 2)
    print(f"noise floor: {study.noise_path}")
    if not arguments.no_report:
        out = arguments.out or report_folder(study, arguments.publish)
        write_noise_report(out, floors, profile=study.plan.profile, data=study.plan.data)
        print(f"report: {out / 'noise_floor.md'}")
    return 0


def noise_ablation(profile: Profile) -> Ablation:
    """Return the A/A runs as an ablation of one arm, the profile's own model."""
    from gitbench.judge.noise import NOISE_ABLATION
    from gitbench.spec import Ablation, Arm

    return Ablation(
        name=NOISE_ABLATION,
        title="Noise floor",
        question="How far apart are replicates of one and the same arm?",
        axis="decoder",
        arms={profile.name: (Arm(name=BASE, variants={"decoder": profile.variants["decoder"]}),)},
        base=BASE,
    )


def noise_plan(profile: Profile, data: str, seeds: int | None = None, **options: Any) -> Plan:
    """Return the plan of the A/A runs, twice `seeds` of them (None: the profile's); `options` are those of `make_plan`.

    Errors: GitbenchError for fewer than 3 seeds.
    """
    from gitbench.judge.statistics import MIN_REPLICATES
    from gitbench.study.plan import make_plan, with_seeds
    from gitbench.study.planner import BLIND

    if seeds is not None and seeds < MIN_REPLICATES:
        raise GitbenchError(
            f"--seeds {seeds}: a pseudo-arm needs at least the {MIN_REPLICATES} seeds that a verdict does"
        )
    each = max(MIN_REPLICATES, profile.replicates) if seeds is None else seeds
    plan = make_plan(noise_ablation(profile), profile, data, replicates=2 * each, **options)
    plan = dataclasses.replace(plan, mark="")  # there is one noise floor of a profile and data
    return with_seeds(plan, {BASE: 2 * each, BLIND.name: FLOOR_RUNS})


def measure_noise(study: Study, seeds: int) -> dict[str, NoiseFloor]:
    """Measure every score of the finished base runs and write the noise file; returns metric -> floor.

    The spread of real pairs comes from the studies of the same profile and data beside it. Errors: GitbenchError where
    fewer than 2 x `seeds` runs are finished.
    """
    from gitbench.files import write_json
    from gitbench.judge.aa import noise_floors, pair_spreads
    from gitbench.judge.noise import NOISE_ABLATION
    from gitbench.study.store import open_studies

    def same(plan: Plan) -> bool:
        wanted = study.plan
        return plan.ablation != NOISE_ABLATION and all(
            getattr(plan, name) == getattr(wanted, name) for name in ("profile", "data", "data_fingerprint")
        )

    beside = [(each.plan, each.frame) for each in open_studies(study.work_dir) if same(each.plan)]
    floors = noise_floors(study.plan, study.frame, BASE, seeds, study.yardstick.kind, pair_spreads(beside, seeds))
    base = study.frame[study.frame["arm"] == BASE]
    values = {
        "schema": 1,
        "profile": study.plan.profile,
        "data": study.plan.data,
        "data_fingerprint": study.plan.data_fingerprint,
        "command": study.plan.command,
        "machine": sorted(set(base["machine"].dropna())),
        "seeds": seeds,
        "runs": sorted(set(base["run_key"].dropna())),
        "floors": [dataclasses.asdict(floor) for floor in floors.values()],
    }
    write_json(study.noise_path, values)
    return floors
