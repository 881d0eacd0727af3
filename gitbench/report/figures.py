"""The figures of a report: score against decoder size, paired differences, loss curves, captions beside images.

Every seed is drawn; intervals are 95 % Student-t over seeds. Colours are Okabe and Ito's colour-blind-safe set, with a
different marker for each arm. Output is deterministic: fixed salt for SVG ids, no dates, text kept as text.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gitbench.files import atomic_path
from gitbench.judge.claims import Verdict
from gitbench.judge.scores import display_name, lower_is_better, unit
from gitbench.report.content import Content, Sample, arms_in_order, counted
from gitbench.report.costs import cost_text
from gitbench.report.tables import arm_interval
from gitbench.spec import Claim

INK, FAINT, RULE = "#1c1b19", "#6f6b63", "#dedad2"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "D", "^", "v", "P")
WIDTH = 6.4  # inches

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "gitbench",
    "text.parse_math": False,
    "axes.unicode_minus": True,
}


def style() -> AbstractContextManager[None]:
    """Return the context in which every figure of a report is drawn."""
    return matplotlib.rc_context(STYLE)


def arm_style(content: Content) -> dict[str, tuple[str, str]]:
    """Return arm -> (colour, marker); the blind floor is grey, other arms take the palette in study order."""
    arms = [arm.name for arm in content.study.arms if arm.role != "floor"]
    styles = {name: (PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(arms)}
    return styles | {arm.name: (FAINT, "x") for arm in content.study.arms if arm.role == "floor"}


def score_figure(content: Content, metric: str) -> Figure:
    """Draw `metric` of every seed, arm means with intervals, floor and ceiling as lines.

    The horizontal axis is the number of training images where it varies, else the decoder's parameters where each arm
    has its own, else the arms by name. Arms that differ in the horizontal axis alone are joined by a line.
    """
    frame, styles = content.frame, arm_style(content)
    arms = [arm.name for arm in content.study.arms if arm.role == "arm" and arm_interval(frame, arm.name, metric)]
    across, sizes = _horizontal(frame, arms)
    by_size = across is not None
    series = _series(content, arms, across)
    if len(series) > 1:
        styles = {
            arm: (PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)])
            for i, line in enumerate(series.values())
            for arm in line
        }
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.add_subplot()
    if by_size:
        axes.set_xscale("log")
    spread = np.ptp([np.log(size) if by_size else size for size in sizes.values()]) or 1.0
    for arm in arms:
        colour, marker = styles[arm]
        values = counted(frame[(frame["arm"] == arm) & (frame["metric"] == metric)])["value"].to_numpy()
        shift = 0.035 * spread  # the seeds stand beside their mean, not under its error bar
        beside = sizes[arm] * np.exp(shift) if by_size else sizes[arm] + shift
        axes.plot([beside] * len(values), values, marker, ms=4.5, mfc="none", mec=colour, mew=0.9, ls="none", zorder=2)
        found = arm_interval(frame, arm, metric)
        assert found is not None
        half = [[found.half_width], [found.half_width]] if found.half_width is not None else None
        axes.errorbar(sizes[arm], found.mean, yerr=half, fmt=marker, ms=5.5, color=colour, capsize=5, lw=1.4, zorder=3)
    for name, line in series.items():
        means = [arm_interval(frame, arm, metric).mean for arm in line]  # type: ignore[union-attr]
        colour = styles[line[0]][0] if len(series) > 1 else FAINT
        axes.plot([sizes[arm] for arm in line], means, color=colour, lw=0.8, zorder=1, label=name)
    _yardstick_lines(axes, frame, metric)
    if across == "training_images":
        _amount_ticks(axes, sizes)
    else:
        _arm_ticks(axes, arms, sizes, by_size)
    if len(series) > 1:
        figure.legend(loc="outside upper center", ncols=min(4, len(series)))
    arrow = ", less is better" if lower_is_better(metric) else ""
    axes.set_ylabel(f"{display_name(metric)} ({unit(metric)}{arrow})")
    axes.grid(axis="y")
    return figure


def _horizontal(frame: pd.DataFrame, arms: Sequence[str]) -> tuple[str | None, dict[str, float]]:
    """Return the quantity that the arms are drawn against, and its value for each arm."""
    for name in ("training_images", "decoder_parameters"):
        values = {arm: found.mean for arm in arms if (found := arm_interval(frame, arm, name))}
        different = len(set(values.values()))
        if len(values) == len(arms) and different > 1 and (name == "training_images" or different == len(arms)):
            return name, values
    return None, {arm: float(index) for index, arm in enumerate(arms)}


def _series(content: Content, arms: Sequence[str], across: str | None) -> dict[str, list[str]]:
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


def _sides(claim: Claim) -> tuple[str, str]:
    """Return the two sides of a claim as an axis names them; an interaction's are differences themselves."""
    if claim.kind != "interaction":
        return claim.treatment, claim.reference
    return (
        f"({claim.treatment} \N{MINUS SIGN} {claim.treatment_from})",
        f"({claim.reference} \N{MINUS SIGN} {claim.reference_from})",
    )


def difference_figure(verdicts: Sequence[Verdict]) -> Figure:
    """Draw each claim's paired differences: every seed, mean with 95 % interval, zero, and the margin as a band."""
    figure = Figure(figsize=(WIDTH, 1.15 + 0.75 * len(verdicts)), layout="constrained")
    axes = figure.add_subplot()
    for row, verdict in enumerate(verdicts):
        values = verdict.differences
        height, colour = len(verdicts) - 1 - row, PALETTE[row % len(PALETTE)]
        if verdict.margin:
            sign = -1 if lower_is_better(verdict.claim.metric) else 1
            low, high = (-verdict.margin if verdict.claim.kind == "equivalent" else 0.0), verdict.margin
            left, right = sorted((sign * low, sign * high))
            axes.fill_betweenx([height - 0.36, height + 0.36], left, right, color=RULE, alpha=0.5, lw=0)
            axes.plot([sign * high] * 2, [height - 0.36, height + 0.36], color=FAINT, lw=0.9, ls=(0, (4, 2)))
        axes.plot(values, [height + 0.2] * len(values), "o", ms=4.5, mfc="none", mec=colour, mew=0.9)
        if verdict.difference is not None and verdict.interval is not None:
            half = verdict.interval[1] - verdict.difference
            axes.errorbar(verdict.difference, height - 0.08, xerr=half, fmt="o", color=colour, ms=6, capsize=4, lw=1.4)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(range(len(verdicts)), ["\n\N{MINUS SIGN} ".join(_sides(v.claim)) for v in verdicts][::-1])
    axes.set_ylim(-0.5, len(verdicts) - 0.5)
    metrics = list(dict.fromkeys(display_name(verdict.claim.metric) for verdict in verdicts))
    axes.set_xlabel(f"paired difference in {', '.join(metrics)}; shaded: up to the margin")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure


def curve_figure(content: Content) -> Figure:
    """Draw training and validation loss of every arm: thin lines are seeds, thick ones their mean."""
    styles, curves = arm_style(content), content.curves
    splits = [split for split in ("train", "val") if (curves["split"] == split).any()]
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    panels = figure.subplots(1, max(1, len(splits)), squeeze=False)[0]
    for axes, split in zip(panels, splits, strict=False):
        for arm in arms_in_order(content):
            rows = curves[(curves["split"] == split) & (curves["arm"] == arm.name)].dropna(subset=["loss"])
            if rows.empty:
                continue
            colour, marker = styles[arm.name]
            table = _binned(rows.pivot_table(index="iteration", columns="replicate", values="loss"))
            few = marker if len(table) <= 12 else None
            for replicate in table.columns:
                axes.plot(table.index, table[replicate], color=colour, lw=0.6, alpha=0.35)
            axes.plot(table.index, table.mean(axis=1), color=colour, lw=1.7, marker=few, ms=4, label=arm.name)
        axes.set_title({"train": "training", "val": "validation"}[split])
        axes.set_xlabel("iteration")
        axes.grid(axis="y")
    panels[0].set_ylabel("loss (nat/token)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(6, max(1, len(labels))))
    return figure


def prediction_figure(samples: Sequence[Sample]) -> Figure:
    """Draw each sample's image with references and captions beside it; every sample must have its image."""
    columns = 2
    rows = -(-len(samples) // columns)
    blocks = [_caption_lines(sample) for sample in samples]
    line, gap = 0.148, 0.3  # inches a text line and between rows
    heights = [
        max(1.3, max(len(block) for block in blocks[row * columns : (row + 1) * columns]) * line) for row in range(rows)
    ]
    total = sum(heights) + gap * rows
    figure = Figure(figsize=(10.4, total))
    top = total - gap / 2
    for index, (sample, block) in enumerate(zip(samples, blocks, strict=True)):
        row, column = divmod(index, columns)
        if column == 0 and row:
            top -= heights[row - 1] + gap
        left = 0.1 + column * 5.2
        axes = figure.add_axes((left / 10.4, (top - 1.3) / total, 1.3 / 10.4, 1.3 / total))
        assert sample.image is not None
        axes.imshow(sample.image, interpolation="nearest" if min(sample.image.shape[:2]) < 64 else "antialiased")
        axes.set_axis_off()
        for number, (text, colour, weight) in enumerate(block):
            place = ((left + 1.42) / 10.4, (top - number * line) / total)
            figure.text(*place, text, va="top", size=7.4, color=colour, weight=weight)
    return figure


def save(figure: Figure, folder: Path, name: str) -> list[str]:
    """Write `<name>.svg`, `.pdf` and `.png` into `folder` and return the three file names."""
    blank = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    written = []
    for kind, metadata in blank.items():
        with matplotlib.rc_context(STYLE), atomic_path(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata, dpi=200)
        written.append(f"{name}.{kind}")
    return written


def svg_text(figure: Figure, salt: str) -> str:
    """Return a figure as SVG for embedding; `salt` keeps the ids of two figures on one page apart."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": f"gitbench {salt}", "savefig.transparent": True}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _yardstick_lines(axes: Axes, frame: pd.DataFrame, metric: str) -> None:
    """Draw and label the blind floor and the ceiling, leaving room above for the label."""
    for role, text in (("floor", "blind floor"), ("ceiling", "ceiling")):
        values = frame.loc[(frame["role"] == role) & (frame["metric"] == metric), "value"].dropna()
        if len(values):
            level = float(values.mean())
            axes.axhline(level, color=FAINT, lw=1, ls=(0, (4, 2)), zorder=0)
            axes.annotate(
                f"{text} {level:.1f}" if abs(level) >= 10 else f"{text} {level:.3g}",
                (1, level),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                va="bottom",
                size=8,
                color=FAINT,
            )
    axes.margins(x=0.14, y=0.1)


def _arm_ticks(axes: Axes, arms: Sequence[str], sizes: dict[str, float], by_size: bool) -> None:
    """Label the horizontal axis with each arm's name and size; a label too near its neighbour drops one line."""
    axes.minorticks_off()
    places = {arm: np.log(sizes[arm]) if by_size else sizes[arm] for arm in arms}
    order, span = sorted(arms, key=places.__getitem__), np.ptp(list(places.values())) or 1.0
    labels, dropped = [], False
    for index, arm in enumerate(order):
        near = index > 0 and bool((places[arm] - places[order[index - 1]]) / span < 0.16)
        dropped = near and not dropped
        labels.append("\n\n" * dropped + (f"{arm}\n{cost_text('decoder_parameters', sizes[arm])}" if by_size else arm))
    axes.set_xticks([sizes[arm] for arm in order], labels)
    axes.set_xlabel("decoder parameters (log scale)" if by_size else "arm")


def _binned(table: pd.DataFrame, most: int = 120) -> pd.DataFrame:
    """Average neighbouring points of a long curve until at most `most` are left, so that arms can be told apart."""
    if len(table) <= most:
        return table
    groups = np.arange(len(table)) * most // len(table)
    centres = pd.Series(table.index, dtype=float).groupby(groups).mean()
    return table.groupby(groups).mean().set_axis(pd.Index(centres, name="iteration"))


def _caption_lines(sample: Sample) -> list[tuple[str, str, str]]:
    """Return (text, colour, weight) lines: image id, two references, then every arm's caption, wrapped."""
    lines = [(f"image {sample.image_id}", FAINT, "normal")]
    if sample.given:
        lines += [(part, FAINT, "normal") for part in textwrap.wrap(f"question: {sample.given}", 62, max_lines=2)]
    for reference in sample.references[:2]:
        lines += [(part, FAINT, "normal") for part in textwrap.wrap(f"reference: {reference}", 62, max_lines=2)]
    for caption in sample.captions:
        score = "" if caption.score is None else f"  [{caption.score:.0f}]"
        wrapped = textwrap.wrap(f"{caption.arm}: {caption.text}{score}", 62, max_lines=3) or [f"{caption.arm}:"]
        lines += [(part, FAINT if caption.role == "floor" else INK, "normal") for part in wrapped]
    return lines
