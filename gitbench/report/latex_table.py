"""The tables of a study for a paper: `table.tex` for the whole width of a page, `table_column.tex` for one column (booktabs).

Which columns a table has is decided by what fits: the labels of the axes in which the arms differ and the main score always,
other scores and the number of parameters as far as there is room. A column that says the same of every arm is left out.
Widths are estimated from the letters, in points, for \\small in a class of 10 points (9 points, Computer Modern).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gitbench.report.tables import cost_text, score_heading
from gitbench.report.templates import latex_escape, render
from gitbench.report.view import View

TEXT_WIDTH, COLUMN_WIDTH = 452.0, 219.0  # points: the narrowest of the usual two-column classes (that of the ACL)
FONT, GAP = 9.0, 6.0  # points: the letters; the space between two columns
_LABELS = {True: 0.34, False: 0.72}  # of the width of a page, of a column: what labels may take before they are wrapped
_EMS = {" ": 0.34, "m": 0.84, "w": 0.73, "\N{PLUS-MINUS SIGN}": 0.78, "\N{MULTIPLICATION SIGN}": 0.78}
_THIN = "iljtfr,.:;'()[]|/"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its heading and cells as plain text, and its width in points; `wrapped` where its text is longer."""

    heading: str
    cells: tuple[str, ...]
    width: float
    wrapped: bool = False
    bold: tuple[bool, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The columns of a table that fit into `room` points; `left_out` are the headings of those that did not."""

    labels: tuple[Column, ...]
    numbers: tuple[Column, ...]
    left_out: tuple[str, ...]
    room: float

    @property
    def width(self) -> float:
        """What the columns take, in points."""
        every = (*self.labels, *self.numbers)
        return sum(column.width for column in every) + GAP * (len(every) - 1)


def table_text(view: View, wide: bool = True) -> str:
    """Return a LaTeX float for the booktabs package: scores with intervals, and below them claim by claim.

    `wide`: for the width of the page (`table*`), otherwise for one column.
    """
    plan, seeds = view.plan, {row["n"] for row in view.rows if row["n"] is not None}
    label = re.sub("[^a-z0-9]+", "-", f"{plan.ablation} {plan.profile} {plan.label}".lower()) + (
        "" if wide else "-column"
    )
    alike = seeds.pop() if len(seeds) == 1 else None
    fitted = fit(view, wide)
    columns = {"fitted": fitted, "columns": column_types(fitted), "row_text": row_text}
    return render("table.tex.j2", view=view, plan=plan, label=label, wide=wide, seeds=alike, **columns)


def fit(view: View, wide: bool) -> Fitted:
    """Choose the columns of a table: labels and main score, then further scores in table order, then parameters."""
    room = TEXT_WIDTH if wide else COLUMN_WIDTH
    labels = _label_columns(view)
    first, *others = _number_columns(view)
    needed = min(sum(column.width for column in labels), _LABELS[wide] * room) + GAP * len(labels) + first.width
    numbers, left_out = [first], []
    for column in others:
        if needed + GAP + column.width <= room:
            needed += GAP + column.width
            numbers.append(column)
        else:
            left_out.append(column.heading)
    free = room - sum(column.width + GAP for column in numbers) - GAP * (len(labels) - 1)
    return Fitted(labels=_shared_out(labels, free), numbers=tuple(numbers), left_out=tuple(left_out), room=room)


def text_width(text: str) -> float:
    """Estimate the width of a text in points, a little more than it takes."""
    return 1.03 * FONT * sum(_EMS.get(letter) or _em(letter) for letter in text)


def _em(letter: str) -> float:
    return 0.36 if letter in _THIN else 0.75 if letter.isupper() else 0.53


def _column(heading: str, cells: Sequence[str], bold: Sequence[bool] = ()) -> Column:
    emphasis = 1.15 if any(bold) else 1.0
    width = max(text_width(heading), emphasis * max(map(text_width, cells), default=0.0))
    return Column(heading=heading, cells=tuple(cells), width=width, bold=tuple(bold))


def _label_columns(view: View) -> tuple[Column, ...]:
    """Return a column for each axis in which the arms differ; floor and ceiling have their name in the first."""
    axes, marks = view.axes, ["\N{DAGGER}" * row["overridden"] for row in view.rows]
    if not axes:
        return (_column("Arm", [view.title(row["arm"]) + mark for row, mark in zip(view.rows, marks, strict=True)]),)
    arms = {arm.name: arm.labels for arm in view.plan.arms if arm.role == "arm"}
    cells = [[arms.get(row["arm"], {}).get(axis, "") for row in view.rows] for axis in axes]
    cells[0] = [(cell or row["arm"]) + mark for cell, row, mark in zip(cells[0], view.rows, marks, strict=True)]
    heads = [axis.replace("_", " ").capitalize() for axis in axes]
    return tuple(_column(head, own) for head, own in zip(heads, cells, strict=True))


def _number_columns(view: View) -> list[Column]:
    """Return the main score, the seeds where arms differ in them, the other scores, and parameters where they differ."""
    names = [view.metric, *(name for name in view.scores if name != view.metric)]
    scores = []
    for name in names:
        cells = [view.cell(row, name) for row in view.rows]
        texts = [cell.text + (f" \N{PLUS-MINUS SIGN} {cell.half}" if cell.half else "") for cell in cells]
        head = score_heading(name).replace("test NLL", "NLL").replace(" (nat/token)", "")
        scores.append(_column(head, texts, [cell.bold for cell in cells]))
    arms = [row for row in view.rows if row["role"] == "arm"]
    seeds = []
    if len({row["n"] for row in arms}) > 1:
        seeds = [_column("Seeds", ["" if row["n"] is None else str(row["n"]) for row in view.rows])]
    sizes = []
    for name, head in (("decoder_parameters", "Decoder par."), ("parameters", "Parameters")):
        if name in view.costs and len({row[name] for row in arms}) > 1:
            sizes = [_column(head, [cost_text(row[name], name) if row["n"] else "" for row in view.rows])]
            break
    return [scores[0], *seeds, *scores[1:], *sizes]


def _shared_out(labels: Sequence[Column], room: float) -> tuple[Column, ...]:
    """Give each label column its width where that fits in; those that are wider than their share are wrapped."""
    widths: dict[int, float] = {}
    for place, index in enumerate(sorted(range(len(labels)), key=lambda index: labels[index].width)):
        widths[index] = min(labels[index].width, (room - sum(widths.values())) / (len(labels) - place))
    return tuple(
        Column(heading=each.heading, cells=each.cells, width=widths[index], wrapped=widths[index] < each.width)
        for index, each in enumerate(labels)
    )


def row_text(fitted: Fitted, index: int) -> str:
    """Return the cells of one row in LaTeX, without its end."""
    cells = [("\\raggedright " * column.wrapped) + latex_escape(column.cells[index]) for column in fitted.labels]
    for column in fitted.numbers:
        text, _, half = column.cells[index].partition(" \N{PLUS-MINUS SIGN} ")
        text = f"\\textbf{{{latex_escape(text)}}}" if column.bold and column.bold[index] else latex_escape(text)
        cells.append(text + (f" $\\pm$ {half}" if half else ""))
    return " & ".join(cells)


def column_types(fitted: Fitted) -> str:
    """Return the columns as a tabular names them; a wrapped one has its share of the line."""
    labels = (f"p{{{each.width / fitted.room:.3f}\\linewidth}}" if each.wrapped else "l" for each in fitted.labels)
    return "@{}" + "".join(labels) + "@{\\extracolsep{\\fill}}" + "r" * len(fitted.numbers) + "@{}"
