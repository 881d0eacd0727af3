"""The file of a plan: read with every value checked, since the plan of a bundle is a stranger's."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitbench.ablations import check_claim
from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.plan import Plan, is_likelihood
from gitbench.run_key import from_json
from gitbench.tasks import get_task

PLAN_SCHEMA = 2


def listed_runs(plan: Plan) -> list[dict[str, Any]]:
    """Return the runs of a plan as the files of a study list them; their specs stand in their records."""
    return [{"arm": run.arm, "replicate": run.replicate, "run_key": run.run_key} for run in plan.runs]


def read_plan(path: Path) -> Plan:
    """Read the file of a plan. Errors: GitbenchError for a damaged one, or one of an earlier version."""
    values = read_json(path)
    try:
        check_schema(path, values)
        plan = plan_from_json(values)
        pairs = [(run.arm, run.replicate) for run in plan.runs]
        if len(set(pairs)) < len(pairs) or not {arm for arm, _ in pairs} <= {arm.name for arm in plan.arms}:
            raise ValueError("a run that is listed twice, or of an arm that is not listed")
        for key in (plan.yardstick_key or "none", *(run.run_key for run in plan.runs)):
            if not re.fullmatch(r"[\w-]+", key):  # the plan of a bundle is a stranger's
                raise ValueError("a key that is no file name")
        _check_rates(plan)
        if plan.name != path.stem:
            raise ValueError("a plan under another name")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise GitbenchError(f"{path} is damaged: delete it and run the ablation again") from None
    get_task(plan.task)
    for claim in plan.claims:
        check_claim(claim, plan.ablation)
    return plan


def _check_rates(plan: Plan) -> None:
    """Refuse rates that no tuning can have given (ValueError)."""
    rates = plan.rates
    if rates is None:
        return
    if not rates.grid or not all(math.isfinite(each) and each > 0 for each in rates.grid):
        raise ValueError("a grid of rates without factors, or with one that is not above 0")
    if rates.arms and sorted(each.arm for each in rates.arms) != sorted(arm.name for arm in plan.arms):
        raise ValueError("rates of other arms than the plan's")
    for each in rates.arms:
        trials = {trial.factor for trial in each.trials}
        if not trials | {each.factor} <= set(rates.grid):
            raise ValueError("a factor that the grid does not hold")
        if not all(is_likelihood(trial.val_nll) for trial in each.trials):
            raise ValueError("a likelihood that is not finite")


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as its file holds it."""
    return {"schema": PLAN_SCHEMA, "study": plan.name, **dataclasses.asdict(plan), "runs": listed_runs(plan)}


def plan_from_json(values: Mapping[str, Any]) -> Plan:
    """Return the plan of such values. Errors: TypeError, ValueError, AttributeError for values that are none."""
    left_out = ("schema", "study", "gpu_gib")  # the last was one number for all arms, in plans of earlier versions
    return from_json(Plan, {key: value for key, value in values.items() if key not in left_out})


def check_schema(path: Path, values: Mapping[str, Any]) -> None:
    schema = values.get("schema")
    if isinstance(schema, int) and schema != PLAN_SCHEMA:
        which = "an earlier" if schema < PLAN_SCHEMA else "a later"
        raise GitbenchError(
            f"{path} was written by {which} version of gitbench: use that version for it, or pass another --work-dir"
        )
