"""The result as files: bench.md to read, a chart (SVG, PDF, PNG), and bench.json, written last. No torch.

The chart is on a log scale: a bar from 1 (as fast as the peer) to the median ratio, its interval, and a mark at what
must be reached. Peers differ in colour and in hatch.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gitbench.bench.rows import Row, to_json
from gitbench.bench.workloads import WORKLOADS
from gitbench.files import make_dir, write_json, write_text
from gitbench.report.style import FAINT, INK, PAGE, PALETTE, save, style

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
    write_text(folder / "bench.md", markdown(rows, made))
    write_json(folder / "bench.json", {**made, "rows": [to_json(row) for row in rows]})
    return folder


def markdown(rows: Sequence[Row], made: dict[str, Any]) -> str:
    """The result as a page: where it was made, every row with what must be reached, and what was checked."""
    device = ", ".join(made["gpus"]) or made["cpu"]
    revision = (made["git_revision"] or "unknown")[:12] + (" with changes" if made["git_dirty"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    lines = [
        "# Speed",
        "",
        "How many times as fast gitbench is as what a user would pick instead: the same weights, the same inputs, results",
        "found equal before anything was timed; both programs in one process, in turns. A training step is the model's,",
        "with its gradients and its optimizer: neither side reads data, clips or logs. Made by `gitbench bench`.",
        "",
        f"* {device}, {made['cpu_count']} cores, {made['threads']} threads (scores: 1); {made['started']}; "
        f"revision {revision}",
        f"* {versions}, Python {made['python']}",
        "",
        "![ratios](bench.png)",
        "",
        "| workload | against | ratio and interval | must reach | range | pairs | ours, s | theirs, s |",
        "|" + "---|" * 8,
        *map(_line, rows),
        "",
        "Ratio: median of the paired ratios (peer's time / ours). Interval: exact, of that median, from order statistics;",
        "95 % or more from six pairs on, with fewer the whole range and the coverage it has. Reached: the median, whatever",
        "the interval. Texts: `filled` all of full length; `captions` of the lengths of real captions (Flickr8k).",
        "",
        "## What was checked, and how it was run",
        "",
        *(f"* {row.name}: {'; '.join(filter(None, (row.checked, row.notes)))}" for row in rows),
        "",
    ]
    return "\n".join(lines)


def _line(row: Row) -> str:
    """One row of the table."""
    interval, seconds = row.interval, map(statistics.median, (row.ours_seconds, row.peer_seconds))
    level = "" if interval.level >= 0.95 else f", {100 * interval.level:.0f} %"
    ratio = f"{row.ratio:.2f} ({interval.low:.2f} to {interval.high:.2f}{level})"
    target = ""
    if row.target is not None:
        target = f"{row.target:g}: {'reached' if row.ratio >= row.target else '**not reached**'}"
    cells = [
        workload_label(row),
        PEER_NAMES.get(row.peer, row.peer),
        ratio if len(row.ratios) > 1 else f"{row.ratio:.2f} (one pair)",
        target,
        f"{min(row.ratios):.2f} to {max(row.ratios):.2f}",
        str(len(row.ratios)),
        *(f"{median:.3g}" for median in seconds),
    ]
    return f"| {' | '.join(cells)} |"


def workload_label(row: Row, short: bool = False) -> str:
    """The workload of a row in words, or by its name (`short`), with its shape and texts."""
    known = WORKLOADS.get(row.workload)
    name = SCORE_NAMES.get(row.workload) or (known.doc if known and not short else row.workload)
    return ", ".join(filter(None, (name, row.shape, row.texts)))


def chart(rows: Sequence[Row]) -> Figure:
    """Draw all rows: one bar each, grouped by workload, on a log scale of ratios."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(workload_label(row, short=True), []).append(row)
    peers = list(dict.fromkeys(row.peer for row in rows))
    with style(PAGE):
        figure = Figure(figsize=(PAGE, 1.0 + 0.2 * len(rows) + 0.14 * len(groups)), layout="constrained")
        axes = figure.add_subplot()
        place, ticks = 0.0, []
        for members in groups.values():
            ticks.append(place + (len(members) - 1) / 2)
            for row in members:
                _bar(axes, place, row, peers.index(row.peer))
                place += 1
            place += 0.7
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.set_xscale("log")
        highest = max([1.0, *(max(row.interval.high, row.target or 0) for row in rows)])
        lowest = min([1.0, *(row.interval.low for row in rows)])
        axes.set_xlim(0.8 * lowest, 1.5 * highest)
        marks = [mark for mark in (0.1, 0.2, 0.5, 1, 2, 4, 8, 16, 32, 64) if 0.8 * lowest <= mark <= 1.5 * highest]
        axes.set_xticks(marks, [f"{mark:g}×" for mark in marks])
        axes.minorticks_off()
        axes.set_yticks(ticks, list(groups))
        axes.set_ylim(-0.8, place - 0.9)
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
        color=PALETTE[peer % len(PALETTE)],
        hatch=HATCHES[peer % len(HATCHES)],
        edgecolor="white",
        linewidth=0,
        label=PEER_NAMES.get(row.peer, row.peer),
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
