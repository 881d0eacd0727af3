"""The claims board: every claim of every study on one page: what the paper says, what was found here, and how sure that is.

Its rows come from studies that were just judged, or from the reports committed under `reports/results`.
"""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gitbench.ablations import ablation_names
from gitbench.errors import GitbenchError
from gitbench.files import write_text
from gitbench.formats import plural
from gitbench.judge.claims import words_over
from gitbench.judge.sentences import difference_text
from gitbench.judge.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, Verdict
from gitbench.plan import Plan
from gitbench.report.figures import compared, draw_difference
from gitbench.report.origin import Origin
from gitbench.report.rates import at_grid_end
from gitbench.report.reach import Joined, Reach, joined, reach_of
from gitbench.report.results import load_results
from gitbench.report.style import FAINT, INK, PAGE, PALETTE, RULE, embedded_svg, save, style
from gitbench.report.templates import render, symbol, tone
from gitbench.report.verdict_details import CAVEAT, dropped_claims, quoted, sentences
from gitbench.study.makers import Standing
from gitbench.study.store import Study

LINE = 0.125  # inches: a line of the smallest text of the picture
WORD_COLOURS = {"good": "#00694d", "bad": "#a33c00", "open": "#6a5300"}  # those of the pages, on white
_OF_STUDY = ("ablation", "profile", "title")  # what a row says of its study, beside its data
_COLUMNS = (
    *("ablation", "profile", "data", "claim", "kind", "metric", "difference", "low", "high", "n", "margin", "finding"),
    *("typical", "ahead", "ahead_low", "ahead_high", "p", "p_holm", "verdict", "verdict_over_all", "reason"),
    *("likelihood_difference", "likelihood_low", "likelihood_high", "likelihood_verdict", "metrics"),
    *("further_seeds", "numerics", "locked", "began", "stated_beforehand"),
)


@dataclass(frozen=True, kw_only=True)
class BoardRow:
    """One claim of one study. `report` is the folder of its report, relative to the board's; None where there is none."""

    ablation: str
    profile: str
    data: str
    title: str
    verdict: Verdict
    report: str | None = None
    dropped: tuple[str, ...] = ()  # what became of claims that the study's runs were made under, a clause each
    origin: Origin = Origin()  # when and under what its runs were made, and what does not verify
    at_grid_end: tuple[str, ...]  # the arms it compares whose learning rates are the first or last of their grid
    code: tuple[
        str, ...
    ] = ()  # what to know of other code that made its runs; not of committed reports, which outlive code
    reach: Reach  # how far the arms of its study got, by their labels
    over_all: str = ""  # its word with Holm's correction over all claims of the board

    @property
    def where(self) -> str:
        """The study's data and profile."""
        return f"{self.data}, {self.profile}"

    @property
    def compared(self) -> str:
        """The two sides of the claim."""
        return compared(self.verdict.claim)

    @property
    def made(self) -> str:
        """When the claim was locked and runs began, by which numerics version, how many seeds and what rates it rests on."""
        said = f"{self.origin.line(self.verdict.claim.name)}, {plural(self.verdict.n, 'seed')}"
        return said + (f"; grid of rates ends at {', '.join(self.at_grid_end)}" if self.at_grid_end else "")


def rows_of_studies(
    judged: Iterable[tuple[Study, Sequence[Verdict]]], link: Callable[[Study], str | None] = lambda study: None
) -> list[BoardRow]:
    """Return the rows of judged studies that have a finished run; sorted by ablation, profile, data.

    `link` returns the folder of a study's report, relative to the board's, where there is one. A study whose name starts
    with an underscore tests the judge, not the paper: it has no row.
    Errors: GitbenchError where there is none.
    """
    rows = []
    for study, verdicts in judged:
        plan = study.plan
        if plan.ablation.startswith("_") or not study.finished:
            continue
        rows += _rows(
            plan,
            study.frame,
            verdicts,
            **{name: getattr(plan, name) for name in _OF_STUDY},
            data=plan.label,
            origin=(origin := Origin.of(study)),
            code=Standing.of(origin.makers).lines,
            report=link(study),
            dropped=tuple(f"{each.name}: {each.what}" for each in dropped_claims(study)),
        )
    if not rows:
        raise GitbenchError("no study of the work directory has a finished run: run `gitbench run ABLATION` first")
    return sorted(rows, key=lambda row: (row.ablation, row.profile, row.data))


def rows_of_results(folder: str | Path, out: str | Path | None = None) -> list[BoardRow]:
    """Read the committed reports under `folder`, for a board in `out` (by default in `folder`).

    Errors: GitbenchError where there is none, or one is not as it was built.
    """
    rows = []
    for result in load_results(folder):
        rows += _rows(
            result.plan,
            result.frame,
            result.verdicts,
            **{name: result.manifest[name] for name in _OF_STUDY},
            data=result.data,
            origin=result.origin,
            report=Path(os.path.relpath(result.folder, out or folder)).as_posix(),
            dropped=result.dropped,
        )
    if not rows:
        raise GitbenchError(
            f"{folder} holds no report: run `gitbench run ABLATION --publish` first, or pass --work-dir"
        )
    return rows


def _rows(plan: Plan, frame: pd.DataFrame, verdicts: Iterable[Verdict], **of_study: Any) -> list[BoardRow]:
    """Return the rows of one study; `of_study` is what all of them say alike."""
    own = reach_of(frame, plan)
    reach = dataclasses.replace(own, rows=tuple((plan.arm(arm).label or arm, cells) for arm, cells in own.rows))
    return [
        BoardRow(**of_study, verdict=verdict, reach=reach, at_grid_end=tuple(at_grid_end(plan, verdict.claim)))
        for verdict in verdicts
    ]


def write_board(rows: Sequence[BoardRow], out: str | Path) -> list[Path]:
    """Write board.{html,md,csv,svg,pdf,png} into `out` and return their paths. The same rows give the same bytes."""
    out, lines = Path(out), []
    words = words_over([row.verdict for row in rows])
    rows = [dataclasses.replace(row, over_all=word) for row, word in zip(rows, words, strict=True)]
    for row in rows:
        verdict, (low, high) = row.verdict, row.verdict.interval or (None, None)
        named = {"claim": verdict.claim.name, "low": low, "high": high, "verdict": verdict.word}
        chance = verdict.ahead_interval or (None, None)
        named |= {"verdict_over_all": row.over_all, "ahead_low": chance[0], "ahead_high": chance[1]}
        if (beside := verdict.likelihood) is not None:
            ends = beside.interval or (None, None)
            named |= {"likelihood_difference": beside.difference, "likelihood_low": ends[0], "likelihood_high": ends[1]}
            named |= {"likelihood_verdict": beside.word, "metrics": verdict.agreement}
        origin = row.origin
        named |= {"numerics": origin.versions, "locked": (origin.locked or {}).get(verdict.claim.name)}
        named |= {"began": origin.began, "stated_beforehand": origin.stated}
        lines.append(vars(row) | vars(verdict.claim) | vars(verdict) | named)
    table = pd.DataFrame(lines, columns=list(_COLUMNS))
    write_text(out / "board.csv", table.to_csv(index=False, lineterminator="\n"))
    write_text(out / "board.md", render("board.md.j2", rows=rows, missing=unjudged(rows), reached=_reached(rows)))
    write_text(out / "board.html", page(rows))
    with style():
        names = save(board_figure(rows), out, "board")
    return [out / name for name in ("board.html", "board.md", "board.csv", *names)]


def unjudged(rows: Sequence[BoardRow]) -> list[str]:
    """Return the ablations that have no row."""
    return sorted(set(ablation_names()) - {row.ablation for row in rows})


def page(rows: Sequence[BoardRow]) -> str:
    """Return the board as one self-contained HTML page."""
    judged = (SUPPORTED, REFUTED, INCONCLUSIVE)
    words = [row.verdict.word if row.verdict.word in judged else "not judged" for row in rows]
    studies: dict[tuple[str, str], list[tuple[BoardRow, str]]] = {}
    for index, row in enumerate(rows):
        plot = ""
        if row.verdict.differences:
            with style():
                figure = Figure(figsize=(2.9, 0.72))
                _difference_axes(figure.add_axes((0.02, 0.36, 0.96, 0.62)), row.verdict, 7.5)
                plot = embedded_svg(
                    figure, f"claim{index}", f"{row.compared}: {difference_text(row.verdict, short=True)}"
                )
        studies.setdefault((row.ablation, row.where), []).append((row, plot))
    counts = {word: words.count(word) for word in (*judged, "not judged") if word in words}
    said = {"missing": unjudged(rows), "stated": _stated(rows), "reached": _reached(rows)}
    return render("board.html.j2", studies=list(studies.values()), counts=counts, **said)


def _reached(rows: Sequence[BoardRow]) -> Joined:
    """Return how far every arm of the board's studies got."""
    return joined({(row.ablation, row.where): row.reach for row in rows})


def _stated(rows: Sequence[BoardRow]) -> str:
    """Say that margins were stated beforehand, where the runs of every row prove it."""
    return " that was stated beforehand" if all(row.origin.stated for row in rows) else ""


def _difference_axes(axes: Axes, verdict: Verdict, size: float) -> None:
    """Draw one claim's differences: seeds, mean and interval, zero, the margin as a band; the axis has few numbers."""
    draw_difference(axes, verdict, 0.0, (PALETTE[0], "o", "-"))
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_ylim(-0.34, 0.34)
    axes.set_yticks([])
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="x", labelsize=size, length=2, pad=1.5)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(RULE)


def board_figure(rows: Sequence[BoardRow]) -> Figure:
    """Draw the board as one picture: the claim on the left, its differences in the middle, the word and why on the right."""
    head, foot = 0.5, 0.5  # inches: the heading, the lines below
    words = [_verdict_lines(row.verdict) for row in rows]
    heights = [max(0.98, 0.34 + LINE * len(lines)) for lines in words]
    width, total = 1.62 * PAGE, sum(heights) + head + foot
    figure, rules, top = Figure(figsize=(width, total)), [], total - head

    def text(x: float, y: float, said: str, **options: Any) -> None:
        figure.text(x / width, y / total, said, va="top", **options)

    heads = (
        (0.1, "what the paper says"),
        (4.3, "difference here, 95 % interval, every seed"),
        (7.4, "word, and what decided it"),
    )
    for x, said in heads:
        text(x, total - 0.14, said, weight="bold", size=9)
    for row, lines, height in zip(rows, words, heights, strict=True):
        verdict, colour = row.verdict, WORD_COLOURS[tone(row.verdict.word)]
        rules.append((top + 0.04) / total)
        text(0.1, top - 0.05, f"{row.ablation}  ({row.where})", size=7.6, color=FAINT)
        text(0.1, top - 0.24, textwrap.fill(verdict.claim.says, 62), size=9)
        quote = textwrap.fill(quoted(verdict.claim), 74)
        text(0.1, top - (0.44 if len(verdict.claim.says) <= 62 else 0.6), quote, size=7.2, color=FAINT, style="italic")
        text(4.3, top - 0.05, row.compared, size=7.6, color=FAINT)
        if verdict.differences:
            place = (4.3 / width, (top - 0.78) / total, 2.85 / width, 0.54 / total)
            _difference_axes(figure.add_axes(place), verdict, 7)
        text(7.4, top - 0.05, f"{symbol(verdict.word)} {verdict.word}", size=9.2, weight="bold", color=colour)
        for index, line in enumerate(lines):
            text(7.4, top - 0.26 - LINE * index, line, size=7.4)
        top -= height
    rules.append(foot / total)
    for level in rules:
        figure.add_artist(Line2D([0.01, 0.99], [level, level], color=RULE, lw=0.8))
    left = f" Not run yet: {', '.join(unjudged(rows))}." if unjudged(rows) else ""
    text(
        0.1,
        foot - 0.08,
        f"Shaded: up to the margin{_stated(rows)}. Each row has its own axis.{left}",
        size=7.6,
        color=FAINT,
    )
    text(0.1, foot - 0.24, CAVEAT, size=7.6, color=FAINT)
    return figure


def _verdict_lines(verdict: Verdict) -> list[str]:
    """Return the lines below a word: the numbers, and what decided it."""
    found = difference_text(verdict, short=True).replace(", n = ", "\nn = ").splitlines()
    return [line for said in (*found, *sentences(verdict)) for line in textwrap.wrap(said, 50)]
