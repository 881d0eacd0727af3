"""The report of a noise floor: one table (CSV, Markdown) and one figure, the differences of pseudo-arms by metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gitbench.files import write_text
from gitbench.formats import digits
from gitbench.judge.aa import pseudo_arms
from gitbench.judge.noise import NoiseFloor
from gitbench.metric_info import HEADLINE, SCORES, display_name, unit
from gitbench.report.style import INK, PAGE, PALETTE, save, style
from gitbench.report.templates import render

PANELS = 3  # in a row of the figure
_COLUMNS = (
    *("metric", "unit", "replicates", "mean", "sd", "sd_low", "sd_high", "seeds", "mde", "false_positive_rate"),
    *("judged", "better_rate", "different_rate", "splits", "note", "signature"),
)
_PAIR_COLUMNS = ("metric", "study", "treatment", "reference", "pairs", "sd", "seeds", "mde")


def write_noise_report(folder: Path, floors: Mapping[str, NoiseFloor], *, profile: str, data: str) -> None:
    """Write the report into a folder: `noise_floor.csv`, `.md`, `.svg`, `.pdf`, `.png` and `pairs.csv`.

    The tables have one row a metric (mean, sd with interval, MDE from A/A, the judge's error rates), and one row a metric
    and pair of real arms (pairs, sd of their difference, and the MDE that it gives).
    """
    each = list(floors.values())
    rows = [asdict(floor) | {"unit": unit(floor.metric), "replicates": floor.n} for floor in each]
    pairs = [
        asdict(pair) | {"pairs": pair.n, "metric": floor.metric, "seeds": floor.seeds}
        for floor in each
        for pair in floor.pairs
    ]
    for name, lines, columns in (("noise_floor", rows, _COLUMNS), ("pairs", pairs, _PAIR_COLUMNS)):
        table = pd.DataFrame(lines, columns=list(columns))
        write_text(folder / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    shown = [floor for floor in each if floor.metric in SCORES]  # parts of a score are in the CSV
    paired = next((floor for floor in each if floor.pairs), None)
    text = render("noise.md.j2", profile=profile, data=data, floors=each, shown=shown, paired=paired)
    write_text(folder / "noise_floor.md", text)
    with style():
        save(noise_figure(floors), folder, "noise_floor")


def noise_figure(floors: Mapping[str, NoiseFloor]) -> Figure:
    """Draw for each headline metric a histogram of the differences of pseudo-arms, with zero and the MDE as lines."""
    shown = [floor for floor in floors.values() if floor.metric in HEADLINE] or list(floors.values())
    rows = -(-len(shown) // PANELS)
    figure = Figure(figsize=(PAGE, 0.5 + 1.95 * rows), layout="constrained")
    panels = figure.subplots(rows, PANELS, squeeze=False).reshape(-1)
    for axes, floor in zip(panels, shown, strict=False):
        _draw_differences(axes, floor)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    halves = f"two halves of one arm's {shown[0].n} replicates, {shown[0].seeds} seeds each"
    figure.supxlabel(f"difference of {halves}; dashed: MDE", fontsize=9, color=INK)
    return figure


def _draw_differences(axes: Axes, floor: NoiseFloor) -> None:
    values = np.asarray(floor.values)
    chosen = pseudo_arms(floor.n, floor.seeds)
    differences = (values[chosen[:, :, 0]] - values[chosen[:, :, 1]]).mean(axis=1)
    reach = 1.08 * max(floor.mde, float(np.abs(differences).max())) or 1.0
    bins = np.linspace(-reach, reach, 34)
    weights = [100 / len(differences)] * len(differences)
    axes.hist(differences, bins=list(bins), weights=weights, color=PALETTE[0], alpha=0.85)
    axes.axvline(0, color=INK, lw=0.8)
    for edge in (-floor.mde, floor.mde):
        axes.axvline(edge, color=PALETTE[1], lw=1.2, ls=(0, (4, 2)))
    places = digits((floor.mde,))
    axes.set_title(f"{display_name(floor.metric)}, MDE {floor.mde:.{places}f}")
    axes.set_xlabel(unit(floor.metric))
    axes.set_ylabel("% of splits")
    axes.set_xlim(-reach, reach)
