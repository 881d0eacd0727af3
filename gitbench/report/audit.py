"""Does every printed number have finished runs behind it? From a number back to the values that it was made of.

A report is checked before it is written, and again when a committed one is read back: each mean and difference is computed
anew, so a number that no finished run gives stops the report. `gitbench.report.explain` shows the same to people.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.judge.statistics import sample
from gitbench.judge.verdict import Verdict
from gitbench.report.tables import counted
from gitbench.spec import Claim
from gitbench.study.store import Study

_CLOSE = 1e-9  # relative and absolute; a mean summed in another order
_CLOSE_DIFFERENCE = 1e-6


def values_behind(frame: pd.DataFrame, arm: str, metric: str) -> pd.DataFrame:
    """Return the rows of the tidy frame behind one arm's mean, by replicate; runs changed by --cfg-options as in tables."""
    rows = frame[(frame["arm"] == arm) & (frame["metric"] == metric)]
    return counted(rows).dropna(subset=["value"]).sort_values("replicate")


def differences_of(frame: pd.DataFrame, claim: Claim) -> dict[int, float]:
    """Return what a claim is about by replicate: a paired difference, of gains, a slope.

    Runs changed by --cfg-options enter no claim.
    """
    rows = frame[(frame["metric"] == claim.metric) & ~frame["overridden"]]
    values = {arm: rows[rows["arm"] == arm].set_index("replicate")["value"].dropna() for arm in claim.arms}
    pair = sample(claim, {arm: pd.Series(own.to_numpy(float), own.index.astype(int)) for arm, own in values.items()})
    return {} if pair is None else dict(zip(pair.replicates, pair.differences, strict=True))


def check_numbers(study: Study, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> int:
    """Check the means of a summary (`tables.summarise`) and the differences of verdicts; return how many means there are.

    Errors: GitbenchError that names the first number without finished runs behind it, or one that they do not give.
    """
    name, frame = study.plan.ablation, study.frame
    finished = {run.run_key for run in study.finished}
    parts = {f"{column}_{part}" for column in table.columns for part in ("low", "high", "sd")}
    metrics = [each for each in table.columns if each not in parts | {"arm", "label", "role", "n", "overridden"}]
    numbers = [(row["arm"], metric, row[metric]) for _, row in table.iterrows() for metric in metrics]
    printed = [number for number in numbers if not pd.isna(number[2])]
    for arm, metric, mean in printed:
        rows = values_behind(frame, arm, metric)
        _check_runs(f"{name}:{arm}:{metric}", rows, finished)
        _check_close(f"{name}:{arm}:{metric}", float(mean), rows["value"].tolist(), _CLOSE)
    for verdict in verdicts:
        check_verdict(name, verdict, frame, finished)
    return len(printed)


def check_verdict(ablation: str, verdict: Verdict, frame: pd.DataFrame, finished: Collection[str]) -> None:
    """Check that the difference of a verdict follows from finished runs (their run keys); errors as `check_numbers`."""
    if verdict.difference is None:
        return
    name, claim = f"{ablation}:{verdict.claim.name}", verdict.claim
    for arm in claim.arms:
        _check_runs(f"arm '{arm}' of {name}", values_behind(frame, arm, claim.metric), finished)
    values = list(differences_of(frame, claim).values())
    if len(values) != verdict.n:
        raise GitbenchError(f"{name} says n = {verdict.n} but has {len(values)} replicates: rebuild the report")
    _check_close(name, verdict.difference, values, _CLOSE_DIFFERENCE)


def _check_runs(name: str, rows: pd.DataFrame, finished: Collection[str]) -> None:
    """Refuse rows without a finished run behind them; a ceiling has none."""
    if rows.empty or not set(rows.loc[rows["role"] != "ceiling", "run_key"]) <= set(finished):
        raise GitbenchError(f"no finished run stands behind {name}: run the ablation again")


def _check_close(name: str, printed: float, values: list[float], tolerance: float) -> None:
    found = float(np.mean(values))
    if not math.isclose(printed, found, rel_tol=tolerance, abs_tol=tolerance):
        raise GitbenchError(
            f"{name} says {printed:.6g} but its {len(values)} runs give {found:.6g}: rebuild it with `gitbench report`"
        )
