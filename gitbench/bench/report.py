"""The result as files: bench.md to read, a chart (SVG, PDF, PNG), and bench.json, written last. No torch.

The chart is on a log scale: a bar from 1 (as fast as the peer) to the median ratio, its interval, and a mark at what
must be reached. Peers differ in colour and in hatch.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gitbench.bench.rows import Row, to_json
from gitbench.bench.workloads import WORKLOADS
from gitbench.files import make_dir, write_json, write_text
from gitbench.report.style import FAINT, INK, PAGE, PALETTE, save, style
from gitbench.report.templates import render

PEER_NAMES = {
    "hf": "Hugging Face",
    "hf-fused": "Hugging Face, fused AdamW",
    "official": "official code",
    "pycocoevalcap": "pycocoevalcap",
}
HATCHES = ("", "////", "....", "xxxx")
SCORE_NAMES = {
    "score-cider": "CIDEr-D",
    "score-bleu": "BLEU",
    "score-rouge": "ROUGE-L",
    "score-all": "the three scores",
}


def write_report(rows: Sequence[Row], made: dict[str, Any], folder: Path) -> Path:
    """Write all files of a result into a folder and return it; `made` is what `run_tasks` returns beside the rows."""
    make_dir(folder)
    save(chart(rows), folder, "bench")
    text = render("bench.md.j2", rows=rows, made=made, label=workload_label, peers=PEER_NAMES, median=statistics.median)
    write_text(folder / "bench.md", text)
    write_json(folder / "bench.json", {**made, "rows": [to_json(row) for row in rows]})
    return folder


def workload_label(row: Row, short: bool = False) -> str:
    """The workload of a row in words, or by its name (`short`), with its shape and texts."""
    known = WORKLOADS.get(row.workload)
    name = SCORE_NAMES.get(row.workload) or (known.doc if known and not short else row.workload)
    return ", ".join(filter(None, (name, row.shape, row.texts)))


def chart(rows: Sequence[Row]) -> Figure:
    """Draw all rows: one bar each, grouped by workload, on a log scale of ratios."""
    labels = [workload_label(row, short=True) for row in rows]
    groups = list(dict.fromkeys(labels))
    places = pd.Series([at + 0.7 * groups.index(label) for at, label in enumerate(labels)], index=labels, dtype=float)
    peers = list(dict.fromkeys(row.peer for row in rows))
    with style(PAGE):
        figure = Figure(figsize=(PAGE, 1.0 + 0.2 * len(rows) + 0.14 * len(groups)), layout="constrained")
        axes = figure.add_subplot()
        for row, place in zip(rows, places, strict=True):
            _bar(axes, place, row, peers.index(row.peer))
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.set_xscale("log")
        highest = max([1.0, *(max(row.interval.high, row.target or 0) for row in rows)])
        lowest = min([1.0, *(row.interval.low for row in rows)])
        axes.set_xlim(0.8 * lowest, 1.5 * highest)
        marks = [mark for mark in (0.1, 0.2, 0.5, 1, 2, 4, 8, 16, 32, 64) if 0.8 * lowest <= mark <= 1.5 * highest]
        axes.set_xticks(marks, [f"{mark:g}×" for mark in marks])
        axes.minorticks_off()
        axes.set_yticks(places.groupby(level=0, sort=False).mean(), groups)
        axes.set_ylim(-0.8, places.max() + 0.8)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.set_xlabel("times as fast as the peer (log scale)")
        handles, labels = axes.get_legend_handles_labels()
        legend = dict(zip(labels, handles, strict=True))  # one entry a peer
        figure.legend(legend.values(), legend, loc="outside upper left", ncols=min(3, len(legend)))
    return figure


def _bar(axes: Any, place: float, row: Row, peer: int) -> None:
    interval = row.interval
    axes.barh(
        place,
        row.ratio - 1,
        left=1,
        height=0.8,
        color=PALETTE[peer],
        hatch=HATCHES[peer],
        edgecolor="white",
        linewidth=0,
        label=PEER_NAMES[row.peer],
    )
    for colour, width in (("white", 3.0), (INK, 1.1)):  # the white one sets the line off from a dark bar
        axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=width, solid_capstyle="butt")
    axes.annotate(
        f"{row.ratio:.2f}",
        (max(interval.high, row.ratio, 1), place),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
        color=FAINT if row.target is None else INK,
    )
    if row.target is not None:
        ends = [place - 0.5, place + 0.5]
        axes.plot([row.target, row.target], ends, color="#000000", linewidth=2.2, label="must reach")
