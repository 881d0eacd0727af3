"""Ablation x profile x data x replicates -> the plan of a study: its runs, each with its resolved spec and its key.

Every study gets the blind floor: the base arm trained without ever seeing an image. A run's key hashes its resolved
values and its data; arms of one study that are the same run share one folder. Studies share none: the seeds of each
follow from its claims, its arms and sizes, and its number of seeds.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gitbench.data import read_once
from gitbench.errors import GitbenchError
from gitbench.plan import ArmRate, Plan, Rates
from gitbench.spec import Ablation, Compute, Profile
from gitbench.study.lock import claim_hashes, seed_root, setting_hash
from gitbench.study.planner import Planner
from gitbench.tasks import claims_for

MOST_REPLICATES = 1000  # of an arm: a plan lists them all


@read_once()
def make_plan(
    ablation: Ablation,
    profile: Profile,
    data: str,
    *,
    replicates: int | None = None,
    sequential: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    tokenizer_path: str | None = None,
    task_name: str = "caption",
    command: str = "",
    rates: Sequence[ArmRate] = (),
    compute: Compute | None = None,
) -> Plan:
    """Plan a study; `tokenizer_path` replaces the profile's tokenizer by a BERT one (hub name, folder or file).

    Where the profile names weights (`profile.encoder`), every arm's image encoder starts from these that does not vary just
    that.

    A `sequential` study is judged after every added seed, any other one at its number of seeds alone: each has seeds of
    its own (`lock.seed_root`). `task_name` is one of `gitbench.tasks`; `command` is what gives this study again; `rates`
    are those of every arm (`gitbench.study.rates`), none: all arms are trained at the profile's. `compute` is what all runs
    compute on; None: what profile and machine suggest (`gitbench.compute`).
    Errors: GitbenchError for unknown profiles, data, tasks or variants, and for sizes that do not fit.
    """
    usual = ablation.replicates_in(profile)
    count = usual if replicates is None else replicates
    if not 1 <= count <= MOST_REPLICATES:
        raise GitbenchError(f"--seeds {count}: use 1 to {MOST_REPLICATES} replicates")
    design: Literal["fixed", "sequential"] = "sequential" if sequential else "fixed"
    setting = setting_hash(ablation, profile)
    root = seed_root(ablation.name, claim_hashes(ablation), setting, design, count)
    options = dict(cfg_options or {})
    planner = Planner(ablation, profile, data, options, tokenizer_path, task_name, root, compute=compute)
    arms, factors = planner.arms, {each.arm: each.factor for each in rates}
    runs = [  # a stopped study is balanced
        planner.run(arm, replicate, factors[arm.name] if factors else 1.0)
        for replicate in range(count)
        for arm in arms
        if arm.seeds is None or replicate < arm.seeds
    ]
    for run in runs[: len(arms)]:  # refuses options that name nothing, before anything is done
        planner.check(run)
    train = planner.profile.train
    chosen = Rates(grid=profile.rates, lr_encoder=train.lr_encoder, lr_decoder=train.lr_decoder, arms=tuple(rates))
    return planner.plan(
        command=command,
        crossed_with=ablation.crossed_with,
        claims=claims_for(ablation.claims, planner.task),
        arms=tuple(planner.describe(arm, run) for arm, run in zip(arms, runs, strict=False)),
        runs=tuple(runs),
        common=planner.common,
        cfg_options={key: repr(value) for key, value in planner.options.items()},
        test_images=planner.profile.data.test_images,
        yardstick_key=hashlib.sha256(planner.fingerprint.encode()).hexdigest()[:16],
        claim_hashes=claim_hashes(ablation),
        setting=setting,
        design=design,
        seeds=None if sequential else count,
        mark=("+sequential" if sequential else f"+seeds-{count}" if count != usual else "")
        + "+rates-shared" * (planner.tunable and not rates),
        rates=chosen if len(profile.rates) > 1 else None,
    )


def with_seeds(plan: Plan, seeds: Mapping[str, int]) -> Plan:
    """Return the plan with the first `seeds[arm]` replicates of every arm alone."""
    return dataclasses.replace(plan, runs=tuple(run for run in plan.runs if run.replicate < seeds[run.arm]))
