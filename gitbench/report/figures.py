"""The figures of a report about arms and claims: paired differences, loss curves, captions with their images.

Every seed is drawn; intervals are 95 % Student-t over seeds. Widths are in inches.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gitbench.judge.verdict import Verdict
from gitbench.metric_info import display_name, orientation
from gitbench.report.samples import Sample
from gitbench.report.style import COLUMN, FAINT, INK, PAGE, RULE, legend_columns, nth_style
from gitbench.report.view import View
from gitbench.spec import Claim, PlannedArm


def arm_style(arms: Sequence[PlannedArm]) -> dict[str, tuple[str, str, Any]]:
    """Return arm -> (colour, marker, line style); the blind floor is grey, others take theirs in study order."""
    others = [arm.name for arm in arms if arm.role != "floor"]
    styles = {name: nth_style(index) for index, name in enumerate(others)}
    return styles | {arm.name: (FAINT, "x", (0, (1, 3))) for arm in arms if arm.role == "floor"}


def compared(claim: Claim) -> str:
    """Return what a claim compares as an axis names it: a difference of arms or of two differences, or a slope."""
    if claim.kind == "trend":
        return f"slope over {', '.join(arm for arm, _ in claim.along)}"
    minus = " \N{MINUS SIGN} "
    if claim.kind != "interaction":
        return claim.treatment + minus + claim.reference
    return f"({claim.treatment}{minus}{claim.treatment_from}){minus}({claim.reference}{minus}{claim.reference_from})"


def difference_figure(view: View, width: float = PAGE) -> Figure | None:
    """Draw each claim's paired differences: every seed, mean with 95 % interval, zero, and the margin as a band.

    None where no claim has any.
    """
    verdicts = [verdict for verdict in view.verdicts if verdict.differences]
    if not verdicts:
        return None
    row_height = 0.86 if width == PAGE else 0.62
    figure = Figure(figsize=(width, 0.75 + row_height * len(verdicts)), layout="constrained")
    axes = figure.add_subplot()
    for row, verdict in enumerate(verdicts):
        height = len(verdicts) - 1 - row
        draw_difference(axes, verdict, height, nth_style(row))
        axes.text(0, height + 0.42, compared(verdict.claim), transform=axes.get_yaxis_transform(), va="center")
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


def draw_difference(axes: Axes, verdict: Verdict, height: float, look: tuple[str, str, Any]) -> None:
    """Draw one claim's differences along y = `height`: seeds, mean and interval, the margin as a band."""
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


def curve_figure(view: View, width: float = PAGE) -> Figure:
    """Draw training and validation loss of every arm: thin lines are seeds, thick ones their mean."""
    styles, curves = arm_style(view.plan.arms), view.curves
    splits = [split for split in ("train", "val") if (curves["split"] == split).any()] or ["train"]
    tall = width == COLUMN  # one panel above the other
    grid = (len(splits), 1) if tall else (1, len(splits))
    figure = Figure(figsize=(width, 1.0 + 1.7 * grid[0] if tall else 3.1), layout="constrained")
    panels = figure.subplots(*grid, squeeze=False).ravel()
    for axes, split in zip(panels, splits, strict=True):
        for arm in view.arms:
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


def _binned(table: pd.DataFrame, most: int = 120) -> pd.DataFrame:
    """Average neighbouring points of a long curve until at most `most` are left, so that arms can be told apart."""
    if len(table) <= most:
        return table
    groups = np.arange(len(table)) * most // len(table)
    centres = pd.Series(table.index, dtype=float).groupby(groups).mean()
    return table.groupby(groups).mean().set_axis(pd.Index(centres, name="iteration"))


def prediction_figure(samples: Sequence[Sample]) -> Figure:
    """Draw each sample's image with references and captions beside it, two in a row; every sample must have its image."""
    texts = [_captions(sample) for sample in samples]
    heights = [
        max(1.45, 0.15 * max(len(text.splitlines()) for text in texts[at : at + 2])) for at in range(0, len(texts), 2)
    ]
    figure = Figure(figsize=(10.4, sum(heights) + 0.3), layout="constrained")
    panels = figure.subplots(
        len(heights), 4, width_ratios=(1, 2.8, 1, 2.8), height_ratios=heights, squeeze=False
    ).ravel()
    for axes in panels:
        axes.set_axis_off()
    for picture, words, sample, text in zip(panels[::2], panels[1::2], samples, texts, strict=False):
        assert sample.image is not None
        small = min(sample.image.shape[:2]) < 64
        picture.imshow(sample.image, interpolation="nearest" if small else "antialiased")
        picture.set_anchor("N")
        words.text(0, 1, text, va="top", size=7.4, transform=words.transAxes)
    return figure


def _captions(sample: Sample) -> str:
    """Return the wrapped lines beside an image: its id, the question, two references, then every arm's caption."""
    said = [f"image {sample.image_id}", *([f"question: {sample.question}"] if sample.question else [])]
    said += [f"reference: {each}" for each in sample.references[:2]]
    scores = ["" if each.score is None else f"  [{each.score:.0f}]" for each in sample.captions]
    said += [f"{each.arm}: {each.text}{score}" for each, score in zip(sample.captions, scores, strict=True)]
    return "\n".join(textwrap.fill(each, 62, max_lines=3) for each in said)
