"""Scores over what varies, over a second axis and over what they cost, and the paper's Figure 4 beside them.

The paper's panels are digitised (confidence code D) from other data, other models and far more images: each has axes of
its own, and only shapes can be compared. Our encoders and theirs share a colour and a marker by rank, smallest first.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gitbench.judge.statistics import Interval
from gitbench.metric_info import display_name, lower_is_better, unit
from gitbench.report.figures import arm_style
from gitbench.report.paper import figure_4, has_figure_4
from gitbench.report.style import COLUMN, FAINT, TEXT, legend_columns, legend_label, nth_style
from gitbench.report.tables import arm_interval, cost_text, values_behind
from gitbench.report.view import View

_TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"
_LOG = ("training_images", "decoder_parameters")  # what is drawn on a log scale
_COST_AXES = {"flops_per_image": "FLOPs per image", "seconds": "training and test, seconds a run"}
# of parts of a checkpoint that are trained; the memory of a process on a CPU is its libraries', most of it
_ADAPTED = {
    "state_bytes": "weights, gradients and optimizer, bytes",
    "seconds": _COST_AXES["seconds"],
    "stored_bytes": "stored beside the start, bytes",
}
_LOG_COSTS = ("stored_bytes",)


def score_figure(view: View, width: float = COLUMN) -> Figure | None:
    """Draw the main metric of every seed, arm means with intervals, floor and ceiling as lines (see `draw_scores`).

    None where the arms are crossed with a second axis: that is the `interaction_figure`.
    """
    return None if view.plan.crossed_with else _scores(view, width)


def interaction_figure(view: View, width: float = COLUMN) -> Figure | None:
    """Draw the same over the second axis that the arms are crossed with, one line for what else they vary."""
    return _scores(view, width) if view.plan.crossed_with else None


def _scores(view: View, width: float) -> Figure:
    figure = Figure(figsize=(width, 0.74 * width), layout="constrained")
    axes = figure.add_subplot()
    lines = draw_scores(axes, view)
    if lines > 1:
        _legend(figure, axes, width)
    return figure


def draw_scores(axes: Axes, view: View) -> int:
    """Draw one panel of scores and return how many lines it has.

    The horizontal axis is the number of training images where it varies, else the axis that the arms are crossed with,
    else the decoder's parameters where each arm has its own, else the arms. Arms that differ in it alone are joined.
    """
    found = {arm.name: arm_interval(view.frame, arm.name, view.metric) for arm in view.plan.arms if arm.role == "arm"}
    scores = {arm: interval for arm, interval in found.items() if interval is not None}
    arms, styles = list(scores), arm_style(view.plan.arms)
    across, places = horizontal(view, arms)
    series, sizes, log = lines_of(view, arms, across), places, across in _LOG
    if len(series) > 1:
        # side by side: arms with the same amount of data must not hide each other
        step, middle = 0.045 * _span(places.values(), log), (len(series) - 1) / 2
        rank = {arm: index for index, line in enumerate(series.values()) for arm in line}
        sizes = {arm: _moved(size, (rank[arm] - middle) * step, log) for arm, size in places.items()}
        styles = {arm: nth_style(index) for arm, index in rank.items()}
    if log:
        axes.set_xscale("log")
    # the seeds stand beside their mean, not under its error bar
    shift = (0.035 if len(series) == 1 else 0.018) * _span(sizes.values(), log)
    for arm, interval in scores.items():
        (colour, marker, _), values = styles[arm], values_behind(view.frame, arm, view.metric)["value"]
        beside = _moved(sizes[arm], shift, log)
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
    elif across == view.plan.crossed_with and across:
        names = {places[arm]: view.plan.arm(arm).labels[across] for arm in arms}
        axes.set_xticks(list(names), [textwrap.fill(name, 14) for name in names.values()])
        axes.set_xlabel(across.replace("_", " "))
    else:
        _arm_ticks(axes, view, arms, sizes, across)
    arrow = ", less is better" if lower_is_better(view.metric) else ""
    axes.set_ylabel(f"{display_name(view.metric)} ({unit(view.metric)}{arrow})")
    axes.grid(axis="y")
    return len(series)


def _span(sizes: Iterable[float], log: bool) -> float:
    """Return how far apart the outermost arms are, on the axis that they are drawn on."""
    return float(np.ptp([np.log(size) if log else size for size in sizes])) or 1.0


def _moved(size: float, step: float, log: bool) -> float:
    """Return a place a step to the right, the step as `_span` measures it."""
    return float(size * np.exp(step) if log else size + step)


def horizontal(view: View, arms: Sequence[str]) -> tuple[str | None, dict[str, float]]:
    """Return the quantity that the arms are drawn against, and its value for each arm."""
    crossed = view.plan.crossed_with
    for name in ("training_images", crossed, "decoder_parameters"):
        if name is None:
            continue
        if name == crossed:
            levels = [view.plan.arm(arm).labels.get(name, "") for arm in arms]
            order = {level: float(index) for index, level in enumerate(dict.fromkeys(levels))}
            return name, {arm: order[level] for arm, level in zip(arms, levels, strict=True)}
        values = {arm: found.mean for arm in arms if (found := arm_interval(view.frame, arm, name))}
        different = len(set(values.values()))
        if len(values) == len(arms) and different > 1 and (name == "training_images" or different == len(arms)):
            return name, values
    return None, {arm: float(index) for index, arm in enumerate(arms)}


def lines_of(view: View, arms: Sequence[str], across: str | None) -> dict[str, list[str]]:
    """Group the arms into lines, by what they vary besides the amount of data or the axis that they are crossed with."""
    if across not in ("training_images", view.plan.crossed_with) or across is None:
        return {"": list(arms)}
    lines: dict[str, list[str]] = {}
    for arm in view.plan.arms:
        if arm.name in arms:
            other = {axis: name for axis, name in arm.variants.items() if axis not in ("amount", across)}
            rest = ", ".join(arm.labels.get(axis, name) for axis, name in other.items())
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


def _arm_ticks(axes: Axes, view: View, arms: Sequence[str], sizes: dict[str, float], across: str | None) -> None:
    """Label the horizontal axis with each arm's label and size; one too near its neighbour drops below it."""
    places = {arm: np.log(sizes[arm]) if across else sizes[arm] for arm in arms}
    order, span = sorted(arms, key=places.__getitem__), _span(sizes.values(), bool(across))
    width = axes.figure.get_figwidth()  # type: ignore[union-attr]
    titles = [view.title(arm).replace(" \N{MULTIPLICATION SIGN} ", _TIMES) for arm in order]
    longest = max(len(word) for title in titles for word in title.split(" "))
    room = max(min(longest, 16), int(14 * width / COLUMN * 3 / max(3, len(arms))))  # letters
    labels, dropped, tallest = [], False, 0
    for index, (arm, title) in enumerate(zip(order, titles, strict=True)):
        near = index > 0 and bool((places[arm] - places[order[index - 1]]) / span < 0.38 * COLUMN / width * room / 14)
        dropped = near and not dropped
        size = [f"({cost_text(sizes[arm], 'decoder_parameters')})"] if across else []
        lines = [*textwrap.wrap(title, room), *size]
        labels.append("\n" * (tallest * dropped) + "\n".join(lines))
        tallest = 0 if dropped else len(lines)
    axes.set_xticks([sizes[arm] for arm in order], labels)
    if across:
        axes.set_xlabel("decoder parameters (log scale)")


def cost_figure(view: View, width: float = COLUMN) -> Figure | None:
    """Draw the main metric over what a run costs, a panel for each cost in which arms differ by 2 % or more.

    Means with the score's 95 % interval. Arms that differ in the second axis alone are joined. None where none differs.
    """
    arms = [arm.name for arm in view.arms if arm.role == "arm" and _score(view, arm.name)]
    known = _ADAPTED if view.plan.axis == "adaptation" else _COST_AXES
    costs = {name: _cost_of(view, arms, name) for name in known}
    costs = {name: own for name, own in costs.items() if len(own) > 1 and max(own.values()) > 1.02 * min(own.values())}
    if not costs:
        return None
    across, _ = horizontal(view, arms)
    series = lines_of(view, arms, across)
    if len(series) == 1:
        series = {view.title(arm): [arm] for arm in arms}
    tall = len(costs) > 2  # one panel below the other
    figure = Figure(figsize=(width, 1.6 * len(costs) if tall else 2.3), layout="constrained")
    shape = (len(costs), 1) if tall else (1, len(costs))
    panels = figure.subplots(*shape, sharey=True, squeeze=False).ravel()
    for axes, (name, places) in zip(panels, costs.items(), strict=True):
        for index, (title, line) in enumerate(series.items()):
            colour, marker, dashes = nth_style(index)
            found = [(places[arm], interval) for arm in line if arm in places and (interval := _score(view, arm))]
            reach = [interval.half_width or 0.0 for _, interval in found]
            points = [place for place, _ in found], [interval.mean for _, interval in found]
            look: Any = {"color": colour, "marker": marker, "ls": dashes, "ms": 5, "lw": 1.0, "capsize": 2.5}
            axes.errorbar(*points, yerr=reach, label=title, **look)
        axes.set_xlabel(known[name] if tall else textwrap.fill(known[name], 18))
        if name in _LOG_COSTS:
            axes.set_xscale("log")
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(lambda value, _, name=name: cost_text(value, name))
        axes.margins(x=0.15)
        axes.grid(axis="y")
    for axes in panels if tall else panels[:1]:
        axes.set_ylabel(f"{display_name(view.metric)} ({unit(view.metric)})")
    _legend(figure, panels[0], width)
    return figure


def _legend(figure: Figure, axes: Axes, width: float) -> None:
    """Put the legend of one panel above a figure."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [legend_label(label, width) for label in labels]
    figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns(labels, width))


def _score(view: View, arm: str) -> Interval | None:
    return arm_interval(view.frame, arm, view.metric)


def _cost_of(view: View, arms: Sequence[str], name: str) -> dict[str, float]:
    """Return arm -> its mean of one cost, where it has one above zero."""
    found = {arm: arm_interval(view.frame, arm, name) for arm in arms}
    return {arm: interval.mean for arm, interval in found.items() if interval is not None and interval.mean > 0}


def scale_figure(view: View, width: float = COLUMN) -> Figure | None:
    """Draw our scores over the amount of data and the three panels of Figure 4; None where the paper has no such figure."""
    if not has_figure_4(view.plan.ablation):
        return None
    tall = width == COLUMN  # one panel below the other
    height = 2.35 * 4 if tall else 0.72 * TEXT
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(*((4, 1) if tall else (2, 2))).ravel()
    draw_scores(panels[0], view)
    panels[0].set_title(f"here: {view.plan.data}, {view.plan.profile}", weight="bold", pad=12)
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(loc="best", frameon=True, framealpha=1, edgecolor="none")  # on top of floor and ceiling
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
