"""The figures of a report about arms and claims: a forest plot, loss curves, captions with their images.

Every seed is drawn; intervals of differences are those that decide, of arms 95 % Student-t over seeds. Widths are in inches.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gitbench.judge.sentences import difference_text
from gitbench.judge.verdict import Verdict
from gitbench.metric_info import display_name, orientation
from gitbench.metric_info import unit as unit_of
from gitbench.plan import PlannedArm
from gitbench.report.samples import Sample, same_text
from gitbench.report.style import COLUMN, FAINT, INK, RULE, legend_columns, legend_label, nth_style
from gitbench.report.view import View
from gitbench.spec import Claim

FLOOR: tuple[str, str, Any] = (FAINT, "x", (0, (1, 3)))  # how the blind floor is drawn
LINE = 0.29  # a line of text above a claim, as a share of the strip that its differences are drawn in
TALLEST = 8.4  # inches: the height of a page's text


def arm_style(arms: Sequence[PlannedArm]) -> dict[str, tuple[str, str, Any]]:
    """Return arm -> (colour, marker, line style); the blind floor is grey, others take theirs in study order."""
    others = [arm.name for arm in arms if arm.role != "floor"]
    styles = {name: nth_style(index) for index, name in enumerate(others)}
    return styles | {arm.name: FLOOR for arm in arms if arm.role == "floor"}


def compared(claim: Claim) -> str:
    """Return what a claim compares as an axis names it: a difference of arms or of two differences."""
    if claim.kind == "trend":
        return f"{claim.treatment} \N{MINUS SIGN} {claim.reference}, over {', '.join(claim.along[1:-1])}"
    minus = " \N{MINUS SIGN} "
    if claim.kind != "interaction":
        return claim.treatment + minus + claim.reference
    return f"({claim.treatment}{minus}{claim.treatment_from}){minus}({claim.reference}{minus}{claim.reference_from})"


def forest_figure(view: View, width: float = COLUMN) -> Figure | None:
    """Draw all claims below each other: every seed's difference, mean with 95 % interval, zero, the margin as a band.

    Above each stand the claim, what it compares, and the numbers. One panel a metric, that of the likelihood for all claims;
    None where no claim has any seed.
    """
    groups: dict[str, list[Verdict]] = {}
    beside = [verdict.likelihood for verdict in view.verdicts if verdict.likelihood is not None]
    for verdict in (*view.verdicts, *beside):
        if verdict.differences:
            groups.setdefault(verdict.claim.metric, []).append(verdict)
    if not groups:
        return None
    letters = int((width - 0.25) / 0.0515)
    unit = 0.42  # inches: the strip of one claim, below its lines of text
    texts = {each.claim: _forest_lines(each, letters) for own in groups.values() for each in own}
    heights = [sum(1.15 + LINE * len(texts[each.claim]) for each in own) for own in groups.values()]
    figure = Figure(figsize=(width, unit * sum(heights) + 0.5 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), height_ratios=heights, squeeze=False).ravel()
    for axes, (metric, own), height in zip(panels, groups.items(), heights, strict=True):
        top = height
        for verdict in own:
            for index, (line, colour) in enumerate(texts[verdict.claim]):
                look: Any = {"transform": axes.get_yaxis_transform(), "va": "top", "color": colour}
                axes.text(0, top - LINE * index, line, **look)
            top -= LINE * len(texts[verdict.claim]) + 1.15
            draw_difference(axes, verdict, top + 0.65, nth_style(0))
            axes.plot([0, 0], [top + 0.3, top + 1.0], color=INK, lw=0.8)
        axes.set_ylim(0.1, height + 0.05)
        axes.set_yticks([])
        axes.set_xlabel(f"paired difference in {display_name(metric)} ({unit_of(metric)})")
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
    return figure


def _forest_lines(verdict: Verdict, letters: int) -> list[tuple[str, str]]:
    """Return the lines above a claim's differences, each with its colour; none longer than `letters`."""
    said = ((verdict.claim.says, INK), (compared(verdict.claim), FAINT), (difference_text(verdict, short=True), INK))
    return [(line, colour) for text, colour in said for line in textwrap.wrap(text, letters)]


def draw_difference(axes: Axes, verdict: Verdict, height: float, look: tuple[str, str, Any]) -> None:
    """Draw one claim's differences along y = `height`: seeds, mean and interval, the margin as a band."""
    values, (colour, marker, _) = verdict.differences, look
    if verdict.margin:
        sign = orientation(verdict.claim)
        low, high = (-verdict.margin if verdict.claim.kind == "equivalent" else 0.0), verdict.margin
        left, right = sorted((sign * low, sign * high))
        axes.fill_betweenx([height - 0.3, height + 0.28], left, right, color=RULE, alpha=0.6, lw=0)
        for edge in (sign * each for each in (low, high) if each):
            axes.plot([edge] * 2, [height - 0.3, height + 0.28], color=FAINT, lw=0.9, ls=(0, (4, 2)))
    axes.plot(values, [height + 0.14] * len(values), marker, ms=4, mfc="none", mec=colour, mew=0.9, ls="none")
    if verdict.difference is not None and verdict.interval is not None:
        reach = [[verdict.difference - verdict.interval[0]], [verdict.interval[1] - verdict.difference]]
        place = (verdict.difference, height - 0.12)
        axes.errorbar(*place, xerr=reach, fmt=marker, color=colour, ms=5.5, capsize=3.5, lw=1.4)


def curve_splits(view: View) -> list[str]:
    """Return the splits whose loss is drawn: those with more than one point; of arms that are crossed the last of them."""
    points = view.curves.groupby("split")["iteration"].nunique()
    splits = [split for split in ("train", "val") if points.get(split, 0) > 1] or ["train"]
    return splits[-1:] if view.levels else splits


def curve_figure(view: View, width: float = COLUMN) -> Figure:
    """Draw training and validation loss of every arm: the mean over seeds, and a band from the lowest to the highest.

    Arms that are crossed with a second axis get a panel for each of its levels, with the blind floor in all of them, of
    validation loss where that was measured more than once.
    """
    levels, splits = view.levels, curve_splits(view)
    panels = [(level, split) for level in levels or [""] for split in splits]
    titles = {arm.name: view.title_within(arm.name) for arm in view.arms}
    sighted = dict.fromkeys(titles[arm.name] for arm in view.arms if arm.role != "floor")
    styles = {title: nth_style(index) for index, title in enumerate(sighted)}
    styles |= {titles[arm.name]: FLOOR for arm in view.arms if arm.role == "floor"}
    labels = [legend_label(title, width) for title in styles]
    rows = -(-len(labels) // legend_columns(labels, width)) * max(label.count("\n") + 1 for label in labels)
    height = 0.14 * rows + 0.5 + (1.3 if levels else 1.7) * len(panels)
    figure = Figure(figsize=(width, height), layout="constrained")
    drawn = figure.subplots(len(panels), 1, squeeze=False, sharex=True).ravel()
    for axes, (level, split) in zip(drawn, panels, strict=True):
        for arm in view.arms:
            if arm.role == "floor" or not level or arm.labels.get(view.plan.crossed_with or "") == level:
                _draw_curve(axes, view, (arm.name, split), titles[arm.name], styles[titles[arm.name]])
        loss = {"train": "training", "val": "validation"}[split]
        axes.set_title(f"{level}: {loss}" if level else loss)
        axes.grid(axis="y")
        axes.set_ylabel("loss (nat/token)")
    drawn[-1].set_xlabel("iteration")
    lines = {line.get_label(): line for axes in drawn for line in axes.lines}
    names = [legend_label(name, width) for name in lines]
    figure.legend(list(lines.values()), names, loc="outside upper center", ncols=legend_columns(names, width))
    return figure


def _draw_curve(axes: Axes, view: View, which: tuple[str, str], title: str, look: tuple[str, str, Any]) -> None:
    """Draw one arm's loss of one split: mean and band over its seeds."""
    (arm, split), curves, (colour, marker, dashes) = which, view.curves, look
    rows = curves[(curves["split"] == split) & (curves["arm"] == arm)].dropna(subset=["loss"])
    if rows.empty:
        return
    table = _binned(rows.pivot_table(index="iteration", columns="replicate", values="loss"))
    few = marker if len(table) <= 12 else None
    spread = (table.min(axis=1), table.max(axis=1))
    axes.fill_between(table.index, *spread, color=colour, alpha=0.16, lw=0, zorder=1)
    axes.plot(table.index, table.mean(axis=1), color=colour, lw=1.3, ls=dashes, marker=few, ms=4, label=title)


def _binned(table: pd.DataFrame, most: int = 120) -> pd.DataFrame:
    """Average neighbouring points of a long curve until at most `most` are left, so that arms can be told apart."""
    if len(table) <= most:
        return table
    groups = np.arange(len(table)) * most // len(table)
    centres = pd.Series(table.index, dtype=float).groupby(groups).mean()
    return table.groupby(groups).mean().set_axis(pd.Index(centres, name="iteration"))


def prediction_figure(samples: Sequence[Sample], titles: Mapping[str, str]) -> Figure:
    """Draw images with a reference and what the arms say, in the width of a column; arms that say the same share a line.

    As many samples as fit on a page, at least one; every sample must have its image. `titles`: arm -> its label.
    """
    letter, line, picture = 0.055, 0.118, 0.8  # inches: a letter and a line of the text, the width of an image
    letters = int((COLUMN - picture - 0.15) / letter)
    drawn: list[tuple[Sample, list[tuple[str, str]], float]] = []
    for sample in samples:
        lines = _caption_lines(sample, titles, letters)
        height = max(picture, line * len(lines)) + 0.14
        if drawn and sum(each for *_, each in drawn) + height > TALLEST:
            break
        drawn.append((sample, lines, height))
    total = sum(height for *_, height in drawn)
    figure, top = Figure(figsize=(COLUMN, total)), total
    for sample, lines, height in drawn:
        assert sample.image is not None
        shape = sample.image.shape
        tall = min(picture * shape[0] / shape[1], height - 0.14)
        axes = figure.add_axes((0.03 / COLUMN, (top - 0.05 - tall) / total, picture / COLUMN, tall / total))
        axes.imshow(sample.image, interpolation="nearest" if min(shape[:2]) < 64 else "antialiased")
        axes.set_anchor("NW")
        axes.set_axis_off()
        for index, (text, colour) in enumerate(lines):
            place = ((picture + 0.12) / COLUMN, (top - 0.05 - line * index) / total)
            figure.text(*place, text, va="top", color=colour)
        top -= height
    return figure


def caption_sheet(samples: Sequence[Sample], width: float) -> Figure:
    """Draw four images a row, below each what the arm says of it, and the first reference. Every sample has its image."""
    letter, line, columns = 0.052, 0.112, 4  # inches: a letter and a line of the text
    room = width / columns
    letters = int((room - 0.1) / letter)
    texts = [
        [
            (part, colour)
            for text, colour in ((one.captions[0].text or "(empty)", INK), (one.references[0], FAINT))
            for part in textwrap.wrap(text, letters, max_lines=4)
        ]
        for one in samples
    ]
    tall = room + line * max(map(len, texts)) + 0.06
    rows = math.ceil(len(samples) / columns)
    figure = Figure(figsize=(width, rows * tall))
    for place, (sample, lines) in enumerate(zip(samples, texts, strict=True)):
        left, top = (place % columns) * room, (rows - place // columns) * tall
        side = room - 0.1
        axes = figure.add_axes((left / width, (top - side) / (rows * tall), side / width, side / (rows * tall)))
        assert sample.image is not None
        axes.imshow(sample.image, interpolation="nearest" if min(sample.image.shape[:2]) <= 64 else "antialiased")
        axes.set_axis_off()
        for index, (text, colour) in enumerate(lines):
            height = (top - side - 0.04 - line * index) / (rows * tall)
            figure.text(left / width, height, text, va="top", color=colour)
    return figure


def _caption_lines(sample: Sample, titles: Mapping[str, str], letters: int) -> list[tuple[str, str]]:
    """Return the lines beside an image, each with its colour: reference, question, then every caption below its arms."""
    said = [(f"image {sample.image_id}", FAINT), (f"reference: {sample.references[0]}", INK)]
    said += [(f"question: {sample.question}", INK)] if sample.question else []
    for text, captions in same_text(sample.captions):
        score = "" if captions[0].score is None else f"  [{captions[0].score:.0f}]"
        arms = (
            "all arms"
            if len(captions) == len(sample.captions) > 1
            else "; ".join(titles[each.arm] for each in captions)
        )
        said += [(f"{arms}:", FAINT), ((text or "(empty)") + score, INK)]
    return [(line, colour) for text, colour in said for line in textwrap.wrap(text, letters, max_lines=4)]
