"""Scores over the size of the decoder or the amount of data, and the paper's Figure 4 beside them, panel by panel.

The paper's panels are digitised (confidence code D) from other data, other models and far more images: each has axes of
its own, and only shapes can be compared. Our encoders and theirs share a colour and a marker by rank, smallest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gitbench.metric_info import display_name, lower_is_better, unit
from gitbench.report.figures import arm_style
from gitbench.report.paper import figure_4, has_figure_4
from gitbench.report.style import COLUMN, FAINT, PAGE, TEXT, legend_columns, nth_style
from gitbench.report.tables import arm_interval, cost_text, values_behind
from gitbench.report.view import View


def score_figure(view: View, width: float = PAGE) -> Figure:
    """Draw the main metric of every seed, arm means with intervals, floor and ceiling as lines (see `draw_scores`)."""
    figure = Figure(figsize=(width, 3.9 if width == PAGE else 0.74 * width), layout="constrained")
    axes = figure.add_subplot()
    lines = draw_scores(axes, view)
    if lines > 1:
        columns = legend_columns(axes.get_legend_handles_labels()[1], width)
        figure.legend(loc="outside upper center", ncols=columns)
    return figure


def draw_scores(axes: Axes, view: View) -> int:
    """Draw one panel of scores and return how many lines it has.

    The horizontal axis is the number of training images where it varies, else the decoder's parameters where each arm
    has its own, else the arms by name. Arms that differ in the horizontal axis alone are joined by a line.
    """
    found = {arm.name: arm_interval(view.frame, arm.name, view.metric) for arm in view.plan.arms if arm.role == "arm"}
    scores = {arm: interval for arm, interval in found.items() if interval is not None}
    arms, styles = list(scores), arm_style(view.plan.arms)
    across, places = horizontal(view, arms)
    series, sizes = lines_of(view, arms, across), places
    if len(series) > 1:
        # side by side: arms with the same amount of data must not hide each other
        step, middle = 0.045 * np.ptp(np.log(list(places.values()))), (len(series) - 1) / 2
        rank = {arm: index for index, line in enumerate(series.values()) for arm in line}
        sizes = {arm: float(size * np.exp((rank[arm] - middle) * step)) for arm, size in places.items()}
        styles = {arm: nth_style(index) for arm, index in rank.items()}
    if across:
        axes.set_xscale("log")
    # the seeds stand beside their mean, not under its error bar
    shift = (0.035 if len(series) == 1 else 0.018) * _span(sizes.values(), across)
    for arm, interval in scores.items():
        (colour, marker, _), values = styles[arm], values_behind(view.frame, arm, view.metric)["value"]
        beside = float(sizes[arm] * np.exp(shift) if across else sizes[arm] + shift)
        axes.plot([beside] * len(values), values, marker, ms=4.5, mfc="none", mec=colour, mew=0.9, ls="none", zorder=2)
        half = None if interval.half_width is None else [[interval.half_width], [interval.half_width]]
        place = (sizes[arm], interval.mean)
        axes.errorbar(*place, yerr=half, fmt=marker, ms=5.5, color=colour, capsize=4, lw=1.3, zorder=3)
    for name, line in series.items() if across else ():  # between arms that are only names there is nothing
        colour, marker, dashes = styles[line[0]] if len(series) > 1 else (FAINT, "", "-")
        points = [sizes[arm] for arm in line], [scores[arm].mean for arm in line]
        axes.plot(*points, color=colour, lw=1.1, ls=dashes, marker=marker, ms=4.5, zorder=1, label=name)
    yardstick_lines(axes, view)
    axes.minorticks_off()
    if across == "training_images":
        amounts = sorted(set(places.values()))
        axes.set_xticks(amounts, [f"{amount:,.0f}" for amount in amounts])
        axes.set_xlabel("training images (log scale)")
    else:
        _arm_ticks(axes, arms, sizes, across)
    arrow = ", less is better" if lower_is_better(view.metric) else ""
    axes.set_ylabel(f"{display_name(view.metric)} ({unit(view.metric)}{arrow})")
    axes.grid(axis="y")
    return len(series)


def _span(sizes: Iterable[float], across: str | None) -> float:
    """Return how far apart the outermost arms are, on the axis that they are drawn on."""
    return float(np.ptp([np.log(size) if across else size for size in sizes])) or 1.0


def horizontal(view: View, arms: Sequence[str]) -> tuple[str | None, dict[str, float]]:
    """Return the quantity that the arms are drawn against, and its value for each arm."""
    for name in ("training_images", "decoder_parameters"):
        values = {arm: found.mean for arm in arms if (found := arm_interval(view.frame, arm, name))}
        different = len(set(values.values()))
        if len(values) == len(arms) and different > 1 and (name == "training_images" or different == len(arms)):
            return name, values
    return None, {arm: float(index) for index, arm in enumerate(arms)}


def lines_of(view: View, arms: Sequence[str], across: str | None) -> dict[str, list[str]]:
    """Group the arms into lines, by what they vary besides the amount of data."""
    if across != "training_images":
        return {"": list(arms)}
    lines: dict[str, list[str]] = {}
    for arm in view.plan.arms:
        if arm.name in arms:
            rest = ", ".join(variant for axis, variant in arm.variants.items() if axis != "amount")
            lines.setdefault(rest, []).append(arm.name)
    return lines


def yardstick_lines(axes: Axes, view: View) -> None:
    """Draw and label the blind floor and the ceiling; a ceiling far above all arms is named at the edge, not drawn.

    Far is further from the best arm than that is from the floor: the axis would be mostly empty.
    """
    frame, floor, ceiling = view.frame, view.level("floor"), view.level("ceiling")
    arms = frame.loc[(frame["role"] == "arm") & (frame["metric"] == view.metric), "value"].dropna()
    far = False
    if floor is not None and ceiling is not None and len(arms):
        best = float(arms.max() if ceiling > floor else arms.min())
        far = abs(ceiling - best) > abs(best - floor)
    words: Any = {"ha": "right", "va": "bottom", "size": "smaller", "color": FAINT, "textcoords": "offset points"}
    for name, level in (("blind floor", floor), ("ceiling", ceiling)):
        if level is None:
            continue
        said = f"{name} {level:.1f}" if abs(level) >= 10 else f"{name} {level:.3g}"
        if name == "ceiling" and far:
            arrow = "\N{UPWARDS ARROW}" if level > (floor or 0.0) else "\N{DOWNWARDS ARROW}"
            axes.annotate(f"{said}, off the axis {arrow}", (1, 1), xycoords="axes fraction", xytext=(0, 2), **words)
            continue
        axes.axhline(level, color=FAINT, lw=1, ls=(0, (4, 2)), zorder=0)
        axes.annotate(said, (1, level), xycoords=("axes fraction", "data"), xytext=(0, 3), **words)
    axes.margins(x=0.14, y=0.1)


def _arm_ticks(axes: Axes, arms: Sequence[str], sizes: dict[str, float], across: str | None) -> None:
    """Label the horizontal axis with each arm's name and size; a label too near its neighbour drops one line."""
    places = {arm: np.log(sizes[arm]) if across else sizes[arm] for arm in arms}
    order, span = sorted(arms, key=places.__getitem__), _span(sizes.values(), across)
    labels, dropped = [], False
    narrow = PAGE / axes.figure.get_figwidth()  # type: ignore[union-attr]
    for index, arm in enumerate(order):
        near = index > 0 and bool((places[arm] - places[order[index - 1]]) / span < 0.16 * narrow)
        dropped = near and not dropped
        labels.append("\n\n" * dropped + (f"{arm}\n{cost_text(sizes[arm], 'decoder_parameters')}" if across else arm))
    axes.set_xticks([sizes[arm] for arm in order], labels)
    if across:
        axes.set_xlabel("decoder parameters (log scale)")


def scale_figure(view: View, width: float = PAGE) -> Figure | None:
    """Draw our scores over the amount of data and the three panels of Figure 4; None where the paper has no such figure."""
    if not has_figure_4(view.plan.ablation):
        return None
    tall = width == COLUMN  # one panel below the other
    height = 2.35 * 4 if tall else 5.6 if width == PAGE else 0.72 * TEXT
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(*((4, 1) if tall else (2, 2))).ravel()
    draw_scores(panels[0], view)
    panels[0].set_title(f"here: {view.plan.data}, {view.plan.profile}", weight="bold", pad=12)
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
        look: Any = {"color": colour, "marker": marker, "mfc": "none", "ms": 5, "lw": 1.1, "ls": dashes, "capsize": 2}
        axes.errorbar(line["images"], line["value"], yerr=line["error"], label=size, **look)
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
