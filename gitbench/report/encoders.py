"""The page of the encoders that ship: how each was made, what it sees, and what it saw on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gitbench.encoders.manifest import Entry
from gitbench.encoders.quality import MEASURED, final, floor
from gitbench.files import write_text
from gitbench.formats import duration
from gitbench.report.style import PAGE, nth_style, save, style
from gitbench.report.templates import render

FAILED = "failed.md"  # written by hand beside the page: what was tried and did not help
_LEGEND = 0.1  # inches an encoder


def write_encoder_page(folder: Path, entries: Mapping[str, Entry]) -> Path:
    """Write `README.md`, the curves and the quality against training time into a folder; returns the page."""
    with style():
        save(curves_figure(entries), folder, "curves")
        save(quality_figure(entries), folder, "quality")
    failed = folder / FAILED
    rows = [_row(entry) for entry in entries.values()]
    text = render(
        "encoders.md.j2",
        measured=MEASURED,
        rows=rows,
        tested=next(iter(entries.values())).notes["tested"] if entries else {},
        failed=failed.read_text(encoding="utf-8").strip() if failed.is_file() else "",
    )
    write_text(folder / "README.md", text)
    return folder / "README.md"


def _row(entry: Entry) -> dict[str, Any]:
    recipe, notes = entry.recipe, entry.notes
    amount = f"{recipe.iterations:,} \N{MULTIPLICATION SIGN} {recipe.batch_images} images of {recipe.images:,}"
    return {
        "name": entry.name,
        "how": f"{recipe.objective}, {amount}",
        "took": duration(notes["seconds"]),
        "precision": notes["precision"],
        "machine": notes["machine"],
        "content": entry.content[:12],
        "recipe": notes["recipe"],
        "loss": notes["curve"][-1][1],
        "final": _percent(final(notes)),
        "floor": _percent(floor(notes)),
    }


def _percent(shares: Mapping[str, float]) -> list[str]:
    return [f"{100 * shares[name]:.1f}" if name in shares else "" for name in MEASURED]


def curves_figure(entries: Mapping[str, Entry]) -> Figure:
    """Draw the loss against the iteration, one panel an objective: their losses have no common scale."""
    objectives = list(dict.fromkeys(entry.recipe.objective for entry in entries.values()))
    height = 2.2 + _LEGEND * len(entries)
    figure = Figure(figsize=(PAGE, height), layout="constrained")
    panels = figure.subplots(1, max(1, len(objectives)), squeeze=False)[0]
    for axes, objective in zip(panels, objectives, strict=False):
        axes.set(title=objective, xlabel="iteration", ylabel="loss" if axes is panels[0] else "")
        axes.grid(axis="y")
    for place, entry in enumerate(entries.values()):
        colour, _, dashes = nth_style(place)
        axes = panels[objectives.index(entry.recipe.objective)]
        axes.plot(
            *zip(*entry.notes["curve"], strict=True), color=colour, linestyle=dashes, label=entry.name, linewidth=1.1
        )
    figure.legend(loc="outside lower left", ncols=2)
    return figure


def quality_figure(entries: Mapping[str, Entry]) -> Figure:
    """Draw each share right against the minutes of training, one panel a probe; the first point is the random encoder."""
    figure = Figure(figsize=(PAGE, 5.4 + _LEGEND * len(entries)), layout="constrained")
    panels = figure.subplots(3, 3, sharex=True, sharey=True).reshape(-1)
    for axes, name in zip(panels, MEASURED, strict=True):
        axes.set(title=name, ylim=(0, 100))
        axes.grid(axis="y")
        for place, entry in enumerate(entries.values()):
            points = [(point["seconds"] / 60, 100 * point[name]) for point in entry.notes["points"] if name in point]
            if points:
                colour, marker, dashes = nth_style(place)
                look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": dashes}
                axes.plot(*zip(*points, strict=True), **look, markersize=3, linewidth=1.1, label=entry.name)
    panels[3].set(ylabel="share right, %")
    panels[7].set(xlabel="minutes of training")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2)
    return figure
