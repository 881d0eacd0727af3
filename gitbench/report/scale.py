"""Ours over the amount of data, and the paper's Figure 4 beside it, panel by panel.

The paper's panels are digitised (confidence code D), from other data sets, other models and four orders of magnitude more
images. Each therefore has axes of its own: nothing of theirs stands on an axis of ours. What can be compared is the shape.
Our encoders and theirs share a colour and a marker by rank (smallest to largest), not because they are the same.
"""

from __future__ import annotations

import re

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gitbench.report.figures import draw_scores
from gitbench.report.paper import paper_rows
from gitbench.report.style import COLUMN, FAINT, PAGE, TEXT, nth_style
from gitbench.report.view import Content

_MODEL = re.compile(r"(?P<model>\w+) \((?P<amount>[\d.]+)(?P<unit>[MB]) images\)")
_UNITS = {"M": 1e6, "B": 1e9}


def figure_4() -> pd.DataFrame:
    """Return the paper's Figure 4: size, images, benchmark, metric, value, error (numbers), in the paper's order."""
    rows = paper_rows(table="Figure 4")
    found = rows["model"].str.extract(_MODEL)
    return pd.DataFrame(
        {
            "size": found["model"],
            "amount": found["amount"] + found["unit"],
            "images": found["amount"].astype(float) * found["unit"].map(_UNITS),
            "benchmark": rows["benchmark"],
            "metric": rows["metric"],
            "value": rows["value"].astype(float),
            "error": rows["error"].astype(float),
            "unit": rows["unit"],
        }
    )


def scale_figure(content: Content, metric: str, width: float = PAGE) -> Figure | None:
    """Draw our scores over the amount of data and the three panels of Figure 4; None where the paper has no such figure."""
    if "figure_4" not in set(content.paper_claims["numbers"]):
        return None
    tall = width == COLUMN  # one panel below the other
    height = 2.35 * 4 if tall else 5.6 if width == PAGE else 0.72 * TEXT
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(*((4, 1) if tall else (2, 2))).ravel()
    draw_scores(panels[0], content, metric)
    panels[0].set_title(f"here: {content.study.data}, {content.study.profile}", weight="bold", pad=12)
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(loc="best")
    theirs = figure_4()
    for axes, (benchmark, rows) in zip(panels[1:], theirs.groupby("benchmark", sort=False), strict=True):
        _paper_panel(axes, str(benchmark), rows)
    panels[2].legend(loc="lower right")  # every line rises there: the corner is free
    return figure


def _paper_panel(axes: Axes, benchmark: str, rows: pd.DataFrame) -> None:
    """Draw one panel of Figure 4, with the error of reading it off as bars."""
    for index, (size, line) in enumerate(rows.groupby("size", sort=False)):
        colour, marker, dashes = nth_style(index)
        axes.errorbar(
            line["images"],
            line["value"],
            yerr=line["error"],
            color=colour,
            marker=marker,
            mfc="none",
            ms=5,
            lw=1.1,
            ls=dashes,
            capsize=2,
            label=size,
        )
    axes.set_xscale("log")
    axes.minorticks_off()
    ticks = rows.drop_duplicates("images")
    axes.set_xticks(ticks["images"], ticks["amount"])
    axes.set_xlabel("pre-training images (log scale)")
    axes.set_ylabel(f"{rows['metric'].iloc[0]} ({rows['unit'].iloc[0]})")
    axes.set_title(f"the paper: {benchmark}, digitised \N{PLUS-MINUS SIGN}{rows['error'].iloc[0]:g}", weight="bold")
    axes.grid(axis="y")
    axes.margins(x=0.1)
    for spine in ("left", "bottom"):
        axes.spines[spine].set_color(FAINT)
        axes.spines[spine].set_linestyle((0, (4, 2)))  # an axis of theirs
