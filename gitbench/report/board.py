"""The claims board: every claim of every study on one page: what the paper says, what was found here, and how sure that is.

Its rows come from a work directory's studies, judged anew, or from the reports committed under `reports/results`, so that
the repository alone can rebuild the board it shows. A verdict is told by its word, a symbol and a colour, never by colour
alone. Each row has an axis of its own: the claims' scores and scales are not one.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import gitbench
from gitbench.errors import GitbenchError
from gitbench.files import resource, write_text
from gitbench.judge.claims import INCONCLUSIVE, REFUTED, SUPPORTED, Verdict, judge_study
from gitbench.judge.words import further_seeds
from gitbench.report.audit import check_numbers
from gitbench.report.figures import claim_sides, draw_evidence
from gitbench.report.html import TONES, embed_svg, symbol, template
from gitbench.report.paper import CONFIDENCE
from gitbench.report.results import load_results
from gitbench.report.style import FAINT, INK, PAGE, PALETTE, RULE, save, style, svg_text
from gitbench.report.tables import markdown_rows, pipe, summarise
from gitbench.scores import claim_unit, digits, display_name, signed
from gitbench.study.interim import looks_of
from gitbench.study.lock import lock_deviations
from gitbench.study.records import build_frame, load_studies, load_yardstick

WORD_COLOURS = {"good": "#00694d", "bad": "#a33c00", "open": "#6a5300"}  # those of the pages, on white


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

    @property
    def where(self) -> str:
        """The study's data and profile."""
        return f"{self.data}, {self.profile}"


def rows_of_work_dir(work_dir: str | Path) -> list[BoardRow]:
    """Judge every study of a work directory that has a claim and a finished run; sorted by ablation, profile, data.

    A study whose name starts with an underscore tests the judge, not the paper: it has no row.

    Errors: GitbenchError where there is none, or where a number has no run behind it.
    """
    rows = []
    for study in load_studies(work_dir):
        frame = build_frame(work_dir, [study])
        if study.ablation.startswith("_") or not study.claims or frame["run_key"].isna().all():
            continue
        kind = (load_yardstick(work_dir, study) or {}).get("kind")
        verdicts = judge_study(study, frame, kind, looks=looks_of(work_dir, study))
        check_numbers(work_dir, study, summarise(frame, study), verdicts)
        dropped = tuple(
            f"{each.name}: {each.what}" for each in lock_deviations(study, Path(work_dir)) if each.kind == "removed"
        )
        rows += [
            BoardRow(
                ablation=study.ablation,
                profile=study.profile,
                data=study.data,
                title=study.title,
                verdict=each,
                dropped=dropped,
            )
            for each in verdicts
        ]
    if not rows:
        raise GitbenchError(f"{work_dir} holds no study with a finished run: run `gitbench run ABLATION` first")
    return sorted(rows, key=lambda row: (row.ablation, row.profile, row.data))


def rows_of_results(folder: str | Path, out: str | Path | None = None) -> list[BoardRow]:
    """Read the committed reports under `folder`, for a board in `out` (by default in `folder`).

    Errors: GitbenchError where there is none, or one is not as it was built.
    """
    rows = [
        BoardRow(
            ablation=result.ablation,
            profile=result.profile,
            data=result.data,
            title=str(result.manifest.get("title") or result.ablation.replace("_", " ").capitalize()),
            verdict=verdict,
            report=Path(os.path.relpath(result.folder, out or folder)).as_posix(),
            dropped=result.dropped,
        )
        for result in load_results(folder)
        for verdict in result.verdicts
    ]
    if not rows:
        raise GitbenchError(f"{folder} holds no report: run `gitbench run ABLATION` first, or pass --work-dir")
    return rows


def write_board(rows: Sequence[BoardRow], out: str | Path) -> list[Path]:
    """Write board.{html,md,csv,svg,pdf,png} into `out` and return their paths. The same rows give the same bytes."""
    out = Path(out)
    write_text(out / "board.md", markdown_text(rows))
    write_text(out / "board.csv", csv_text(rows))
    write_text(out / "board.html", page(rows))
    with style():
        names = save(board_figure(rows), out, "board")
    return [out / name for name in ("board.html", "board.md", "board.csv", *names)]


def unjudged(rows: Sequence[BoardRow]) -> list[str]:
    """Return the ablations that have no row."""
    there = {path.stem for path in resource("ablations").glob("[!_]*.py")}
    return sorted(there - {row.ablation for row in rows})


def found_text(verdict: Verdict) -> str:
    """Return "CIDEr +9.9 points (+6.7 to +13.1), n = 5"."""
    if verdict.difference is None:
        return "no difference measured"
    places = digits((verdict.difference, *(verdict.interval or ())))
    text = f"{display_name(verdict.claim.metric)} {signed(verdict.difference, places)} {claim_unit(verdict.claim)}"
    if verdict.interval is not None:
        text += f" ({signed(verdict.interval[0], places)} to {signed(verdict.interval[1], places)})"
    return f"{text}, n = {verdict.n}"


def _compared(verdict: Verdict) -> str:
    return " \N{MINUS SIGN} ".join(claim_sides(verdict.claim))


def _quoted(verdict: Verdict) -> str:
    claim = verdict.claim
    return f"\u201c{claim.quote}\u201d ({claim.where}, {claim.confidence})"


def markdown_text(rows: Sequence[BoardRow]) -> str:
    """Return the board as a Markdown table."""
    body = [
        [
            f"`{row.ablation}`<br>{pipe(row.where)}",
            pipe(f"{row.verdict.claim.says} {_quoted(row.verdict)}"),
            pipe(f"{_compared(row.verdict)}: {found_text(row.verdict)}"),
            f"{symbol(row.verdict.word)} {row.verdict.word}",
        ]
        for row in rows
    ]
    head = ["ablation", "the paper", "here: difference (95 % interval), seeds", "verdict"]
    table = [line.replace("---:", "---") for line in markdown_rows(head, body)]
    left = [f"Not run yet: {', '.join(unjudged(rows))}.", ""] if unjudged(rows) else []
    gone = dict.fromkeys(f"Dropped from `{row.ablation}`, {each}." for row in rows for each in row.dropped)
    return "\n".join([*table, "", *(line for each in gone for line in (each, "")), *left, _legend(), ""])


def _legend() -> str:
    return "Codes of the paper's claims: " + "; ".join(f"{code}: {words}" for code, words in CONFIDENCE.items()) + "."


def csv_text(rows: Sequence[BoardRow]) -> str:
    """Return the board as CSV: one line a claim, plain numbers in full precision."""
    lines = []
    for row in rows:
        verdict = row.verdict
        low, high = verdict.interval or (None, None)
        lines.append(
            {
                "ablation": row.ablation,
                "profile": row.profile,
                "data": row.data,
                "claim": verdict.claim.name,
                "kind": verdict.claim.kind,
                "metric": verdict.claim.metric,
                "difference": verdict.difference,
                "low": low,
                "high": high,
                "n": verdict.n,
                "margin": verdict.margin,
                "p": verdict.p,
                "p_holm": verdict.p_holm,
                "verdict": verdict.word,
                "further_seeds": verdict.further_seeds,
            }
        )
    return pd.DataFrame(lines).to_csv(index=False, lineterminator="\n")


def page(rows: Sequence[BoardRow]) -> str:
    """Return the board as one self-contained HTML page."""
    counts = {word: sum(row.verdict.word == word for row in rows) for word in (SUPPORTED, REFUTED, INCONCLUSIVE)}
    counts["not judged"] = len(rows) - sum(counts.values())
    return template("board.html.j2").render(
        groups=_groups(rows),
        counts={word: count for word, count in counts.items() if count},
        tones=TONES,
        total=len(rows),
        missing=unjudged(rows),
        confidence=CONFIDENCE,
        version=gitbench.__version__,
    )


def _groups(rows: Sequence[BoardRow]) -> list[dict[str, Any]]:
    """Return the rows by study, with what the page shows of each claim."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for index, row in enumerate(rows):
        verdict = row.verdict
        study = groups.setdefault((row.ablation, row.where), {"row": row, "claims": []})
        study["claims"].append(
            {
                "verdict": verdict,
                "compared": _compared(verdict),
                "found": found_text(verdict),
                "tone": TONES.get(verdict.word, "open"),
                "further": further_seeds(verdict) if verdict.word == INCONCLUSIVE else "",
                "plot": _plot(verdict, f"claim{index}"),
            }
        )
    return list(groups.values())


def _plot(verdict: Verdict, name: str) -> str:
    if not verdict.differences:
        return ""
    with style():
        figure = Figure(figsize=(2.9, 0.72))
        _evidence_axes(figure.add_axes((0.02, 0.36, 0.96, 0.62)), verdict, 7.5)
        return embed_svg(svg_text(figure, name), name, f"{_compared(verdict)}: {found_text(verdict)}")


def _evidence_axes(axes: Axes, verdict: Verdict, size: float) -> None:
    """Draw one claim's evidence: seeds, mean and interval, zero, the margin as a band; the axis has few numbers."""
    draw_evidence(axes, verdict, 0.0, (PALETTE[0], "o", "-"))
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_ylim(-0.34, 0.34)
    axes.set_yticks([])
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="x", labelsize=size, length=2, pad=1.5)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(RULE)


def board_figure(rows: Sequence[BoardRow]) -> Figure:
    """Draw the board as one picture: the claim on the left, its evidence in the middle, the verdict on the right."""
    height, head, foot = 0.98, 0.5, 0.34  # inches: a row, the heading, the line below
    width, total = 1.62 * PAGE, height * len(rows) + head + foot
    figure = Figure(figsize=(width, total))

    def text(x: float, y: float, words: str, **options: Any) -> None:
        figure.text(x / width, y / total, words, va="top", **options)

    heads = ((0.1, "what the paper says"), (4.55, "difference here, 95 % interval, every seed"), (7.85, "verdict here"))
    for x, words in heads:
        text(x, total - 0.14, words, weight="bold", size=9)
    for index, row in enumerate(rows):
        top = total - head - index * height
        verdict, colour = row.verdict, WORD_COLOURS[TONES.get(row.verdict.word, "open")]
        figure.add_artist(_rule(top / total + 0.04 / total))
        text(0.1, top - 0.05, f"{row.ablation}  ({row.where})", size=7.6, color=FAINT)
        text(0.1, top - 0.24, textwrap.fill(verdict.claim.says, 62), size=9)
        quote = textwrap.fill(_quoted(verdict), 78)
        text(0.1, top - (0.44 if len(verdict.claim.says) <= 62 else 0.6), quote, size=7.2, color=FAINT, style="italic")
        text(4.55, top - 0.05, _compared(verdict), size=7.6, color=FAINT)
        if verdict.differences:
            _evidence_axes(
                figure.add_axes((4.55 / width, (top - 0.78) / total, 2.95 / width, 0.54 / total)), verdict, 7
            )
        text(7.85, top - 0.05, f"{symbol(verdict.word)} {verdict.word}", size=9.2, weight="bold", color=colour)
        found = found_text(verdict).replace(", n = ", "\nn = ").splitlines()
        text(7.85, top - 0.26, "\n".join(textwrap.fill(line, 40) for line in found), size=7.8)
    figure.add_artist(_rule(foot / total))
    left = f" Not run yet: {', '.join(unjudged(rows))}." if unjudged(rows) else ""
    said = f"Shaded: up to the margin that was stated beforehand. Each row has its own axis.{left}"
    text(0.1, foot - 0.08, said, size=7.6, color=FAINT)
    return figure


def _rule(height: float) -> Line2D:
    return Line2D([0.01, 0.99], [height, height], color=RULE, lw=0.8)
