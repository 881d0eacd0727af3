"""Lay a report out as one self-contained HTML page: inline SVG, inline PNG, no script, no request to anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitbench.report.proof import is_of, proof_row
from gitbench.report.templates import render
from gitbench.report.view import View
from gitbench.scores import digits, lower_is_better


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure of a page as SVG, drawn twice: a wide one shrunk to a phone's width could not be read."""

    wide: str
    narrow: str


def page(view: View, figures: Mapping[str, Drawing]) -> str:
    """Return the whole page; `figures` holds drawings by name ("score", "scale", "difference", "curves")."""
    plan, frame, proof = view.plan, view.frame, view.study.proof
    signed = frame.dropna(subset=["signature"])
    return render(
        "report.html.j2",
        view=view,
        plan=plan,
        figures=figures,
        lead=view.answer.partition(":")[0] + ":",  # what stands above several verdicts
        noise={name: view.study.noise_floors[name] for name in view.scores if name in view.study.noise_floors},
        yardsticks=_yardsticks(view),
        proof=proof,
        proven=proof is not None and is_of(proof, plan),
        proof_rows=list(map(proof_row, proof.arms)) if proof else [],
        lower=any(map(lower_is_better, view.scores)),
        machines=sorted(set(frame["machine"].dropna()) | set(frame["device"].dropna())),
        replicates=sorted({run.replicate for run in view.study.finished}),
        signatures={metric: sorted(set(rows["signature"])) for metric, rows in signed.groupby("metric", sort=False)},
        pictured=any(sample.image is not None for sample in view.samples),
        scored=any(caption.score is not None for sample in view.samples for caption in sample.captions),
        packages={name[8:]: versions for name, versions in view.provenance.items() if name.startswith("package ")},
    )


def _yardsticks(view: View) -> dict[str, Any]:
    """Return how each arm stands to the floor and the ceiling of the main metric, with the decimals to print."""
    floor, ceiling = view.level("floor"), view.level("ceiling")
    places = digits(view.frame.loc[view.frame["metric"] == view.metric, "value"].dropna())
    rows = []
    for arm in view.arms:
        mean = view.table.loc[view.table["arm"] == arm.name, view.metric].iloc[0]
        if arm.role == "floor" or mean != mean:
            continue
        times = mean / floor if floor and floor > 0 else None
        share = None if floor is None or ceiling in (None, floor) else (mean - floor) / (ceiling - floor)
        rows.append({"arm": arm.name, "mean": mean, "times": times, "share": share})
    return {"rows": rows, "places": places, "floor": floor, "ceiling": ceiling}
