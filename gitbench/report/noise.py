"""The report of a noise floor: one table (CSV, Markdown) and one figure, the differences of pseudo-arms by metric."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gitbench.files import write_text
from gitbench.judge.aa import splits
from gitbench.judge.noise import NoiseFloor
from gitbench.report.style import INK, PAGE, PALETTE, save, style
from gitbench.scores import HEADLINE, SCORES, digits, display_name, unit

COLUMNS = 3  # panels in a row of the figure


def noise_table(floors: Mapping[str, NoiseFloor]) -> pd.DataFrame:
    """Return one row a metric: mean, sd with interval, MDE from A/A, and the judge's error rates."""
    rows = []
    for floor in floors.values():
        rows.append(
            {
                "metric": floor.metric,
                "unit": unit(floor.metric),
                "replicates": floor.n,
                "mean": floor.mean,
                "sd": floor.sd,
                "sd_low": floor.sd_low,
                "sd_high": floor.sd_high,
                "seeds": floor.seeds,
                "mde": floor.mde,
                "false_positive_rate": floor.false_positive_rate,
                "judged": floor.judged,
                "better_rate": floor.better_rate,
                "different_rate": floor.different_rate,
                "splits": floor.splits,
                "note": floor.note,
                "signature": floor.signature,
            }
        )
    return pd.DataFrame(rows)


def pair_table(floors: Mapping[str, NoiseFloor]) -> pd.DataFrame:
    """Return one row a metric and pair of real arms: pairs, sd of their difference, and the MDE that it gives."""
    columns = ["metric", "study", "treatment", "reference", "pairs", "sd", "seeds", "mde"]
    rows = [
        (floor.metric, pair.study, pair.treatment, pair.reference, pair.n, pair.sd, floor.seeds, pair.mde)
        for floor in floors.values()
        for pair in floor.pairs
    ]
    return pd.DataFrame(rows, columns=columns)


def noise_markdown(floors: Mapping[str, NoiseFloor], profile: str, data: str) -> str:
    """Return the noise floor as Markdown: what it is, a row a metric, a row a pair of real arms."""
    some = next(iter(floors.values()))
    lines = [
        f"**Noise floor** ({data}, {profile} profile): {some.n} replicates of one arm, which differ in their seed alone.",
        "",
        "sd: standard deviation between replicates, with its 95 % chi-square interval. MDE: the true difference that a "
        f"two-sided paired t-test at 5 % finds with 80 % power at {some.seeds} seeds an arm, if pairing does not help "
        f"(sd times \N{SQUARE ROOT}2). False SUPPORTED: how often the judge finds one half of the replicates better than the "
        f"other ({_count(some.judged)} splits judged a metric); better, different: the same by the t rules alone, one-sided "
        f"and two-sided, over {_count(some.splits)} splits. All should be near 5 %; splits share replicates, so a rate is "
        "only as sure as these few replicates make it.",
        "",
        "| metric | mean | sd (95 %) | MDE | false SUPPORTED | better | different |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for floor in (floor for floor in floors.values() if floor.metric in SCORES):  # parts of a score are in the CSV
        places = digits((floor.sd,))
        rate = "\N{EN DASH}" if floor.false_positive_rate is None or floor.note else _percent(floor.false_positive_rate)
        lines.append(
            f"| {_heading(floor.metric)} | {floor.mean:.{digits((floor.mean,))}f} | {floor.sd:.{places}f} "
            f"({floor.sd_low:.{places}f} to {floor.sd_high:.{places}f}) | {floor.mde:.{places}f} | {rate} | "
            f"{_percent(floor.better_rate)} | {_percent(floor.different_rate)} |"
        )
    for note in dict.fromkeys(floor.note for floor in floors.values() if floor.note):
        metrics = ", ".join(display_name(floor.metric) for floor in floors.values() if floor.note == note)
        lines += ["", f"Not judged in some or all splits, {metrics}: {note}."]
    first = next((floor for floor in floors.values() if floor.pairs), None)
    pairs = [(first, pair) for pair in first.pairs] if first else []
    if pairs:
        lines += [
            "",
            "Real arms, paired by replicate: what the shared replicate leaves of the noise (other metrics: `pairs.csv`).",
            "",
            f"| metric | arms | pairs | sd of the difference | without pairing | MDE, {some.seeds} seeds |",
            "|---|---|---:|---:|---:|---:|",
        ]
    for floor, pair in pairs:
        places = digits((floor.sd,))
        lines.append(
            f"| {_heading(floor.metric)} | {pair.study}: {pair.treatment} \N{MINUS SIGN} {pair.reference} | {pair.n} | "
            f"{pair.sd:.{places}f} | {2**0.5 * floor.sd:.{places}f} | {pair.mde:.{places}f} |"
        )
    return "\n".join(lines) + "\n"


def noise_figure(floors: Mapping[str, NoiseFloor]) -> Figure:
    """Draw for each headline metric a histogram of the differences of pseudo-arms, with zero and the MDE as lines."""
    shown = [floor for floor in floors.values() if floor.metric in HEADLINE] or list(floors.values())
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(PAGE, 0.5 + 1.95 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).reshape(-1)
    for axes, floor in zip(panels, shown, strict=False):
        _panel(axes, floor)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    first = shown[0]
    figure.supxlabel(
        f"difference of two halves of one arm's {first.n} replicates, {first.seeds} seeds each; dashed: MDE",
        fontsize=9,
        color=INK,
    )
    return figure


def _panel(axes: Axes, floor: NoiseFloor) -> None:
    values = np.asarray(floor.values)
    chosen = splits(floor.n, floor.seeds)
    differences = (values[chosen[:, :, 0]] - values[chosen[:, :, 1]]).mean(axis=1)
    reach = 1.08 * max(floor.mde, float(np.abs(differences).max())) or 1.0
    bins = np.linspace(-reach, reach, 34)
    weights = np.full(len(differences), 100 / len(differences))
    axes.hist(differences, bins=list(bins), weights=list(weights), color=PALETTE[0], alpha=0.85)
    axes.axvline(0, color=INK, lw=0.8)
    for edge in (-floor.mde, floor.mde):
        axes.axvline(edge, color=PALETTE[1], lw=1.2, ls=(0, (4, 2)))
    places = digits((floor.mde,))
    axes.set_title(f"{display_name(floor.metric)}, MDE {floor.mde:.{places}f}")
    axes.set_xlabel(unit(floor.metric))
    axes.set_ylabel("% of splits")
    axes.set_xlim(-reach, reach)


def write_noise_report(folder: Path, floors: Mapping[str, NoiseFloor], *, profile: str, data: str) -> list[str]:
    """Write `noise_floor.csv`, `.md`, `.svg`, `.pdf`, `.png` and `pairs.csv` into a folder; returns the file names."""
    write_text(folder / "noise_floor.csv", noise_table(floors).to_csv(index=False, lineterminator="\n"))
    write_text(folder / "pairs.csv", pair_table(floors).to_csv(index=False, lineterminator="\n"))
    write_text(folder / "noise_floor.md", noise_markdown(floors, profile, data))
    with style():
        figure = noise_figure(floors)
    return ["noise_floor.csv", "pairs.csv", "noise_floor.md", *save(figure, folder, "noise_floor")]


def _heading(metric: str) -> str:
    name = display_name(metric)
    return name if unit(metric) == "points" else f"{name} ({unit(metric)})"


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _count(number: int) -> str:
    return f"{number:,}"
