"""The page and the tables of an evaluation, and of several checkpoints on the same images.

Intervals are those over images (`gitbench.judge.crossed`); several checkpoints are compared with the first, image by image,
and Holm's correction is over those that are (`gitbench.judge.systems`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from gitbench.data import data_label
from gitbench.data.image_processor import ImageProcessor
from gitbench.files import make_dir, write_text
from gitbench.formats import digits, p_text, signed
from gitbench.judge.crossed import image_interval
from gitbench.judge.statistics import Interval
from gitbench.judge.systems import Compared, against_first
from gitbench.metric_info import SCORES, ordered
from gitbench.metrics.guards import warnings_of_all
from gitbench.report.evaluation_samples import groups_of
from gitbench.report.paper_row import (
    Circumstance,
    PaperRow,
    circumstances,
    drift,
    main_score,
    paper_rows_of,
    search_in_words,
)
from gitbench.report.samples import Pictures, Sample
from gitbench.report.systems import numbers, sentence, short_names
from gitbench.report.tables import score_heading
from gitbench.report.templates import render
from gitbench.run_key import from_json
from gitbench.study.evaluations import Evaluation


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """A score of each system, with its interval over images."""

    metric: str
    values: tuple[float, ...]
    intervals: tuple[Interval | None, ...]
    signatures: tuple[str, ...]  # each once

    @property
    def heading(self) -> str:
        return score_heading(self.metric)

    def ends(self, place: int) -> tuple[float, float] | None:
        """The ends of a system's interval; None where it has none."""
        interval = self.intervals[place]
        return None if interval is None else interval.ends

    @property
    def cells(self) -> tuple[tuple[str, str], ...]:
        """The printed value and interval of each system; "" for an interval that there is not."""
        places = digits(self.values)
        texts = []
        for place, value in enumerate(self.values):
            ends = self.ends(place)
            said = " to ".join(f"{round(end, places) + 0.0:.{places}f}" for end in ends) if ends else ""
            texts.append((f"{value:.{places}f}", said))
        return tuple(texts)


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """One score of one system less that of the first."""

    title: str
    compared: Compared

    @property
    def said(self) -> dict[str, str]:
        """The printed numbers, p-value and which is better."""
        winner = {"A": self.title, "B": "the first", None: ""}[self.compared.better]
        return {**numbers(self.compared.difference), "p": p_text(self.compared.adjusted), "better": winner}


@dataclass(frozen=True, kw_only=True)
class EvaluationView:
    """What the page of one evaluation, or of several, says."""

    evaluations: tuple[Evaluation, ...]
    titles: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    compared: Mapping[str, tuple[ComparedRow, ...]]  # score -> the other systems beside the first
    paper: tuple[tuple[str, PaperRow], ...]  # title, row
    circumstances: tuple[
        tuple[str, tuple[Circumstance, ...]], ...
    ]  # title, what may explain a gap; where there is a row
    groups: tuple[tuple[str, tuple[Sample, ...]], ...]  # heading, images
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation], images: Pictures | None) -> EvaluationView:
        """Gather it."""
        titles = titles_of(evaluations)
        named = list(zip(titles, evaluations, strict=True))
        several = len(evaluations) > 1
        warned = {title: each.record["warnings"] for title, each in named}
        beside = {title: paper_rows_of(each.plan, each.metrics) for title, each in named}
        rows = tuple(_rows(evaluations))
        return cls(
            evaluations=tuple(evaluations),
            titles=titles,
            rows=rows,
            compared=_compared(evaluations, titles, [row.metric for row in rows]) if several else {},
            paper=tuple((title, row) for title, rows in beside.items() for row in rows),
            circumstances=tuple((title, tuple(circumstances(each.plan))) for title, each in named if beside[title]),
            groups=groups_of(evaluations, titles, images),
            warnings=tuple(warnings_of_all(warned, "all") if several else warned[titles[0]]),
        )

    @property
    def first(self) -> Evaluation:
        return self.evaluations[0]

    @property
    def data(self) -> str:
        """The name of the data, without folders."""
        return data_label(self.first.plan.data)

    def title(self, title: str) -> str:
        """Return what people call a system: "said" where it is the only one."""
        return title if len(self.titles) > 1 else "said"

    @property
    def metric(self) -> str:
        """The score that pictures are chosen by."""
        return main_score(self.first.plan)

    @property
    def settings(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What was done how, a text for each system."""
        plans = [each.plan for each in self.evaluations]
        costs = [each.record["cost"] for each in self.evaluations]
        return (
            ("photographs", tuple(from_json(ImageProcessor, plan.rule).in_words for plan in plans)),
            ("search", tuple(search_in_words(plan.search) for plan in plans)),
            ("tokenizer", tuple(f"{plan.model['vocab_size']:,} pieces" for plan in plans)),
            ("images at a time", tuple(str(plan.batch) for plan in plans)),
            ("speed of a process", tuple(f"{cost['images_per_second']:.3g} images/s" for cost in costs)),
            ("peak memory of a process", tuple(f"{cost['peak_memory_bytes'] / 2**30:.2f} GiB" for cost in costs)),
            ("computed on", tuple(f"{cost['device']} ({cost['machine']}), float32" for cost in costs)),
            ("weights (SHA-256 of their files)", tuple(plan.content[:16] for plan in plans)),
        )

    @property
    def drift(self) -> str:
        return drift()


def titles_of(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """Return names of checkpoints that tell them apart."""
    names = [each.plan.name for each in evaluations]
    if len(set(names)) < len(names):
        names = short_names([Path(each.plan.weights) for each in evaluations])
    return tuple(names)


def _rows(evaluations: Sequence[Evaluation]) -> list[ScoreRow]:
    shared = set.intersection(*(set(each.metrics) for each in evaluations)) & set(SCORES)
    return [
        ScoreRow(
            metric=metric,
            values=tuple(each.metrics[metric]["value"] for each in evaluations),
            intervals=tuple(image_interval(each.per_image, metric) for each in evaluations),
            signatures=tuple(dict.fromkeys(each.metrics[metric]["signature"] for each in evaluations)),
        )
        for metric in ordered(shared)
    ]


def _compared(
    evaluations: Sequence[Evaluation], titles: Sequence[str], metrics: Sequence[str]
) -> dict[str, tuple[ComparedRow, ...]]:
    found = {}
    for metric in metrics:
        beside = against_first(metric, [each.per_image for each in evaluations])
        if beside is not None:
            pairs = zip(titles[1:], beside, strict=True)
            found[metric] = tuple(ComparedRow(title=title, compared=each) for title, each in pairs)
    return found


# ---- files ------------------------------------------------------------------------------------------------------------


def scores_table(view: EvaluationView) -> pd.DataFrame:
    """Return one row a system and score, in full precision."""
    return pd.DataFrame(
        {
            "system": title,
            "metric": row.metric,
            "value": row.values[place],
            **dict(zip(("low", "high"), row.ends(place) or (None, None), strict=True)),
            "signature": view.evaluations[place].metrics[row.metric]["signature"],
        }
        for place, title in enumerate(view.titles)
        for row in view.rows
    )


def differences_table(view: EvaluationView) -> pd.DataFrame:
    """Return one row a system but the first, and score, in full precision."""
    return pd.DataFrame(
        {
            "system": each.title,
            "less": view.titles[0],
            **asdict(each.compared.difference),
            "a": each.compared.difference.a[0],
            "b": each.compared.difference.b[0],
            "p": each.compared.p,
            "p_holm": each.compared.adjusted,
            "better": each.said["better"],
        }
        for rows in view.compared.values()
        for each in rows
    )


def write_evaluation(evaluation: Evaluation, images: Pictures | None) -> EvaluationView:
    """Write the page and the table of an evaluation into its folder."""
    view, folder = EvaluationView.of([evaluation], images), evaluation.folder
    write_text(folder.scores, scores_table(view).to_csv(index=False, lineterminator="\n"))
    write_text(folder.report, page(view))
    return view


def write_comparison(evaluations: Sequence[Evaluation], folder: Path, images: Pictures | None) -> EvaluationView:
    """Write the page and the tables of several evaluations of the same images into a folder."""
    view = EvaluationView.of(evaluations, images)
    make_dir(folder)
    write_text(folder / "scores.csv", scores_table(view).to_csv(index=False, lineterminator="\n"))
    write_text(folder / "differences.csv", differences_table(view).to_csv(index=False, lineterminator="\n"))
    write_text(folder / "report.html", page(view))
    return view


def page(view: EvaluationView) -> str:
    """Return the whole page."""
    return render("evaluation.html.j2", view=view, plan=view.first.plan, provenance=view.first.provenance)


# ---- the terminal -----------------------------------------------------------------------------------------------------


def text(view: EvaluationView) -> str:
    """Return what the command prints."""
    rows = [("", *view.titles)]
    rows += [
        (row.heading, *(f"{value}  ({ends})" if ends else value for value, ends in row.cells)) for row in view.rows
    ]
    lines = [*_aligned(rows), "in brackets: 95 % interval over images"]
    lines += [
        f"{title}: the paper's {row.model} has {row.metric} {row.theirs:g} ({row.table}; {row.known}): here "
        f"{signed(row.difference, 2)}"
        for title, row in view.paper
    ]
    main = view.compared.get(view.metric, ())
    lines += [f"{each.title} (A) beside {view.titles[0]} (B): {sentence(each.compared.difference)}" for each in main]
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
