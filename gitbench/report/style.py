"""How every figure of a report looks: colours, markers, line styles, sizes in inches, and how it is written to files.

Colours are Okabe and Ito's colour-blind-safe set, its three light ones darkened until every mark has a contrast of 3:1 on
white and on the page. Each arm has its own marker and line style too. Text is kept as text (SVG `fonttype` none, TrueType
in PDF), and the output is deterministic: fixed salt for SVG ids, no dates.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from gitbench.files import atomic_path

INK, FAINT, RULE = "#1c1b19", "#6f6b63", "#dedad2"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b8578f", "#b87e00", "#2f8fc4")
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.3)), (0, (6, 1.4, 1.2, 1.4)), (0, (3, 1)), (0, (8, 2)))

COLUMN, TEXT, PAGE = 3.15, 6.45, 6.4  # inches: one column of a two-column paper, its whole width, the HTML page

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
    "legend.handlelength": 2.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "gitbench",
    "text.parse_math": False,
    "axes.unicode_minus": True,
}
_PRINT = {  # a column of a paper is set in about 9 points, its figures in 7
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
}


def style(width: float = PAGE) -> AbstractContextManager[None]:
    """Return the context in which figures of this width (inches) are drawn: print sizes for a column or a text width."""
    return matplotlib.rc_context(STYLE | (_PRINT if width != PAGE else {}))


def nth_style(index: int) -> tuple[str, str, Any]:
    """Return (colour, marker, line style) of the arm or line at this place; no two of the first 36 are alike."""
    turn = index // len(PALETTE)  # the seventh takes the first colour again, with the second marker and line style
    return PALETTE[index % len(PALETTE)], MARKERS[(index + turn) % len(MARKERS)], DASHES[(index + turn) % len(DASHES)]


def legend_label(label: str, width: float) -> str:
    """Return a label in lines that stay within a figure of this width (inches)."""
    return textwrap.fill(label, int((width - 0.6) / 0.06))


def legend_columns(labels: Sequence[str], width: float) -> int:
    """Return how many columns a legend may have so that it stays within a figure of this width (inches)."""
    letter, rest = 0.058, 0.5  # inches: a letter in print; the line's sample and the gaps
    widest = rest + letter * max((len(line) for label in labels for line in label.splitlines()), default=0)
    return max(1, min(len(labels), int(width / widest)))


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
            figure.savefig(temporary, format=kind, metadata=metadata, dpi=300 if figure.get_figwidth() < PAGE else 200)
        written.append(f"{name}.{kind}")
    return written


def embedded_svg(figure: Figure, name: str, label: str) -> str:
    """Return a figure as SVG for a page; `name` keeps its ids apart from those of others, `label` is read out for it.

    Its colours are the page's CSS variables, so that it reads in dark mode too.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": f"gitbench {name}", "savefig.transparent": True}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[^"]*"', "", svg[svg.index("<svg") :], count=2)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    colours = {INK: "--ink", FAINT: "--faint", RULE: "--rule"} | {colour: f"--c{i}" for i, colour in enumerate(PALETTE)}
    for colour, variable in colours.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
