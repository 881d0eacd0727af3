"""Where a study's report goes, and which of its pictures may be shown in it."""

from __future__ import annotations

from pathlib import Path

from gitbench.data import open_source
from gitbench.files import ROOT
from gitbench.report import write_report
from gitbench.runs.machine import machine_label
from gitbench.runs.plan import Plan


def default_out(plan: Plan) -> Path:
    """Return `reports/results/<ablation>/<profile>-<data>-<machine>` of the clone, or of the current folder."""
    base = ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()
    name = plan.study.split(".", 1)[1].replace(".", "-")
    return base / "reports" / "results" / plan.ablation.name / f"{name}-{machine_label()}"


def publish(plan: Plan, out: Path | None) -> Path:
    """Write the report of a study. Only scenes, which are this project's own, appear as pictures."""
    images = None
    if plan.data == "scenes":
        source = open_source(plan.data, "test", plan.profile.data.test_images)
        images = {source.image_id(index): source.image(index) for index in range(len(source))}
    return write_report(
        plan.work_dir,
        plan.ablation.name,
        plan.profile.name,
        plan.label,
        out or default_out(plan),
        images=images,
    )
