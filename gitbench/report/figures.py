"""The figures of a report: score against decoder size or amount of data, paired differences, loss curves.

Every seed is drawn; intervals are 95 % Student-t over seeds. Each is drawn at the width (inches) that it is asked for: the
page's, or that of one column of a paper. `style` says how figures look, `scale` draws the paper's panels beside ours.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gitbench.judge.claims import Verdict
from gitbench.report.costs import cost_text
from gitbench.report.style import COLUMN, FAINT, INK, PAGE, RULE, legend_columns, nth_style
from gitbench.report.tables import arm_interval
from gitbench.report.view import Content, arms_in_order, counted
from gitbench.scores import display_name, level_text, lower_is_better, orientation, unit
from gitbench.spec import Claim


def arm_style(content: Content) -> dict[str, tuple[str, str, Any]]:
    """Return arm -> (colour, marker, line style); the blind floor is grey, others take theirs in study order."""
    arms = [arm.name for arm in content.study.arms if arm.role != "floor"]
    styles = {name: nth_style(index) for index, name in enumerate(arms)}
    return styles | {arm.name: (FAINT, "x", (0, (1, 3))) for arm in content.study.arms if arm.role == "floor"}


def score_figure(content: Content, metric: str, width: float = PAGE) -> Figure:
    """Draw `metric` of every seed, arm means with intervals, floor and ceiling as lines (see `draw_scores`)."""
    figure = Figure(figsize=(width, 3.9 if width == PAGE else 0.74 * width), layout="constrained")
    axes = figure.add_subplot()
    lines = draw_scores(axes, content, metric)
    if lines > 1:
        columns = legend_columns(axes.get_legend_handles_labels()[1], width)
        figure.legend(loc="outside upper center", ncols=columns)
    return figure


def draw_scores(axes: Axes, content: Content, metric: str) -> int:
    """Draw one panel of scores and return how many lines it has.

    The horizontal axis is the number of training images where it varies, else the decoder's parameters where each arm
    has its own, else the arms by name. Arms that differ in the horizontal axis alone are joined by a line.
    """
    frame, styles = content.frame, arm_style(content)
    arms = [arm.name for arm in content.study.arms if arm.role == "arm" and arm_interval(frame, arm.name, metric)]
    across, sizes = horizontal(content, arms)
    by_size = across is not None
    series = lines_of(content, arms, across)
    if len(series) > 1:
        styles = {arm: nth_style(index) for index, line in enumerate(series.values()) for arm in line}
        sizes = _side_by_side(sizes, series)
    if by_size:
        axes.set_xscale("log")
    spread = np.ptp([np.log(size) if by_size else size for size in sizes.values()]) or 1.0
    for arm in arms:
        colour, marker, _ = styles[arm]
        values = counted(frame[(frame["arm"] == arm) & (frame["metric"] == metric)])["value"].to_numpy()
        shift = (
            0.035 if len(series) == 1 else 0.018
        ) * spread  # the seeds stand beside their mean, not under its error bar
        beside = sizes[arm] * np.exp(shift) if by_size else sizes[arm] + shift
        axes.plot([beside] * len(values), values, marker, ms=4.5, mfc="none", mec=colour, mew=0.9, ls="none", zorder=2)
        found = arm_interval(frame, arm, metric)
        assert found is not None
        half = [[found.half_width], [found.half_width]] if found.half_width is not None else None
        axes.errorbar(sizes[arm], found.mean, yerr=half, fmt=marker, ms=5.5, color=colour, capsize=4, lw=1.3, zorder=3)
    for name, line in series.items() if by_size else ():  # between arms that are only names there is nothing
        means = [arm_interval(frame, arm, metric).mean for arm in line]  # type: ignore[union-attr]
        colour, marker, dashes = styles[line[0]] if len(series) > 1 else (FAINT, "", "-")
        across_line = [sizes[arm] for arm in line]
        axes.plot(across_line, means, color=colour, lw=1.1, ls=dashes, marker=marker, ms=4.5, zorder=1, label=name)
    yardstick_lines(axes, frame, metric)
    if across == "training_images":
        _amount_ticks(axes, horizontal(content, arms)[1])
    else:
        _arm_ticks(axes, arms, sizes, by_size)
    arrow = ", less is better" if lower_is_better(metric) else ""
    axes.set_ylabel(f"{display_name(metric)} ({unit(metric)}{arrow})")
    axes.grid(axis="y")
    return len(series)


def _side_by_side(sizes: dict[str, float], series: dict[str, list[str]]) -> dict[str, float]:
    """Move the lines apart by a little, so that arms with the same amount of data do not hide each other."""
    step = 0.045 * np.ptp(np.log(list(sizes.values())))
    shifts = {arm: (index - (len(series) - 1) / 2) * step for index, line in enumerate(series.values()) for arm in line}
    return {arm: float(size * np.exp(shifts[arm])) for arm, size in sizes.items()}


def horizontal(content: Content, arms: Sequence[str]) -> tuple[str | None, dict[str, float]]:
    """Return the quantity that the arms are drawn against, and its value for each arm."""
    for name in ("training_images", "decoder_parameters"):
        values = {arm: found.mean for arm in arms if (found := arm_interval(content.frame, arm, name))}
        if name == "training_images":
            values |= {arm: float(content.amounts[arm]) for arm in arms if arm in content.amounts}
        different = len(set(values.values()))
        if len(values) == len(arms) and different > 1 and (name == "training_images" or different == len(arms)):
            return name, values
    return None, {arm: float(index) for index, arm in enumerate(arms)}


def lines_of(content: Content, arms: Sequence[str], across: str | None) -> dict[str, list[str]]:
    """Group the arms into lines, by what they vary besides the amount of data."""
    if across != "training_images":
        return {"": list(arms)}
    lines: dict[str, list[str]] = {}
    for arm in content.study.arms:
        if arm.name in arms:
            rest = ", ".join(variant for axis, variant in arm.variants.items() if axis != "amount")
            lines.setdefault(rest, []).append(arm.name)
    return lines


def _amount_ticks(axes: Axes, sizes: dict[str, float]) -> None:
    """Label the horizontal axis with the amounts of data."""
    axes.minorticks_off()
    amounts = sorted(set(sizes.values()))
    axes.set_xticks(amounts, [f"{amount:,.0f}" for amount in amounts])
    axes.set_xlabel("training images (log scale)")


def claim_sides(claim: Claim) -> tuple[str, ...]:
    """Return the sides of a claim as an axis names them; an interaction's are differences, a trend has one, its slope."""
    if claim.kind == "trend":
        return (f"slope over {', '.join(arm for arm, _ in claim.along)}",)
    if claim.kind == "threshold":
        return claim.treatment, level_text(claim)
    if claim.kind != "interaction":
        return claim.treatment, claim.reference
    return (
        f"({claim.treatment} \N{MINUS SIGN} {claim.treatment_from})",
        f"({claim.reference} \N{MINUS SIGN} {claim.reference_from})",
    )


def difference_figure(verdicts: Sequence[Verdict], width: float = PAGE) -> Figure:
    """Draw each claim's paired differences: every seed, mean with 95 % interval, zero, and the margin as a band."""
    row_height = 0.86 if width == PAGE else 0.62
    figure = Figure(figsize=(width, 0.75 + row_height * len(verdicts)), layout="constrained")
    axes = figure.add_subplot()
    for row, verdict in enumerate(verdicts):
        draw_evidence(axes, verdict, len(verdicts) - 1 - row, nth_style(row))
        axes.annotate(
            " \N{MINUS SIGN} ".join(claim_sides(verdict.claim)),
            (0, len(verdicts) - 1 - row + 0.42),
            xycoords=("axes fraction", "data"),
            va="center",
            ha="left",
        )
    for row in range(len(verdicts)):
        axes.plot([0, 0], [row - 0.36, row + 0.3], color=INK, lw=0.8)
    axes.set_yticks([])
    axes.set_ylim(-0.45, len(verdicts) - 0.35)
    metrics = list(dict.fromkeys(display_name(verdict.claim.metric) for verdict in verdicts))
    shaded = " (shaded: up to the margin)" * any(verdict.margin for verdict in verdicts)
    axes.set_xlabel(textwrap.fill(f"paired difference in {', '.join(metrics)}{shaded}", 60 if width == PAGE else 44))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure


def draw_evidence(axes: Axes, verdict: Verdict, height: float, look: tuple[str, str, Any]) -> None:
    """Draw one claim's evidence along y = `height`: seeds, mean and interval, the margin as a band."""
    values, (colour, marker, _) = verdict.differences, look
    if verdict.margin:
        sign = orientation(verdict.claim)
        low, high = (-verdict.margin if verdict.claim.kind == "equivalent" else 0.0), verdict.margin
        left, right = sorted((sign * low, sign * high))
        axes.fill_betweenx([height - 0.3, height + 0.28], left, right, color=RULE, alpha=0.6, lw=0)
        axes.plot([sign * high] * 2, [height - 0.3, height + 0.28], color=FAINT, lw=0.9, ls=(0, (4, 2)))
    axes.plot(values, [height + 0.14] * len(values), marker, ms=4, mfc="none", mec=colour, mew=0.9, ls="none")
    if verdict.difference is not None and verdict.interval is not None:
        reach = [[verdict.difference - verdict.interval[0]], [verdict.interval[1] - verdict.difference]]
        place = (verdict.difference, height - 0.12)
        axes.errorbar(*place, xerr=reach, fmt=marker, color=colour, ms=5.5, capsize=3.5, lw=1.4)


def curve_figure(content: Content, width: float = PAGE) -> Figure:
    """Draw training and validation loss of every arm: thin lines are seeds, thick ones their mean."""
    styles, curves = arm_style(content), content.curves
    splits = [split for split in ("train", "val") if (curves["split"] == split).any()]
    tall = width == COLUMN  # one panel above the other
    grid = (max(1, len(splits)), 1) if tall else (1, max(1, len(splits)))
    figure = Figure(figsize=(width, 1.0 + 1.7 * grid[0] if tall else 3.1), layout="constrained")
    panels = figure.subplots(*grid, squeeze=False).ravel()
    for axes, split in zip(panels, splits, strict=False):
        for arm in arms_in_order(content):
            rows = curves[(curves["split"] == split) & (curves["arm"] == arm.name)].dropna(subset=["loss"])
            if rows.empty:
                continue
            colour, marker, dashes = styles[arm.name]
            table = _binned(rows.pivot_table(index="iteration", columns="replicate", values="loss"))
            few = marker if len(table) <= 12 else None
            for replicate in table.columns:
                axes.plot(table.index, table[replicate], color=colour, lw=0.6, alpha=0.35)
            mean = table.mean(axis=1)
            axes.plot(table.index, mean, color=colour, lw=1.5, ls=dashes, marker=few, ms=4, label=arm.name)
        axes.set_title({"train": "training", "val": "validation"}[split])
        axes.grid(axis="y")
        if not tall or split == splits[-1]:
            axes.set_xlabel("iteration")
    for axes in panels if tall else panels[:1]:
        axes.set_ylabel("loss (nat/token)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns(labels, width))
    return figure


def yardstick_lines(axes: Axes, frame: pd.DataFrame, metric: str) -> None:
    """Draw and label the blind floor and the ceiling; a ceiling far above all arms is named at the edge, not drawn.

    Far is further from the best arm than that is from the floor: the axis would be mostly empty.
    """
    level = {
        role: float(values.mean())
        for role in ("floor", "ceiling")
        if len(values := frame.loc[(frame["role"] == role) & (frame["metric"] == metric), "value"].dropna())
    }
    arms = frame.loc[(frame["role"] == "arm") & (frame["metric"] == metric), "value"].dropna()
    far = False
    if len(level) == 2 and len(arms):
        best = float(arms.max() if level["ceiling"] > level["floor"] else arms.min())
        far = abs(level["ceiling"] - best) > abs(best - level["floor"])
    words: Any = {"ha": "right", "va": "bottom", "size": "smaller", "color": FAINT, "textcoords": "offset points"}
    for role, text in (("floor", "blind floor"), ("ceiling", "ceiling")):
        if role not in level:
            continue
        said = f"{text} {level[role]:.1f}" if abs(level[role]) >= 10 else f"{text} {level[role]:.3g}"
        if role == "ceiling" and far:
            arrow = "\N{UPWARDS ARROW}" if level["ceiling"] > level["floor"] else "\N{DOWNWARDS ARROW}"
            axes.annotate(f"{said}, off the axis {arrow}", (1, 1), xycoords="axes fraction", xytext=(0, 2), **words)
            continue
        axes.axhline(level[role], color=FAINT, lw=1, ls=(0, (4, 2)), zorder=0)
        axes.annotate(said, (1, level[role]), xycoords=("axes fraction", "data"), xytext=(0, 3), **words)
    axes.margins(x=0.14, y=0.1)


def _arm_ticks(axes: Axes, arms: Sequence[str], sizes: dict[str, float], by_size: bool) -> None:
    """Label the horizontal axis with each arm's name and size; a label too near its neighbour drops one line."""
    axes.minorticks_off()
    places = {arm: np.log(sizes[arm]) if by_size else sizes[arm] for arm in arms}
    order, span = sorted(arms, key=places.__getitem__), np.ptp(list(places.values())) or 1.0
    labels, dropped = [], False
    narrow = PAGE / axes.figure.get_figwidth()  # type: ignore[union-attr]
    for index, arm in enumerate(order):
        near = index > 0 and bool((places[arm] - places[order[index - 1]]) / span < 0.16 * narrow)
        dropped = near and not dropped
        labels.append("\n\n" * dropped + (f"{arm}\n{cost_text('decoder_parameters', sizes[arm])}" if by_size else arm))
    axes.set_xticks([sizes[arm] for arm in order], labels)
    if by_size:
        axes.set_xlabel("decoder parameters (log scale)")


def _binned(table: pd.DataFrame, most: int = 120) -> pd.DataFrame:
    """Average neighbouring points of a long curve until at most `most` are left, so that arms can be told apart."""
    if len(table) <= most:
        return table
    groups = np.arange(len(table)) * most // len(table)
    centres = pd.Series(table.index, dtype=float).groupby(groups).mean()
    return table.groupby(groups).mean().set_axis(pd.Index(centres, name="iteration"))
