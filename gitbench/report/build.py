"""Write a report folder, whole or not at all: built beside its target and swapped in when every file is there."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure

from gitbench.claim import claimed
from gitbench.errors import GitbenchError
from gitbench.files import explain_os_errors, make_dir, read_json, write_json, write_text
from gitbench.judge.verdict import Verdict
from gitbench.report.figures import caption_sheet, curve_figure, forest_figure, prediction_figure
from gitbench.report.latex import numbers_text
from gitbench.report.latex_table import table_text
from gitbench.report.page import page
from gitbench.report.samples import Pictures
from gitbench.report.score_figures import cost_figure, interaction_figure, scale_figure, score_figure
from gitbench.report.style import COLUMN, TEXT, embedded_svg, save, style
from gitbench.report.templates import render
from gitbench.report.view import View
from gitbench.study.evidence import made_to_json
from gitbench.study.makers import makers_to_json
from gitbench.study.plan_file import plan_to_json
from gitbench.study.store import Study
from gitbench.study.verify import made_of

MANIFEST = "manifest.json"
_OF_PLAN = ("ablation", "profile", "data_fingerprint", "command", "title")  # what a manifest says of its plan
# in the order of the page: name -> (width of the file in inches, what draws it, what is read out for it)
_FIGURES: dict[str, tuple[float, Callable[[View, float], Figure | None], str]] = {
    "forest": (COLUMN, forest_figure, "Plot of the paired differences of each claim, as in the tables of evidence"),
    "score": (COLUMN, score_figure, "Plot of the score of each arm and seed, as in the tables of results and runs"),
    "interaction": (COLUMN, interaction_figure, "Plot of the score of each arm and seed over the second axis"),
    "cost": (COLUMN, cost_figure, "Plots of the score of each arm over what a run costs, as in the tables"),
    "curves": (COLUMN, curve_figure, "Plots of training and validation loss of each arm over iterations"),
    "scale": (TEXT, scale_figure, "Plots of scores over the amount of data, ours and the paper's, as in the tables"),
}


def write_report(
    study: Study,
    verdicts: Sequence[Verdict],
    out: str | Path,
    images: Pictures | None = None,
    board: str | None = None,
) -> Path:
    """Write the report of a study, with its claims as judged, into the folder `out` and return that folder.

    `images` returns the picture of an image_id, (H, W, 3) uint8; None for data whose pictures may not be passed on, and
    then no file of the report holds any. `board` is the way to the claims board, for a link. The folder holds
    table.{csv,md,tex}, table_column.tex, numbers.tex, runs.csv, figures as SVG, PDF and PNG in the width of a paper's
    column, verdicts.json and evidence.json (from which they can be judged again, with runs.csv), report.html, and
    manifest.json (SHA-256 of every file). The same study gives the same bytes. An earlier report in `out` is replaced; a
    folder with anything else in it is refused (GitbenchError).
    """
    view = View.of(study, verdicts, images)
    out = Path(os.path.abspath(out))
    _refuse_foreign(out)
    make_dir(out.parent)
    with explain_os_errors(out):
        building = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        _write_files(view, building, board)
        put_in_place(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def _write_files(view: View, folder: Path, board: str | None) -> None:
    """Write every file of a report."""
    plan = view.plan
    write_text(folder / "table.csv", view.table.to_csv(index=False, lineterminator="\n"))
    write_text(folder / "table.md", render("table.md.j2", view=view, plan=plan))
    write_text(folder / "table.tex", table_text(view))
    write_text(folder / "table_column.tex", table_text(view, wide=False))
    write_text(folder / "numbers.tex", numbers_text(view))
    write_text(folder / "runs.csv", view.frame.to_csv(index=False, lineterminator="\n"))
    write_json(
        folder / "verdicts.json",
        {
            "schema": 1,
            "answer": view.answer,
            "verdicts": [asdict(verdict) for verdict in view.verdicts],
            "dropped": [{"name": each.name, "what": each.what, "when": each.when} for each in view.dropped],
        },
    )
    every = [each for verdict in view.verdicts for each in (verdict, verdict.likelihood) if each is not None]
    errors = {name: asdict(error) for verdict in every for name, error in verdict.image_errors.items()}
    write_json(
        folder / "evidence.json",
        {
            "schema": 1,
            "plan": plan_to_json(plan),
            "looks": max((verdict.looks for verdict in view.verdicts), default=0),
            "ceiling_kind": view.study.yardstick.kind,
            "origin": {"began": view.origin.began, "notes": view.origin.notes},
            "made": made_to_json(made_of(view.study)),
            "makers": makers_to_json(view.origin.makers),
            "images": errors,
        },
    )
    write_text(folder / "report.html", page(view, _draw(view, folder), board))
    manifest = {
        "schema": 1,
        **{name: getattr(plan, name) for name in _OF_PLAN},
        "data": plan.label,
        "environment": view.provenance,
        "runs": [run.run_key for run in view.study.finished],
        "missing_runs": [run.run_key for run in view.study.missing],
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())},
    }
    write_json(folder / MANIFEST, manifest)


def _draw(view: View, folder: Path) -> dict[str, tuple[str, ...]]:
    """Write the figures in the width of a paper's column (or its text).

    Return those of the page: as in the file, and of one that is wider than a column a second for phones.
    """
    drawn: dict[str, tuple[str, ...]] = {}
    for name, (file_width, draw, label) in _FIGURES.items():
        for width in dict.fromkeys((file_width, COLUMN)):
            with style(width):
                if (figure := draw(view, width)) is None:
                    break
                if width == file_width:
                    save(figure, folder, name)
                drawn[name] = (*drawn.get(name, ()), embedded_svg(figure, f"{name}-{len(drawn.get(name, ()))}", label))
    if "scale" in drawn:  # its first panel is the same figure
        drawn.pop("interaction", None)
    pictured = [sample for sample in view.samples if sample.image is not None]
    if pictured:
        with style(COLUMN):
            save(prediction_figure(pictured, view.titles), folder, "predictions")
        with style(TEXT):
            save(caption_sheet(view.sheet, TEXT), folder, "captions")
    return drawn


def _refuse_foreign(out: Path) -> None:
    """Refuse to replace a folder that holds anything an earlier report did not write."""
    if not out.exists():
        return
    if not out.is_dir():
        raise GitbenchError(f"{out} is a file: pass another --out")
    present = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    known: set[str] = set()
    if (out / MANIFEST).is_file():
        listed = read_json(out / MANIFEST)
        known = {MANIFEST, *(listed.get("files", {}) if isinstance(listed, dict) else {})}
    if foreign := sorted(present - known):
        raise GitbenchError(
            f"{out} holds files that are no report ({', '.join(foreign[:3])}): pass an empty folder as --out"
        )


def put_in_place(building: Path, out: Path) -> None:
    """Put a report in the place of an earlier one, or of none; another launch of the study may do so at the same time."""
    with claimed(out.with_name(f".{out.name}.swap")), explain_os_errors(out):
        building.chmod(0o755)
        _swap(building, out)


def _swap(building: Path, out: Path) -> None:
    """Put `building` in the place of `out`; a kill between the two steps leaves the old report under a hidden name."""
    if not out.exists():
        os.replace(building, out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    os.replace(out, old / "report")
    try:
        os.replace(building, out)
    except OSError:
        os.replace(old / "report", out)
        raise
    shutil.rmtree(old, ignore_errors=True)
