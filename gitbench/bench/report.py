"""The result as files: bench.md to read, a chart (SVG, PDF, PNG), and bench.json, written last. No torch.

The chart is on a log scale: a bar from 1 (as fast as the peer) to the median ratio, its interval, and a mark at what
must be reached. Peers differ in colour and in hatch.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from gitbench.bench.plan import WORKS
from gitbench.bench.rows import Row
from gitbench.bench.run import Result, result_json
from gitbench.bench.targets import GPU_SHARE, reached, target_of
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
    "score-cider-cached": "CIDEr-D, frequencies kept",
}


def write_report(result: Result, folder: Path) -> Path:
    """Write all files of a result into a folder and return it."""
    make_dir(folder)
    save(chart(result.rows), folder, "bench")
    write_text(folder / "bench.md", markdown(result))
    write_json(folder / "bench.json", result_json(result))
    return folder


def markdown(result: Result) -> str:
    """The result as a page: where it was made, what must be reached, every row with what was checked."""
    made = result.made
    device = ", ".join(made["gpus"]) or made["cpu"]
    revision = (made["git_revision"] or "unknown")[:12] + (" with changes" if made["git_dirty"] else "")
    rates = "; ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in result.rates.items())
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [
        "# Speed",
        "",
        "How many times as fast gitbench is as what a user would pick instead: the same weights, the same inputs, results",
        "found equal before anything was timed; both programs in one process, in turns. (Replicates at once are compared",
        "with gitbench itself, which trains them one after another.) A training step is the model's, with its gradients",
        "and its optimizer: neither side reads data, clips or logs. Made by `gitbench bench`.",
        "",
        f"* {device}, {made['cpu_count']} cores, {result.threads} threads (scores, and each process of "
        f"replicates: 1); {made['started']}; revision {revision}",
        f"* {versions}, Python {made['python']}",
        *([f"* a large matrix product reached {rates} in the first process; each measures its own"] if rates else []),
        "",
        "![ratios](bench.png)",
        "",
        *_targets(result.rows),
        *_table(result.rows),
        "",
        "Ratio: median of the paired ratios (peer's time / ours). Interval: exact, of that median, from order statistics;",
        "95 % or more from six pairs on, with fewer the whole range and the coverage it has. Share: necessary operations",
        "(each image once per layer, text positions only, backward twice the forward) at the median time, of the matrix",
        "rate that the same process measured. Reached: the median, whatever the interval. Texts: `filled` all of full",
        "length; `captions` of the lengths of real captions (Flickr8k).",
        "",
        "## What was checked, and how it was run",
        "",
        *(f"* {row.name}: {'; '.join(part for part in (row.checked, row.notes) if part)}" for row in result.rows),
        "",
    ]
    return "\n".join(lines)


def _targets(rows: Sequence[Row]) -> list[str]:
    asked = [row for row in rows if target_of(row) is not None]
    if not asked and not any(row.device == "cuda" for row in rows):
        return []
    lines = ["## Must reach", "", "| work | against | must reach | reached | |", "|---|---|---|---|---|"]
    for row in asked:
        answer = "reached" if reached(row) else "**not reached**"
        lines.append(f"| {work_label(row)} | {peer_label(row)} | {target_of(row):g} | {_ratio(row)} | {answer} |")
    shares = [row for row in rows if (row.device, row.work, row.shape) == ("cuda", "train-5", "base")]
    for row in shares:
        if row.precision.startswith("bfloat16") and row.ours_share is not None:
            answer = "reached" if row.ours_share >= GPU_SHARE else "**not reached**"
            share = f"{100 * row.ours_share:.0f} %"
            lines.append(f"| {work_label(row)} | the matrix rate | {100 * GPU_SHARE:.0f} % | {share} | {answer} |")
    return [*lines, ""]


def _table(rows: Sequence[Row]) -> list[str]:
    memory = any(row.ours_gib is not None for row in rows)
    head = ["work", "against", "ratio and interval", "range", "pairs", "ours, s", "theirs, s", "share, ours / theirs"]
    head += ["peak GiB, ours / theirs"] if memory else []
    lines = ["## All rows", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        low, high = row.range
        ours, theirs = statistics.median(row.ours_seconds), statistics.median(row.peer_seconds)
        share = ""
        if row.ours_share is not None and row.peer_share is not None:
            share = f"{100 * row.ours_share:.0f} % / {100 * row.peer_share:.0f} %"
        cells = [work_label(row), peer_label(row), _ratio(row), f"{low:.2f} to {high:.2f}", str(len(row.ratios))]
        cells += [f"{ours:.3g}", f"{theirs:.3g}", share]
        if memory:
            known = row.ours_gib is not None and row.peer_gib is not None
            cells.append(f"{row.ours_gib:.2f} / {row.peer_gib:.2f}" if known else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ratio(row: Row) -> str:
    interval = row.interval
    level = "" if interval.level >= 0.95 else f", {100 * interval.level:.0f} %"
    if len(row.ratios) == 1:
        return f"{row.ratio:.2f} (one pair)"
    return f"{row.ratio:.2f} ({interval.low:.2f} to {interval.high:.2f}{level})"


def work_label(row: Row) -> str:
    """The work of a row in words, with its shape, texts and precision."""
    doc = SCORE_NAMES.get(row.work) or (WORKS[row.work].doc if row.work in WORKS else row.work)
    precision = "" if row.precision == "float32" else row.precision
    return ", ".join(part for part in (doc, row.shape, row.texts, precision) if part)


def _short(row: Row) -> str:
    precision = "" if row.precision == "float32" else f" {row.precision}"
    return SCORE_NAMES.get(row.work, row.work) + precision


def peer_label(row: Row) -> str:
    """The peer of a row in words."""
    return PEER_NAMES.get(row.peer, row.peer)


def chart(rows: Sequence[Row]) -> Figure:
    """Draw all rows: one bar each, grouped by work, on a log scale of ratios."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(", ".join(filter(None, (_short(row), row.shape, row.texts))), []).append(row)
    peers = list(dict.fromkeys(row.peer for row in rows))
    with style(PAGE):
        figure = Figure(figsize=(PAGE, 1.0 + 0.2 * len(rows) + 0.14 * len(groups)), layout="constrained")
        axes = figure.add_subplot()
        place, ticks, shown = 0.0, [], set()
        for members in groups.values():
            ticks.append(place + (len(members) - 1) / 2)
            for row in members:
                _bar(axes, place, row, peers.index(row.peer), row.peer not in shown)
                shown.add(row.peer)
                place += 1
            place += 0.7
        axes.axvline(1, color=INK, linewidth=0.8)
        axes.set_xscale("log")
        highest = max([1.0, *(max(row.interval.high, target_of(row) or 0) for row in rows)])
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
        figure.legend(handles, labels, loc="outside upper left", ncols=min(3, len(labels)))
    return figure


def _bar(axes, place: float, row: Row, peer: int, first: bool) -> None:  # type: ignore[no-untyped-def]
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
        label=peer_label(row) if first else None,
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
        color=FAINT if reached(row) is None else INK,
    )
    target = target_of(row)
    if target is not None:
        handle = axes.plot([target, target], [place - 0.5, place + 0.5], color="#000000", linewidth=2.2)[0]
        if "must reach" not in axes.get_legend_handles_labels()[1]:
            handle.set_label("must reach")
