"""Studies, verdicts and views for tests of the report, from a fabricated work directory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
from helpers_runs import CLAIM, NAME, make_work_dir

from gitbench.ablations import load_ablation
from gitbench.judge.noise import NoiseFloor
from gitbench.judge.verdict import Verdict
from gitbench.plan import PlannedArm
from gitbench.report.tables import summarise
from gitbench.report.view import View
from gitbench.spec import Arm
from gitbench.study.interim import judge
from gitbench.study.store import Study

BETTER = CLAIM | {"name": "larger-better", "kind": "better", "margin": 0.0, "margin_reason": "any"}
FAR = {"blind": 21.0, "small": 60.0, "base": 80.0, "large": 100.0}  # arms that no noise hides


def study_of(folder: Path, **options: Any) -> Study:
    """Fabricate a study of decoder_size and open it; `options` are those of `make_work_dir`."""
    return Study.open(make_work_dir(folder, **options), NAME)


def judged(folder: Path, **options: Any) -> tuple[Study, tuple[Verdict, ...]]:
    """Fabricate a study without captions and curves, and judge it."""
    study = study_of(folder, records_only=True, **options)
    return study, judge(study)


def view_of(folder: Path, **options: Any) -> View:
    """Fabricate a study and gather what its report says."""
    study = study_of(folder, **options)
    return View.of(study, judge(study))


def grid_of(view: View) -> View:
    """Return the view of a study of data_scale: nine arms of several seeds, whose scores are their place in the grid."""
    ablation, frame = load_ablation("data_scale"), view.frame
    arms = tuple(_grid_arm(arm) for arm in ablation.arms["cpu"])
    scores = frame[(frame["arm"] == "large") & frame["metric"].isin(view.scores)]
    amounts = {"n300": 300.0, "n600": 600.0, "all": 6400.0}
    tables = []
    for at, arm in enumerate(arms):
        own = {
            "training_images": amounts[arm.variants["amount"]],
            "parameters": 1e6 * (1 + at % 3),
            "seconds": 60.0 + at,
        }
        costs = [scores[scores["metric"] == "CIDEr"].assign(metric=name, value=value) for name, value in own.items()]
        tables += [
            each.assign(arm=arm.name, label=arm.label) for each in (scores.assign(value=scores["value"] + at), *costs)
        ]
    plan = dataclasses.replace(
        view.plan, ablation="data_scale", arms=arms, claims=ablation.claims, axis="encoder", crossed_with="amount"
    )
    frame = pd.concat([frame[frame["role"].isin(["floor", "ceiling"])], *tables], ignore_index=True)
    large = view.curves[view.curves["arm"] == "large"]
    curves = pd.concat([large.assign(arm=arm.name) for arm in arms], ignore_index=True)
    return dataclasses.replace(
        view, plan=plan, frame=frame, table=summarise(frame, plan), arms=arms, curves=curves, best={}
    )


def _grid_arm(arm: Arm) -> PlannedArm:
    """Return an arm as planning describes it."""
    layers, width = arm.variants["encoder"].split("_")[1].split("x")
    amount = {"n300": "300", "n600": "600", "all": "6,400"}[arm.variants["amount"]]
    labels = {"encoder": f"ViT, {layers} layers \N{MULTIPLICATION SIGN} {width}", "amount": f"{amount} images"}
    return PlannedArm(name=arm.name, role="arm", variants=arm.variants, label=", ".join(labels.values()), labels=labels)


def floor_of(sd: float, mde: float, n: int = 10) -> NoiseFloor:
    """Return a noise floor of CIDEr with this spread."""
    rates = {"false_positive_rate": 0.04, "better_rate": 0.05, "different_rate": 0.05}
    ends = {"sd_low": 0.6 * sd, "sd_high": 2 * sd, "mean": 90.0, "values": (89.0, 91.0)}
    return NoiseFloor(metric="CIDEr", sd=sd, mde=mde, n=n, seeds=5, judged=100, splits=126, **rates, **ends)
