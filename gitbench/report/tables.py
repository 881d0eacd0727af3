"""The result table of a study: as numbers (`summarise`, which is table.csv) and as printed cells (`Cell`).

A cell is the mean over replicates with the half-width of its 95 % Student-t interval; `best_arms` says what is bold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gitbench.judge.noise import NoiseFloor, detectable
from gitbench.judge.statistics import Interval, PairedDifference, by_replicate, paired_difference, t_interval
from gitbench.metric_info import COSTS, DESCRIPTIVE, FIT, display_name, lower_is_better, ordered, quality_sign, unit
from gitbench.plan import Plan

NONE = "\N{EN DASH}"
CELL_NOTE = (
    "Mean over seeds, plus or minus the half-width of the 95 % Student-t interval; "
    "bold only where the lead over every other arm reaches the smallest detectable effect."
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One printed score: its mean, the half-width of its interval (None with one seed), and whether it is bold."""

    text: str = NONE
    half: str | None = None
    bold: bool = False


def score_names(frame: pd.DataFrame) -> list[str]:
    """Return the score columns of a study in table order (without the cost columns)."""
    return [name for name in ordered(frame["metric"]) if name not in COSTS]


def main_metric(frame: pd.DataFrame, plan: Plan) -> str:
    """Return the score that a study is about."""
    return plan.claims[0].metric if plan.claims else score_names(frame)[0]


def score_heading(metric: str) -> str:
    """Return a score column's heading: its unit where it is not points, a down arrow where less is better."""
    text = display_name(metric) + " \N{DOWNWARDS ARROW}" * lower_is_better(metric)
    return text if unit(metric) == "points" else f"{text} ({unit(metric)})"


def cost_names(frame: pd.DataFrame) -> list[str]:
    """Return the cost columns that a study has."""
    present = set(frame["metric"])
    return [name for name in COSTS if name in present]


def cost_text(value: float | None, name: str) -> str:
    """Format one cost for people: 1.24 M, 3.1 G, 812 MB, 145, 63; a dash where there is none."""
    if value is None:
        return NONE
    kind = COSTS[name]
    if kind in ("image/s", "s"):
        return f"{value:.{0 if value >= 100 else 1}f}"
    suffix = "B" if kind == "byte" else ""
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            places = ".3g" if value < 999.5 * scale else ".0f"
            return f"{value / scale:{places}} {letter}{suffix}"
    return f"{value:.0f} {suffix}".strip()


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave overridden runs out of every arm that has others; an arm of nothing else keeps them (and is marked)."""
    clean = frame[~frame["overridden"]]
    return frame[~frame["overridden"] | ~frame["arm"].isin(clean["arm"])]


def values_behind(frame: pd.DataFrame, arm: str, metric: str) -> pd.DataFrame:
    """Return the rows of the tidy frame behind one arm's mean: those that are `counted` and have a value."""
    return counted(frame[(frame["arm"] == arm) & (frame["metric"] == metric)]).dropna(subset=["value"])


def arm_interval(frame: pd.DataFrame, arm: str, metric: str) -> Interval | None:
    """Return mean and 95 % t interval of one arm's metric over its replicates; None when there is no value."""
    values = values_behind(frame, arm, metric)["value"]
    return t_interval(values.to_numpy()) if len(values) else None


def summarise(frame: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Return one row an arm (floor first, ceiling last): arm, label, role, n, overridden, and for each metric its mean.

    Scores also have `<metric>_low`, `<metric>_high` (95 % t interval) and `<metric>_sd`, empty when n < 2.
    """
    arms = sorted(plan.arms, key=lambda arm: arm.role != "floor")
    rows = []
    for name, label, role in [*((arm.name, arm.label, arm.role) for arm in arms), ("ceiling",) * 3]:
        own = counted(frame[frame["arm"] == name])
        if own.empty:
            continue
        row: dict[str, Any] = {"arm": name, "label": label, "role": role, "n": int(own["replicate"].nunique()) or None}
        row["overridden"] = bool(own["overridden"].any())
        for metric in (*score_names(frame), *cost_names(frame)):
            found = arm_interval(frame, name, metric)
            row[metric] = found and found.mean
            if metric not in COSTS:
                row |= {f"{metric}_{part}": found and getattr(found, part) for part in ("low", "high", "sd")}
        rows.append(row)
    return pd.DataFrame(rows).astype({"n": "Int64"})


def best_arms(frame: pd.DataFrame, plan: Plan, floors: Mapping[str, NoiseFloor] | None = None) -> dict[str, str]:
    """Return metric -> the arm whose lead over every other arm exceeds the noise, where there is one.

    Its interval excludes zero, and it reaches the minimum detectable effect (`gitbench.judge.noise.detectable`; `floors`
    are those of the study's profile and data, where they were measured).
    """
    arms = [arm.name for arm in plan.arms if arm.role == "arm"]
    found: dict[str, str] = {}
    for metric in (name for name in score_names(frame) if name not in (*DESCRIPTIVE, *FIT)):
        rows = counted(frame[(frame["metric"] == metric) & frame["arm"].isin(arms)]).dropna(subset=["value"])
        by_arm = {str(arm): by_replicate(own) for arm, own in rows.groupby("arm")}
        if len(by_arm) < 2 or min(map(len, by_arm.values())) < 2:
            continue
        sign = quality_sign(metric)
        best = max(by_arm, key=lambda arm: sign * by_arm[arm].mean())
        pairs = [paired_difference(by_arm[best], by_arm[other]) for other in by_arm if other != best]
        if all(pair is not None and _leads(pair, metric, sign, floors) for pair in pairs):
            found[metric] = best
    return found


def _leads(pair: PairedDifference, metric: str, sign: int, floors: Mapping[str, NoiseFloor] | None) -> bool:
    """Tell whether a lead is above zero with its whole interval, and above the noise."""
    found = pair.interval
    lead = found.low if sign > 0 else found.high
    return lead is not None and sign * lead > 0 and detectable(found.mean, metric, floors, found.n, found.sd)
