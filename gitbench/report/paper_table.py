"""The paper's numbers and ours in one table, each under the data it was measured on, none subtracted from the other.

`reports/paper/claims.csv` says which numbers belong to an ablation (column `numbers`: a file, "not obtained" or "none").
Beside a value of the paper stands how it is known (`paper.KNOWN`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from gitbench.formats import digits, plus_minus, signed
from gitbench.metric_info import display_name
from gitbench.plan import Plan
from gitbench.report.paper import KNOWN, figure_4, has_figure_4, paper_claims, paper_rows
from gitbench.report.tables import arm_interval
from gitbench.spec import OURS, Claim

_STANDARD_MODEL = {  # task -> (model, benchmark, split, metric) of the paper
    "caption": ("GIT_B", "COCO", "Karpathy test", "CIDEr"),
    "vqa": ("GIT_B", "VQAv2", "test-dev", "accuracy"),
    "video": ("GIT_B", "MSRVTT", "test", "CIDEr"),
    "classify": ("GIT", "ImageNet-1k", "", "exact match"),
    "read": ("GIT", "Text recognition (avg on 6)", "", "score as printed"),
}
NOT_OBTAINED, NO_NUMBERS = "not obtainable", "none published"
Places = Mapping[str, tuple[str, str]]  # arm -> its (size, amount) in Figure 4


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table in two halves, theirs and ours; `rows` hold one text a column, the paper's columns first."""

    caption: str
    paper_data: str  # what the paper's half was measured on
    paper_columns: tuple[str, ...]
    here_columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def paper_tables(plan: Plan, frame: pd.DataFrame, metric: str) -> tuple[PaperTable, ...]:
    """Return the tables of a study that is about `metric`: the paper's figure where it has one, and the standard model."""
    found = (_figure(plan, frame, metric), _standard_model(plan, frame, metric))
    return tuple(each for each in found if each is not None)


def paper_numbers(plan: Plan, claim: Claim) -> str:
    """Return the paper's own numbers for a claim as text, with how they are known; says so where there are none."""
    if claim.confidence == OURS:
        return "none: the claim is ours"
    rows = paper_claims(plan.ablation)
    known = set(rows.loc[rows["quote"] == claim.quote, "numbers"])
    if "figure_4" in known:
        places = figure_places(plan)
        if places and set(claim.arms) <= set(places):
            return f"{_figure_difference(claim, places)}, {KNOWN['D']}"
    return NOT_OBTAINED if "not obtained" in known else NO_NUMBERS


def figure_places(plan: Plan) -> Places:
    """Return arm -> (size, amount) of Figure 4 by rank, for a grid of 3 encoders x 3 amounts; empty for any other."""
    arms = [arm for arm in plan.arms if {"encoder", "amount"} <= set(arm.variants)]
    theirs = figure_4()
    ranks = []
    for axis, names in (("encoder", theirs["size"]), ("amount", theirs["amount"])):
        ours, known = list(dict.fromkeys(arm.variants[axis] for arm in arms)), list(dict.fromkeys(names))
        if len(ours) != len(known):
            return {}
        ranks.append(dict(zip(ours, known, strict=True)))
    return {arm.name: (ranks[0][arm.variants["encoder"]], ranks[1][arm.variants["amount"]]) for arm in arms}


def _figure_difference(claim: Claim, places: Places) -> str:
    """Return a claim's difference as Figure 4's COCO panel has it, with the models that it is read from."""
    theirs = figure_4()
    coco = theirs[theirs["benchmark"] == "COCO"].set_index(["size", "amount"])["value"]

    def side(arm: str, start: str | None) -> tuple[float, str]:
        (size, amount), value = places[arm], float(coco[places[arm]])
        if start is None:
            return value, f"{size} {amount} {value:.1f}"
        first = float(coco[places[start]])
        return value - first, f"{size} {places[start][1]} to {amount}: {first:.1f} to {value:.1f}"

    if claim.kind == "trend":
        sides = [side(arm, None) for arm in claim.along]
        found = sides[-1][0] - sides[0][0]
    else:
        sides = [side(claim.treatment, claim.treatment_from), side(claim.reference, claim.reference_from)]
        found = sides[0][0] - sides[1][0]
    models = "; ".join(model for _, model in sides)
    return f"{signed(found, 1)} points CIDEr on COCO ({models})"


def _figure(plan: Plan, frame: pd.DataFrame, metric: str) -> PaperTable | None:
    places = figure_places(plan) if has_figure_4(plan.ablation) else {}
    if not places:
        return None
    theirs = figure_4().set_index(["size", "amount", "benchmark"])
    panels = figure_4().drop_duplicates("benchmark")
    rows = [
        (
            *place,
            *(f"{theirs.loc[(*place, benchmark), 'value']:.1f}" for benchmark in panels["benchmark"]),
            *(plan.arm(arm).label, score_text(frame, arm, metric)),
        )
        for arm, place in places.items()
    ]
    names = [f"{each.benchmark} {each.metric}, \N{PLUS-MINUS SIGN}{each.error:g}" for each in panels.itertuples()]
    return PaperTable(
        caption="Figure 4 beside our grid; sizes and amounts are matched by rank, smallest to largest.",
        paper_data="read off Figure 4, which names no split; the error is that of reading",
        paper_columns=("model", "images", *names),
        here_columns=("arm", f"{plan.data} {display_name(metric)}"),
        rows=tuple(rows),
    )


def _standard_model(plan: Plan, frame: pd.DataFrame, ours: str) -> PaperTable | None:
    """Return the paper's standard model and our base arm in one row; None where either has no value."""
    model, benchmark, split, metric = _STANDARD_MODEL[plan.task]
    rows = paper_rows()
    rows = rows[(rows[["model", "benchmark", "split", "metric"]] == _STANDARD_MODEL[plan.task]).all(axis=1)]
    here = score_text(frame, plan.base, ours)
    if rows.empty or not here:
        return None
    row, base = rows.iloc[0], plan.arm(plan.base).label or plan.base
    return PaperTable(
        caption="The paper's standard model, and our base arm in its place.",
        paper_data=f"{benchmark}{', ' if split else ''}{split}; {row['source']}",
        paper_columns=("model", f"{benchmark} {metric}"),
        here_columns=("arm", f"{plan.data} {display_name(ours)}"),
        rows=((model, f"{row['value']} {row['unit']} ({KNOWN[row['confidence']]})", base, here),),
    )


def score_text(frame: pd.DataFrame, arm: str, metric: str) -> str:
    """Return "114.5 ± 9.8" of one arm, or "" where it has no value."""
    found = arm_interval(frame, arm, metric)
    if found is None:
        return ""
    return plus_minus(found.mean, found.half_width, digits((found.mean,)))
