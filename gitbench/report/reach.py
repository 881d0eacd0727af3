"""How far each arm got: its share of the way from blind floor to ceiling, and what it knows of its own training images alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from gitbench.formats import digits, plus_minus
from gitbench.judge.statistics import Interval, t_interval
from gitbench.metric_info import FIT, display_name, unit
from gitbench.metrics.aggregate import LOSS
from gitbench.plan import Plan
from gitbench.report.tables import NONE, arm_interval, counted, main_metric, score_heading

REACH_NOTE = (
    "How far each arm got: its score, how much of the way from the blind floor to the ceiling that is, and its loss. "
    "Gap: validation less training loss, measured alike when training ended, on all captions of the validation images and of "
    "as many of the arm's own training images (of all of them, where it has fewer): what it knows of these alone."
)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """A table: headings, and for each arm with a finished run (the blind floor first) its cells, as they are printed."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]  # name of the arm, cells


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The tables of several studies as one."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, str, str, tuple[str, ...]], ...]  # ablation, data and profile, arm, cells


def reach_of(frame: pd.DataFrame, plan: Plan) -> Reach:
    """Return how far the arms got by the study's main score, SceneF1 and likelihood; what no arm has is left out.

    Scores and losses are means over seeds, plus or minus the half-width of the 95 % Student-t interval; shares are of the
    means, and floor and ceiling are taken as known. The gap is validation less training loss, seed by seed.
    """
    ordered = sorted(plan.arms, key=lambda arm: arm.role != "floor")
    arms = [arm.name for arm in ordered if arm.name in set(frame["arm"])]
    floor = next((arm.name for arm in ordered if arm.role == "floor"), "")
    columns: dict[str, list[str]] = {}

    def add(heading: str, of_arm: Callable[[str], Interval | None]) -> None:
        found = [of_arm(arm) for arm in arms]
        places = digits(each.mean for each in found if each is not None)
        texts = [NONE if each is None else plus_minus(each.mean, each.half_width, places) for each in found]
        columns.setdefault(heading, texts)

    for name in (main_metric(frame, plan), "SceneF1"):
        add(score_heading(name), lambda arm, name=name: arm_interval(frame, arm, name))  # type: ignore[misc]
        columns.setdefault(
            f"{display_name(name)}: way to the ceiling", [_share(frame, arm, floor, name) for arm in arms]
        )
    for name in FIT:
        add(score_heading(name), lambda arm, name=name: arm_interval(frame, arm, name))  # type: ignore[misc]
    add(f"gap ({unit(FIT[0])})", lambda arm: _gap(frame, arm))
    add(score_heading(LOSS), lambda arm: arm_interval(frame, arm, LOSS))
    kept = {heading: texts for heading, texts in columns.items() if set(texts) != {NONE}}
    rows = tuple((arm, tuple(texts[at] for texts in kept.values())) for at, arm in enumerate(arms))
    return Reach(headings=tuple(kept), rows=rows)


def joined(tables: Mapping[tuple[str, str], Reach]) -> Joined:
    """Return the tables of several studies (ablation, data and profile) as one; a dash where a study has no such number."""
    headings = tuple(dict.fromkeys(heading for table in tables.values() for heading in table.headings))
    rows = []
    for study, table in tables.items():
        for arm, cells in table.rows:
            own = dict(zip(table.headings, cells, strict=True))
            rows.append((*study, arm, tuple(own.get(heading, NONE) for heading in headings)))
    return Joined(headings=headings, rows=tuple(rows))


def _share(frame: pd.DataFrame, arm: str, floor: str, metric: str) -> str:
    """Return how much of the way from blind floor to ceiling the mean of an arm is."""
    own, bottom, top = (arm_interval(frame, each, metric) for each in (arm, floor, "ceiling"))
    if own is None or bottom is None or top is None or top.mean == bottom.mean:
        return NONE
    return f"{100 * (own.mean - bottom.mean) / (top.mean - bottom.mean):.0f} %"


def _gap(frame: pd.DataFrame, arm: str) -> Interval | None:
    """Return the mean of validation less training loss over the seeds of an arm."""
    own = counted(frame[(frame["arm"] == arm) & frame["metric"].isin(FIT)])
    table = own.pivot_table(index="replicate", columns="metric", values="value").reindex(columns=list(FIT)).dropna()
    return t_interval(table["val_nll"] - table["train_nll"]) if len(table) else None
