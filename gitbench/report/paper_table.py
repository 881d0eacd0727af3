"""The paper beside us: its numbers and ours in one table, each under the data it was measured on, none subtracted from the other.

Which numbers belong to an ablation is said by `reports/paper/claims.csv` (column `numbers`: a file, "not obtained" or
"none"). Every ablation also has the paper's standard model beside our base arm. A value of the paper carries the code of
how it is known: S, SQ, D (digitised) or H (second-hand); see `paper.CONFIDENCE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gitbench.judge.claims import Verdict
from gitbench.judge.sample import slopes
from gitbench.report.paper import paper_claims, paper_rows
from gitbench.report.scale import figure_4
from gitbench.report.tables import arm_interval, markdown_rows, pipe
from gitbench.scores import claim_unit, digits, display_name, signed
from gitbench.spec import Claim
from gitbench.study.records import Study

_BESIDE_BASE = {  # task -> (model, benchmark, split, metric) of the paper's standard model
    "caption": ("GIT_B", "COCO", "Karpathy test", "CIDEr"),
    "vqa": ("GIT_B", "VQAv2", "test-dev", "accuracy"),
    "video": ("GIT_B", "MSRVTT", "test", "CIDEr"),
    "classify": ("GIT", "ImageNet-1k", "", "exact match"),
    "read": ("GIT", "Text recognition (avg on 6)", "", "score as printed"),
}
NOT_OBTAINED, NO_NUMBERS = "not obtainable", "none published"


@dataclass(frozen=True, kw_only=True)
class BesideTable:
    """A table in two halves, theirs and ours; `rows` hold one text a column, the paper's columns first."""

    caption: str
    paper_data: str  # what the paper's half was measured on
    here_data: str
    paper_columns: tuple[str, ...]
    here_columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wordy: bool = False  # sentences rather than numbers


def beside_tables(study: Study, frame: pd.DataFrame, verdicts: tuple[Verdict, ...]) -> tuple[BesideTable, ...]:
    """Return the tables of a study: its claims, the paper's figure where it has one, and the standard model."""
    found = [_claims(study, verdicts)] if verdicts else []
    if "figure_4" in set(paper_claims(study.ablation)["numbers"]):
        found += _figure(study, frame)
    standard = _standard(study, frame)
    return (*found, *([standard] if standard is not None else []))


def beside_markdown(tables: tuple[BesideTable, ...]) -> str:
    """Return the tables as Markdown, the two halves told apart in the column heads."""
    blocks = []
    for table in tables:
        head = [f"paper: {column}" for column in table.paper_columns] + [
            f"here: {column}" for column in table.here_columns
        ]
        lines = markdown_rows([pipe(each) for each in head], [[pipe(cell) for cell in row] for row in table.rows])
        said = f"**{table.caption}** The paper's half: {table.paper_data}. Ours: {table.here_data}."
        blocks.append("\n".join([said, "", *lines]))
    return "\n\n".join(blocks) + "\n"


def _here(study: Study) -> str:
    return f"{study.data}, test split, {study.profile} profile"


def _task(study: Study) -> str:
    label = study.data.split("+")[0]
    return next((task for task in _BESIDE_BASE if label.endswith(f"-{task}") or f"-{task}-" in label), "caption")


def _claims(study: Study, verdicts: tuple[Verdict, ...]) -> BesideTable:
    rows = []
    for verdict in verdicts:
        claim = verdict.claim
        theirs, code = paper_numbers(study, claim)
        rows.append((f"{claim.says} ({claim.where})", theirs, code, _difference(verdict), verdict.word))
    return BesideTable(
        caption="What the paper says and what was found here.",
        paper_data="its own data and scale, as named in each row",
        here_data=_here(study),
        paper_columns=("claim", "its numbers", "code"),
        here_columns=("difference, 95 % interval", "verdict"),
        rows=tuple(rows),
        wordy=True,
    )


def paper_numbers(study: Study, claim: Claim) -> tuple[str, str]:
    """Return the paper's own numbers for a claim as text, and how they are known; says so where there are none."""
    rows = paper_claims(study.ablation)
    known = set(rows.loc[rows["quote"] == claim.quote, "numbers"])
    if "figure_4" in known:
        place = _places(study)
        if place and set(claim.arms) <= set(place) and claim.kind != "threshold":  # a level is ours, not the figure's
            return _figure_difference(claim, place), "D"
    if "not obtained" in known:
        return NOT_OBTAINED, claim.confidence
    return NO_NUMBERS, claim.confidence


def _figure_difference(claim: Claim, place: dict[str, tuple[str, str]]) -> str:
    """Return a claim's difference as Figure 4's COCO panel has it, with the models that it is read from."""
    theirs = figure_4()
    theirs = theirs[theirs["benchmark"] == "COCO"].set_index(["size", "amount"])["value"]

    def step(arm: str, start: str | None) -> tuple[str, float]:
        size, amount = place[arm]
        if start is None:
            return f"{size} {amount} {theirs[size, amount]:.1f}", float(theirs[size, amount])
        first = place[start]
        return (
            f"{size} {first[1]} to {amount}: {theirs[first]:.1f} to {theirs[size, amount]:.1f}",
            float(theirs[size, amount] - theirs[first]),
        )

    if claim.kind == "trend":
        arms, places = zip(*claim.along, strict=True)
        values = [step(arm, None)[1] for arm in arms]
        models = "; ".join(step(arm, None)[0] for arm in arms)
        return f"{signed(float(slopes(np.array(values), places)), 1)} points CIDEr on COCO per {claim.along_unit} ({models})"
    (first, one), (second, two) = (
        step(claim.treatment, claim.treatment_from),
        step(claim.reference, claim.reference_from),
    )
    return f"{signed(one - two, 1)} points CIDEr on COCO ({first}; {second})"


def _places(study: Study) -> dict[str, tuple[str, str]]:
    """Return arm -> (size, amount) of Figure 4 by rank, for a grid of 3 encoders x 3 amounts; empty for any other."""
    arms = [arm for arm in study.arms if {"encoder", "amount"} <= set(arm.variants)]
    theirs = figure_4()
    ranks = []
    for axis, names in (("encoder", theirs["size"]), ("amount", theirs["amount"])):
        ours, known = list(dict.fromkeys(arm.variants[axis] for arm in arms)), list(dict.fromkeys(names))
        if len(ours) != len(known):
            return {}
        ranks.append(dict(zip(ours, known, strict=True)))
    return {arm.name: (ranks[0][arm.variants["encoder"]], ranks[1][arm.variants["amount"]]) for arm in arms}


def _figure(study: Study, frame: pd.DataFrame) -> list[BesideTable]:
    place = _places(study)
    metric = study.claims[0].metric if study.claims else "CIDEr"
    theirs = figure_4()
    panels = theirs.drop_duplicates("benchmark")
    rows = []
    for arm, (size, amount) in place.items():
        own = theirs[(theirs["size"] == size) & (theirs["amount"] == amount)].set_index("benchmark")
        cells = [f"{own.loc[each, 'value']:.1f} (D)" for each in panels["benchmark"]]
        rows.append((size, amount, *cells, arm, study.arm(arm).variants["amount"], score_text(frame, arm, metric)))
    if not rows:
        return []
    return [
        BesideTable(
            caption="Figure 4 beside our grid; sizes and amounts are matched by rank, smallest to largest.",
            paper_data="digitised from Figure 4, which names no split; the error is that of reading it off",
            here_data=_here(study),
            paper_columns=("model", "images", *(_panel_name(row) for row in panels.itertuples())),
            here_columns=("arm", "amount", f"{study.data} {display_name(metric)}"),
            rows=tuple(rows),
        )
    ]


def _panel_name(row: Any) -> str:
    return f"{row.benchmark} {row.metric}, \N{PLUS-MINUS SIGN}{row.error:g}"


def _standard(study: Study, frame: pd.DataFrame) -> BesideTable | None:
    """The paper's standard model beside our base arm, which stands in its place; None where either has no value."""
    model, benchmark, split, metric = _BESIDE_BASE[_task(study)]
    rows = paper_rows(model=model, benchmark=benchmark, metric=metric)
    rows = rows[rows["split"] == split].head(1)
    ours = study.claims[0].metric if study.claims else metric
    here = score_text(frame, study.base, ours)
    if rows.empty or not here:
        return None
    row = rows.iloc[0]
    return BesideTable(
        caption="The paper's standard model, and our base arm in its place.",
        paper_data=f"{benchmark}{', ' if split else ''}{split}; {row['source']}",
        here_data=_here(study),
        paper_columns=("model", f"{benchmark} {metric}"),
        here_columns=("arm", f"{study.data} {display_name(ours)}"),
        rows=((model, f"{row['value']} {row['unit']} ({row['confidence']})", study.base, here),),
    )


def score_text(frame: pd.DataFrame, arm: str, metric: str) -> str:
    """Return "114.5 ± 9.8" of one arm, or "" where it has no value."""
    found = arm_interval(frame, arm, metric)
    if found is None:
        return ""
    places = digits((found.mean,))
    half = "" if found.half_width is None else f" \N{PLUS-MINUS SIGN} {found.half_width:.{places}f}"
    return f"{found.mean:.{places}f}{half}"


def _difference(verdict: Verdict) -> str:
    if verdict.difference is None:
        return "no difference measured"
    places = digits((verdict.difference, *(verdict.interval or ())))
    text = f"{signed(verdict.difference, places)} {claim_unit(verdict.claim)} {display_name(verdict.claim.metric)}"
    if verdict.interval is None:
        return text
    return f"{text} ({signed(verdict.interval[0], places)} to {signed(verdict.interval[1], places)}), n = {verdict.n}"
