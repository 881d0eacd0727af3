"""The result table of a study as CSV (full precision) and Markdown, from one summary frame (`latex` makes it LaTeX).

A cell is the mean over replicates with the half-width of its 95 % Student-t interval. The best value of a column is
bold only where its paired difference from every other arm has an interval that excludes zero and reaches the minimum
detectable effect, so nothing below the noise is ever bold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gitbench.judge.claims import Verdict
from gitbench.judge.compare import PairedDifference, paired_difference
from gitbench.judge.intervals import Interval, t_interval
from gitbench.judge.noise import NoiseFloor, detectable
from gitbench.judge.words import measured_difference, verdict_clause
from gitbench.report.costs import cost_heading, cost_names, cost_text
from gitbench.report.view import counted
from gitbench.scores import COSTS, HEADLINE, digits, display_name, lower_is_better, ordered, unit
from gitbench.study.lock import LockDeviation
from gitbench.study.records import Study


def score_names(frame: pd.DataFrame) -> list[str]:
    """Return the score columns of a study in table order (without the cost columns)."""
    return [name for name in ordered(frame["metric"]) if name not in COSTS]


def headline_names(frame: pd.DataFrame) -> list[str]:
    """Return the scores that a printed table shows; all of them where a study has none of the usual ones."""
    names = score_names(frame)
    return [name for name in names if name in HEADLINE] or names


def arm_interval(frame: pd.DataFrame, arm: str, metric: str) -> Interval | None:
    """Return mean and 95 % t interval of one arm's metric over its replicates; None when there is no value."""
    values = counted(frame[(frame["arm"] == arm) & (frame["metric"] == metric)])["value"].dropna()
    return t_interval(values.to_numpy()) if len(values) else None


def summarise(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return one row an arm (floor first, ceiling last): arm, label, role, n, overridden, and for each metric its mean.

    Scores also have `<metric>_low`, `<metric>_high` (95 % t interval) and `<metric>_sd`, empty when n < 2.
    """
    arms = sorted(study.arms, key=lambda arm: arm.role != "floor")
    names = [(arm.name, arm.label, arm.role) for arm in arms] + [("ceiling", "ceiling", "ceiling")]
    rows = []
    for name, label, role in names:
        own = counted(frame[frame["arm"] == name])
        if own.empty:
            continue
        row: dict[str, Any] = {"arm": name, "label": label, "role": role, "n": int(own["replicate"].nunique()) or None}
        row["overridden"] = bool(own["overridden"].any())
        for metric in score_names(frame):
            found = arm_interval(frame, name, metric)
            row |= {metric: None, f"{metric}_low": None, f"{metric}_high": None, f"{metric}_sd": None}
            if found is not None:
                row |= {
                    metric: found.mean,
                    f"{metric}_low": found.low,
                    f"{metric}_high": found.high,
                    f"{metric}_sd": found.sd,
                }
        for metric in cost_names(frame):
            found = arm_interval(frame, name, metric)
            row[metric] = None if found is None else found.mean
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.astype({"n": "Int64"})


def best_arms(frame: pd.DataFrame, study: Study, floors: Mapping[str, NoiseFloor] | None = None) -> dict[str, str]:
    """Return metric -> the arm whose lead over every other arm exceeds the noise, where there is one.

    Its interval excludes zero, and it reaches the minimum detectable effect (`gitbench.judge.noise.detectable`; `floors`
    are those of the study's profile and data, where they were measured).
    """
    arms = [arm.name for arm in study.arms if arm.role == "arm" and arm.name in set(frame["arm"])]
    found: dict[str, str] = {}
    for metric in score_names(frame):
        rows = counted(frame[(frame["metric"] == metric) & frame["arm"].isin(arms)]).dropna(subset=["value"])
        by_arm = {
            arm: pd.Series(own["value"].to_numpy(), index=own["replicate"].astype(int))
            for arm, own in rows.groupby("arm")
        }
        if len(by_arm) < 2 or min(map(len, by_arm.values())) < 2:
            continue
        sign = -1 if lower_is_better(metric) else 1
        best = max(by_arm, key=lambda arm: sign * by_arm[arm].mean())
        pairs = [paired_difference(by_arm[best], by_arm[other]) for other in by_arm if other != best]
        leads = [None if pair is None else pair.interval.low if sign > 0 else pair.interval.high for pair in pairs]
        clear = all(lead is not None and sign * lead > 0 for lead in leads)
        if clear and all(pair is not None and _detectable(pair, metric, floors) for pair in pairs):
            found[metric] = str(best)
    return found


def _detectable(pair: PairedDifference, metric: str, floors: Mapping[str, NoiseFloor] | None) -> bool:
    return detectable(pair.interval.mean, metric, floors, pair.interval.n, pair.interval.sd)


def score_cells(
    frame: pd.DataFrame, study: Study, floors: Mapping[str, NoiseFloor] | None = None
) -> list[dict[str, Any]]:
    """Return the printed rows: arm, label, role, n, overridden, costs, and `cells` (text, half, bold) by metric."""
    table, best = summarise(frame, study), best_arms(frame, study, floors)
    places = {name: digits(table[name].dropna()) for name in score_names(frame)}
    rows = []
    for _, line in table.iterrows():
        cells = {}
        for name, decimals in places.items():
            if pd.isna(line[name]):
                cells[name] = {"text": "\N{EN DASH}", "half": None, "bold": False}
                continue
            half = None if pd.isna(line[f"{name}_high"]) else f"{line[f'{name}_high'] - line[name]:.{decimals}f}"
            cells[name] = {"text": f"{line[name]:.{decimals}f}", "half": half, "bold": best.get(name) == line["arm"]}
        rows.append(
            {
                "arm": line["arm"],
                "label": line["label"],
                "role": line["role"],
                "n": None if pd.isna(line["n"]) else int(line["n"]),
                "overridden": bool(line["overridden"]),
                "cells": cells,
                "costs": {
                    name: "\N{EN DASH}" if pd.isna(line[name]) else cost_text(name, line[name])
                    for name in cost_names(frame)
                },
            }
        )
    return rows


def csv_text(frame: pd.DataFrame, study: Study) -> str:
    """Return the summary as CSV: plain numbers in full precision, no thousands separators."""
    return summarise(frame, study).to_csv(index=False, lineterminator="\n")


def markdown_text(
    frame: pd.DataFrame,
    study: Study,
    verdicts: Sequence[Verdict],
    floors: Mapping[str, NoiseFloor] | None = None,
    dropped: Sequence[LockDeviation] = (),
) -> str:
    """Return scores, claims (those dropped since are named) and costs as Markdown tables."""
    rows, scores, costs = score_cells(frame, study, floors), headline_names(frame), cost_names(frame)
    lines = [f"**{study.title}** ({study.data}, {study.profile} profile). {CELL_NOTE}", ""]
    lines += markdown_rows(
        ["arm", "", "seeds", *map(heading, scores)],
        [
            [
                pipe(row["arm"]) + DAGGER * row["overridden"],
                pipe(row["label"]) * (row["role"] != "ceiling"),
                str(row["n"] or ""),
                *(_markdown_cell(row["cells"][name]) for name in scores),
            ]
            for row in rows
        ],
    )
    if any(row["overridden"] for row in rows):
        lines += ["", f"{DAGGER} changed by --cfg-options; enters no claim."]
    if verdicts:
        lines += [
            "",
            *markdown_rows(
                ["claim of the paper", "measured here", "verdict"],
                [
                    [
                        pipe(f'{each.claim.says} ("{each.claim.quote}", {each.claim.where}, {each.claim.confidence})'),
                        pipe(measured_difference(each)),
                        f"{each.word}: {pipe(verdict_clause(each))}.",
                    ]
                    for each in verdicts
                ],
            ),
        ]
    lines += [line for each in dropped for line in ("", f"Claim `{each.name}`: {each.what}.")]
    own = [row for row in rows if row["role"] != "ceiling"]
    lines += [
        "",
        *markdown_rows(
            ["arm", *map(cost_heading, costs)],
            [[pipe(row["arm"]), *(row["costs"][name] for name in costs)] for row in own],
        ),
    ]
    return "\n".join(lines) + "\n"


DAGGER = "\N{DAGGER}"
CELL_NOTE = (
    "Mean over seeds, plus or minus the half-width of the 95 % Student-t interval; "
    "bold only where the lead over every other arm reaches the smallest detectable effect."
)


def heading(metric: str) -> str:
    """Return a score column's heading: its unit where it is not points, a down arrow where less is better."""
    text = display_name(metric) + " \N{DOWNWARDS ARROW}" * lower_is_better(metric)
    return text if unit(metric) == "points" else f"{text} ({unit(metric)})"


def _markdown_cell(cell: dict[str, Any]) -> str:
    number = f"**{cell['text']}**" if cell["bold"] else cell["text"]
    return number if cell["half"] is None else f"{number} \N{PLUS-MINUS SIGN} {cell['half']}"


def markdown_rows(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table; numbers stand right where it has more than three columns."""
    rule = ["---"] + ["---:"] * (len(head) - 1) if len(head) > 3 else ["---"] * len(head)
    return [f"| {' | '.join(line)} |" for line in (head, rule, *rows)]


def pipe(text: object) -> str:
    """Return text that cannot break a cell of a Markdown table."""
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").split())
