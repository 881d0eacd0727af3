"""What `gitbench judge` shows of two systems: a text, and in a folder a figure, a LaTeX table, CSV and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gitbench.files import make_dir, write_json, write_text
from gitbench.formats import digits, plural, signed
from gitbench.judge.systems import SystemDifference
from gitbench.metric_info import HEADLINE, METRICS, display_name, lower_is_better, unit
from gitbench.report.style import COLUMN, FAINT, INK, RULE, nth_style, save, style
from gitbench.report.tables import score_heading
from gitbench.report.templates import render

MINUS = "\N{MINUS SIGN}"
FILES = ("systems.svg", "systems.pdf", "systems.png", "systems.tex", "systems.csv", "systems.json")


@dataclass(frozen=True, kw_only=True)
class Systems:
    """All that is said about systems A and B."""

    a: tuple[str, ...]  # files of captions, by `short_names`
    b: tuple[str, ...]
    references: str  # where they are from
    images: int
    differences: tuple[SystemDifference, ...]
    signatures: Mapping[str, tuple[str, ...]]  # metric -> how its scores were made, each once
    described: Mapping[str, tuple[float, float]]  # what describes captions (`metrics.diversity`): means of A and of B
    absent: Mapping[str, str]  # metric -> why it was not computed
    warnings: tuple[str, ...]

    @property
    def scope(self) -> str:
        """Say what the intervals hold for."""
        if len(self.a) == 1:
            return (
                "One set of captions a side: the intervals hold for these two models on other images of this kind, "
                "and say nothing of what another training run of either would give."
            )
        return (
            f"{len(self.a)} sets of captions a side, paired in the order given: the intervals hold for other seeds and "
            "other images of this kind."
        )

    @property
    def shown(self) -> tuple[SystemDifference, ...]:
        """The metrics that a paper prints; BLEU-1 to 3 stand in the text and the files of numbers."""
        return tuple(each for each in self.differences if each.metric in HEADLINE or each.metric not in METRICS)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return names of different files, with as many folders, and the ending where it must be, as tell them apart."""
    stems, names = ([path.absolute().parts for path in each] for each in ([p.with_suffix("") for p in paths], paths))
    for parts in (stems, names):
        for depth in range(1, max(map(len, parts)) + 1):
            shortened = ["/".join(each[-depth:]) for each in parts]
            if len(set(shortened)) == len(shortened):
                return shortened
    return [str(path) for path in paths]


def numbers(each: SystemDifference) -> dict[str, str]:
    """Return the printed numbers of one metric: a, b, difference, interval, detectable, shares."""
    places = digits((*each.a, *each.b))
    fine = digits((each.difference, each.low, each.high))
    shares = (each.higher, each.tie, each.lower)
    return {
        "a": f"{statistics.mean(each.a):.{places}f}",
        "b": f"{statistics.mean(each.b):.{places}f}",
        "difference": signed(each.difference, fine),
        "interval": f"{signed(each.low, fine)} to {signed(each.high, fine)}",
        "detectable": f"{each.detectable:.{digits((each.detectable,))}f}",
        "shares": " / ".join("\N{EN DASH}" if share is None else f"{100 * share:.0f}" for share in shares),
    }


def sentence(each: SystemDifference) -> str:
    """Say which system is better by one metric, or that none could be shown to be and what would have been found."""
    said, name = numbers(each), display_name(each.metric)
    of = f"{unit(each.metric)} of {name}"
    if each.better is None:
        return (
            f"no difference in {name} could be shown: A {MINUS} B is {said['difference']} (95 % interval "
            f"{said['interval']}); a true one of less than {said['detectable']} could not have been detected "
            "(80 % power)"
        )
    places = digits((each.difference, each.low, each.high))
    ends = sorted((abs(each.low), abs(each.high)))
    size = f"{abs(each.difference):.{places}f} {of} (95 % interval {ends[0]:.{places}f} to {ends[1]:.{places}f})"
    return f"{each.better} is better by {size}"


def text(systems: Systems) -> str:
    """Return what the command prints."""
    rows: list[tuple[str, ...]] = [
        ("", "A", "B", f"A {MINUS} B", "95 % interval", "A higher/tie/B higher, %", "detectable")
    ]
    for each in systems.differences:
        said = numbers(each)
        values = (said[key] for key in ("a", "b", "difference", "interval", "shares", "detectable"))
        rows.append((score_heading(each.metric), *values))
    for metric, (a, b) in systems.described.items():
        rows.append((score_heading(metric), f"{a:.{digits((a, b))}f}", f"{b:.{digits((a, b))}f}", "", "", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines = [
        f"A: {', '.join(systems.a)}",
        f"B: {', '.join(systems.b)}",
        f"{plural(systems.images, 'image')}; references: {systems.references}",
        "",
        *table,
        "",
        *(f"{said[0].upper()}{said[1:]}." for said in map(sentence, systems.differences)),
        "",
        systems.scope,
        f"Each interval stands alone: of {plural(len(systems.differences), 'metric')} without any difference, one in "
        "twenty would show one.",
        *(f"Mind: {line}." for line in systems.warnings),
        *(f"{display_name(metric)} is absent: {why}." for metric, why in systems.absent.items()),
        "Signatures:",
        *(f"  {signature}" for made in systems.signatures.values() for signature in made),
    ]
    return "\n".join(lines)


def figure(systems: Systems, width: float = COLUMN) -> Figure:
    """Draw the difference of each metric with its interval, zero, and what could not have been detected as a band."""
    shown = systems.shown
    drawn = Figure(figsize=(width, 0.55 + 0.42 * len(shown)), layout="constrained")
    panels = drawn.subplots(len(shown), 1, squeeze=False).ravel()
    for place, (axes, each) in enumerate(zip(panels, shown, strict=True)):
        colour, marker, _ = nth_style(place)
        axes.axvspan(-each.detectable, each.detectable, color=RULE, alpha=0.6, lw=0)
        axes.axvline(0, color=INK, lw=0.8)
        reach = [[each.difference - each.low], [each.high - each.difference]]
        axes.errorbar(each.difference, 0, xerr=reach, fmt=marker, color=colour, ms=4.5, capsize=3, lw=1.3)
        axes.set_yticks([0], [score_heading(each.metric)])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        ends = max(abs(each.low), abs(each.high), each.detectable) or 1.0
        axes.set_xlim(-1.1 * ends, 1.1 * ends)
        axes.locator_params(axis="x", nbins=5)
    panels[0].set_title("A lower" + " " * 12 + "A higher", loc="center", color=FAINT)
    panels[-1].set_xlabel(f"A {MINUS} B, 95 % interval (shaded: power below 80 %)")
    return drawn


def table_text(systems: Systems) -> str:
    """Return a LaTeX `table` for the booktabs package that fits one column."""
    return render("systems.tex.j2", systems=systems, numbers=numbers, lower=any(map(_lower, systems.shown)))


def _lower(each: SystemDifference) -> bool:
    return lower_is_better(each.metric)


def frame(systems: Systems) -> pd.DataFrame:
    """Return one row a metric, in full precision; `a` and `b` are means over sets of captions."""
    rows = [
        {
            **asdict(each),
            "a": statistics.mean(each.a),
            "b": statistics.mean(each.b),
            "unit": unit(each.metric),
            "better": each.better or "",
            "sets": len(each.a),
            "signature": " / ".join(systems.signatures[each.metric]),
        }
        for each in systems.differences
    ]
    return pd.DataFrame(rows)


def write_systems(systems: Systems, folder: Path) -> list[str]:
    """Write FILES into `folder`, the JSON last, and return their names; earlier ones are replaced."""
    (make_dir(folder) / FILES[-1]).unlink(missing_ok=True)  # what it is about is being replaced
    with style(COLUMN):
        save(figure(systems), folder, "systems")
    write_text(folder / "systems.tex", table_text(systems))
    write_text(folder / "systems.csv", frame(systems).to_csv(index=False, lineterminator="\n"))
    write_json(folder / "systems.json", _values(systems))
    return list(FILES)


def _values(systems: Systems) -> dict[str, Any]:
    said: Sequence[dict[str, Any]] = [
        {**asdict(each), "better": each.better, "says": sentence(each)} for each in systems.differences
    ]
    return {**asdict(systems), "differences": said, "scope": systems.scope}
