"""From a printed number back to what it was made of: its replicates, their runs, the files and the way they were put together.

`check_numbers` walks that way for every number of a report before it is written, on its own: it reads the records again
and computes each mean anew, so a number that no finished run stands behind, or that says something else than its runs,
stops the build. `explain` tells the same walk to people.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.judge.claims import Verdict
from gitbench.judge.sample import sample
from gitbench.scores import COSTS
from gitbench.spec import Claim
from gitbench.study.records import Study, load_record, load_yardstick

_CLOSE = 1e-9  # relative; a sum in another order


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """One value behind a mean, and the run that it comes from."""

    replicate: int
    run_key: str
    value: float
    signature: str | None
    overridden: bool


def replicates_of(work_dir: str | Path, study: Study, arm: str, metric: str) -> tuple[Replicate, ...]:
    """Return the values of one arm's metric by replicate, read from the records of its finished runs.

    Runs changed by --cfg-options are left out where others are there, as in every table.
    Errors: GitbenchError for an arm that the study does not have, or a damaged record.
    """
    study.arm(arm)
    found = []
    for run in study.runs:
        record = load_record(work_dir, run.run_key) if run.arm == arm else None
        if record is None:
            continue
        entry = record["metrics"].get(metric)
        value = entry["value"] if entry is not None else record["cost"].get(metric) if metric in COSTS else None
        if value is not None:
            found.append(
                Replicate(
                    replicate=run.replicate,
                    run_key=run.run_key,
                    value=float(value),
                    signature=entry.get("signature") if entry is not None else None,
                    overridden=bool(record.get("overridden")),
                )
            )
    clean = [each for each in found if not each.overridden]
    return tuple(sorted(clean or found, key=lambda each: each.replicate))


def check_numbers(work_dir: str | Path, study: Study, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> int:
    """Check that each number of a summary and each difference of a verdict has its runs; return how many were checked.

    `table` is that of `tables.summarise`. Errors: GitbenchError that names the first number without runs behind it, or
    one that its runs do not give.
    """
    checked = 0
    for _, row in table.iterrows():
        for metric in _metrics(table.columns):
            if pd.isna(row[metric]):
                continue
            name = f"{study.ablation}:{row['arm']}:{metric}"
            if row["role"] == "ceiling":
                _check_ceiling(work_dir, study, name, metric, float(row[metric]))
            else:
                _check_mean(name, float(row[metric]), replicates_of(work_dir, study, str(row["arm"]), metric))
            checked += 1
    for verdict in verdicts:
        if verdict.difference is not None:
            _check_difference(work_dir, study, verdict)
            checked += 1
    return checked


def _metrics(columns: Iterable[str]) -> list[str]:
    """Return the columns that hold means, without those of their intervals and of the arm itself."""
    names = list(columns)
    parts = {f"{name}_{part}" for name in names for part in ("low", "high", "sd")}
    return [name for name in names if name not in parts | {"arm", "label", "role", "n", "overridden"}]


def _check_mean(name: str, printed: float, behind: Sequence[Replicate]) -> None:
    if not behind:
        raise _no_run(name, printed)
    mean = float(np.mean([each.value for each in behind]))
    if not math.isclose(mean, printed, rel_tol=_CLOSE, abs_tol=_CLOSE):
        raise GitbenchError(
            f"{name} would be printed as {printed:.6g} but its {len(behind)} runs give {mean:.6g}: "
            "rebuild the report from its work directory"
        )


def _check_ceiling(work_dir: str | Path, study: Study, name: str, metric: str, printed: float) -> None:
    entry = (load_yardstick(work_dir, study) or {"ceiling": {}})["ceiling"].get(metric)
    if entry is None or not math.isclose(float(entry["value"]), printed, rel_tol=_CLOSE, abs_tol=_CLOSE):
        raise GitbenchError(
            f"{name} would be printed as {printed:.6g} but no yardstick file gives it: run the ablation again"
        )


def _check_difference(work_dir: str | Path, study: Study, verdict: Verdict) -> None:
    name, claim = f"{study.ablation}:{verdict.claim.name}", verdict.claim
    values = differences_of(work_dir, study, claim)
    assert verdict.difference is not None
    if not values:
        raise _no_run(name, verdict.difference)
    mean = float(np.mean(list(values.values())))
    if len(values) != verdict.n or not math.isclose(mean, verdict.difference, rel_tol=1e-6, abs_tol=1e-6):
        raise GitbenchError(
            f"{name} would be printed as {verdict.difference:.6g} (n = {verdict.n}) but its runs give {mean:.6g} "
            f"(n = {len(values)}): rebuild the report from its work directory"
        )


def differences_of(work_dir: str | Path, study: Study, claim: Claim) -> dict[int, float]:
    """Return what a claim is about by replicate (a paired difference, of gains, a slope), from the records alone.

    Runs changed by --cfg-options enter no claim.
    """

    def scores(arm: str) -> pd.Series:
        found = replicates_of(work_dir, study, arm, claim.metric)
        return pd.Series({each.replicate: each.value for each in found if not each.overridden}, dtype=float)

    floors = [scores(arm.name) for arm in study.arms if arm.role == "floor"]
    ceiling = (load_yardstick(work_dir, study) or {"ceiling": {}})["ceiling"].get(claim.metric)
    pair = sample(
        claim,
        {arm: scores(arm) for arm in claim.arms},
        floors[0] if floors else pd.Series(dtype=float),
        None if ceiling is None else float(ceiling["value"]),
    )
    return {} if pair is None else dict(zip(pair.replicates, pair.differences, strict=True))


def _no_run(name: str, printed: float) -> GitbenchError:
    return GitbenchError(
        f"{name} would be printed as {printed:.6g} but no finished run stands behind it: run the ablation again"
    )
