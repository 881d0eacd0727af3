"""Fair learning rates: each arm's are chosen from its profile's grid before the study, on the validation likelihood.

One rate for all arms decides a comparison before any seed is drawn: the arm that happens to suit it wins. So each arm, the
blind floor too, is trained at every factor of `Profile.rates` with `SEEDS` tuning seeds. A tuning run is the arm's own run
but for its seeds, which no study has, and it ends with its validation likelihood: no test image is opened. The factor with
the best mean wins. Axes apply on top of it: an encoder rate of 1:20, say, is that share of the arm's own decoder rate.

What came of a tuning run is kept by its run key, so arms that are equal are tuned once, whatever study they are of: in
the plan on file of the study itself, else in `rates.json`, which ships with the package, else in the user's cache.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.data import read_once
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, load_json, read_json, write_text
from gitbench.plan import ArmRate, Plan, PlannedRun, Trial, is_likelihood
from gitbench.run_key import run_key
from gitbench.spec import Ablation, Arm, Compute, EvaluateSpec, Profile
from gitbench.study.plan_file import read_plan
from gitbench.study.planner import Planner
from gitbench.study.store import Study
from gitbench.variants import AXES

SEEDS = 2  # tuning seeds of each arm and factor
SEED_ROOT = "tuning"  # what they derive from: no study's claims
SPLITS = ("train", "val")  # those that a tuning run opens
TABLE = Path(__file__).resolve().parent.parent / "rates.json"  # what ships with the package
Results = Mapping[str, float | None]  # run key -> validation likelihood, nats per token; None: it diverged


@dataclass(frozen=True, kw_only=True)
class TuningRun:
    """A run that tunes an arm. `run` is named after arm and factor, for people; its replicate is the tuning seed."""

    arm: str
    factor: float
    run: PlannedRun


class Tuning(Study):
    """The tuning runs of a study, in the user's cache: a study whose runs end with their validation likelihood."""

    def __init__(self, plan: Plan, runs: Sequence[TuningRun]) -> None:
        super().__init__(cache_dir() / "rates", dataclasses.replace(plan, runs=tuple(each.run for each in runs)))
        self.runs = tuple(runs)
        self.known: dict[str, float | None] = dict(shipped_results())

    def adopt(self, runs: Collection[PlannedRun] | None = None) -> None:
        """Keep no manifest: no verdict rests on these runs alone."""

    def record(self, run_key: str) -> dict[str, Any] | None:
        """Return what a run here left behind, as a record has it; None where none was made on this machine."""
        found = load_json(self.folder(run_key).trained)
        if not isinstance(found, dict) or not {"val_nll", "cost"} <= set(found):
            return None
        if not is_likelihood(found["val_nll"]) or not isinstance(found["cost"], dict):
            return None
        return {"metrics": {"val_nll": {"value": found["val_nll"]}}, "cost": found["cost"]}

    def done(self, run: PlannedRun) -> bool:
        """Tell whether it is known what a run gives, here or from elsewhere."""
        if run.run_key not in self.known and (found := self.record(run.run_key)) is not None:
            self.known[run.run_key] = found["metrics"]["val_nll"]["value"]
        return run.run_key in self.known

    def learn(self, path: Path) -> None:
        """Take over what the plan of a study on file says of these runs; a file that holds no plan says nothing.

        It counts before all else: a study goes on at the rates that it began with, on another machine and with another
        table too.
        """
        try:
            rates = read_plan(path).rates
        except GitbenchError:
            return
        trials = [trial for arm in (rates.arms if rates else ()) for trial in arm.trials]
        self.known |= {each.run_key: each.val_nll for each in trials}

    @property
    def to_do(self) -> tuple[PlannedRun, ...]:
        """The runs that are still to be made."""
        return tuple(run for run in self.unique_runs if not self.done(run))

    def rates(self) -> tuple[ArmRate, ...]:
        """Return the rate of every arm: as its runs choose it, 1 where they are not all done.

        Errors: GitbenchError for an arm that diverged at every factor.
        """
        return tuple(self._rate(arm) for arm in dict.fromkeys(each.arm for each in self.runs))

    def _rate(self, arm: str) -> ArmRate:
        own = [each for each in self.runs if each.arm == arm]
        if not all(self.done(each.run) for each in own):
            return ArmRate(arm=arm, factor=1.0)
        trials = tuple(
            Trial(
                factor=each.factor,
                seed=each.run.replicate,
                run_key=each.run.run_key,
                val_nll=self.known[each.run.run_key],
            )
            for each in sorted(own, key=lambda each: (each.factor, each.run.replicate))
        )
        best = ArmRate(arm=arm, factor=1.0, trials=trials).best
        if best is None:
            raise GitbenchError(f"arm '{arm}' diverged at every learning rate of the grid: lower the profile's rates")
        return ArmRate(arm=arm, factor=best, trials=trials)


@read_once()
def tuning_of(
    ablation: Ablation,
    profile: Profile,
    data: str,
    *,
    cfg_options: Mapping[str, Any] | None = None,
    tokenizer_path: str | None = None,
    task_name: str = "caption",
    command: str = "",
    compute: Compute | None = None,
) -> Tuning | None:
    """Plan the tuning runs of a study; None where its arms have no rates of their own: without a grid, or where options
    change the runs, which then enter no claim. Arguments and errors are those of `make_plan`.
    """
    if len(profile.rates) < 2:
        return None
    options = dict(cfg_options or {})
    own = (options, tokenizer_path, task_name, SEED_ROOT, SPLITS, compute)
    planner = Planner(ablation, profile, data, *own)
    if not planner.tunable:
        return None
    runs = [
        _tuning_run(planner, arm, factor, seed)
        for seed in range(SEEDS)
        for factor in profile.rates
        for arm in planner.arms
    ]
    plan = planner.plan(command=command, claims=(), arms=(), runs=(), yardstick_key=None, mark="+rates")
    return Tuning(plan, runs)


def _tuning_run(planner: Planner, arm: Arm, factor: float, seed: int) -> TuningRun:
    """Return the arm's own run as a tuning run; what concerns its test or its validations on the way is no part of it."""
    run = planner.run(arm, seed, factor)
    spec = run.resolved
    spec = dataclasses.replace(
        spec,
        data=dataclasses.replace(spec.data, test_images=None),
        train=dataclasses.replace(spec.train, val_every=0),
        evaluate=EvaluateSpec(batch_images=spec.evaluate.batch_images),  # of the validation, too
        tuning=True,
    )
    key = run_key(spec, run.data_fingerprint or "")
    named = dataclasses.replace(run, arm=f"{arm.name} at rates x {factor:g}", run_key=key, spec=spec)
    return TuningRun(arm=arm.name, factor=factor, run=named)


# ---- the table that ships with the package --------------------------------------------------------------------------


@functools.cache
def shipped_results() -> Results:
    """Read run key -> result of the table. Errors: GitbenchError for a damaged one."""
    return {key: entry["val_nll"] for key, entry in _table().items()}


def _table() -> dict[str, dict[str, Any]]:
    values = read_json(TABLE)
    try:
        runs = values["runs"]
        if not all(is_likelihood(entry["val_nll"]) and isinstance(entry["profile"], str) for entry in runs.values()):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise GitbenchError(f"{TABLE} is damaged: restore it, or run `gitbench tune --all --ship`") from None
    return runs


def ship(profile: str, tunings: Sequence[Tuning]) -> int:
    """Write what is known of these tuning runs into the table; entries of the profile that are none of them go.

    Returns how many of them stand there now.
    """
    kept = {key: entry for key, entry in _table().items() if entry["profile"] != profile}
    found = {
        each.run.run_key: _entry(profile, each, tuning.known[each.run.run_key])
        for tuning in tunings
        for each in tuning.runs
        if tuning.done(each.run)
    }
    lines = [f'    "{key}": {json.dumps(entry)}' for key, entry in sorted((kept | found).items())]
    write_text(TABLE, '{\n  "schema": 1,\n  "runs": {\n' + ",\n".join(lines) + "\n  }\n}\n")
    shipped_results.cache_clear()
    return len(found)


def _entry(profile: str, each: TuningRun, val_nll: float | None) -> dict[str, Any]:
    """Return the entry of a run: what came of it, and for people what it is."""
    names = each.run.resolved.variant_names
    variants = {axis: name for axis, name in names.items() if name != AXES[axis].default}
    return {
        "val_nll": val_nll,
        "profile": profile,
        "variants": variants,
        "factor": each.factor,
        "seed": each.run.replicate,
    }
