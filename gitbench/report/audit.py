"""Check that every printed number has finished runs behind it: each mean and difference is computed anew.

A report is checked before it is written, and again when a committed one is read back.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.judge.statistics import by_replicate, sample
from gitbench.judge.verdict import Verdict
from gitbench.report.tables import cost_names, counted, score_names
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
    rows = frame[(frame["metric"] == claim.metric) & ~frame["overridden"]].dropna(subset=["value"])
    pair = sample(claim, {arm: by_replicate(rows[rows["arm"] == arm]) for arm in claim.arms})
    return {} if pair is None else dict(zip(pair.replicates, pair.differences, strict=True))


def check_numbers(study: Study, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> None:
    """Check the means of a summary (`tables.summarise`) and the differences of verdicts.

    Errors: GitbenchError that names the first number without finished runs behind it, or one that they do not give.
    """
    name, frame = study.plan.ablation, study.frame
    finished = {run.run_key for run in study.finished}
    for metric in (*score_names(frame), *cost_names(frame)):
        for arm, mean in table.set_index("arm")[metric].dropna().items():
            rows, number = values_behind(frame, str(arm), metric), f"{name}:{arm}:{metric}"
            _check_runs(number, rows, finished)
            _check_close(number, float(mean), rows["value"].tolist(), _CLOSE)
    for verdict in verdicts:
        check_verdict(name, verdict, frame, finished)


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
