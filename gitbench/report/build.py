"""Write a report folder, whole or not at all: built beside its target and swapped in when every file is there."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gitbench.errors import GitbenchError
from gitbench.files import explain_os_errors, make_dir, read_json, write_json, write_text
from gitbench.report import figures, latex, tables
from gitbench.report.audit import check_numbers
from gitbench.report.html import Drawing, main_metric, page
from gitbench.report.paper_table import beside_markdown, beside_tables
from gitbench.report.pictures import prediction_figure
from gitbench.report.scale import scale_figure
from gitbench.report.style import COLUMN, PAGE, TEXT, save, style, svg_text
from gitbench.report.view import Content, gather

MANIFEST = "manifest.json"


def write_report(
    work_dir: str | Path,
    ablation: str,
    profile: str,
    data: str,
    out: str | Path,
    images: Mapping[Any, np.ndarray] | None = None,
) -> Path:
    """Write the report of one study into the folder `out` and return that folder.

    `images` maps image_id to (H, W, 3) uint8 (or floats in [0, 1]); None for data whose pictures may not be passed on,
    and then no file of the report holds any. The folder holds table.{csv,md,tex}, numbers.tex, runs.csv, figures as SVG,
    PDF and PNG in the width of a paper's column, verdicts.json, report.html, and manifest.json (SHA-256 of every file).
    The same work directory gives the same bytes. An earlier report in `out` is replaced; a folder with anything else in
    it is refused, and so is a number that no finished run stands behind (GitbenchError).
    """
    content = gather(work_dir, ablation, profile, data, images)
    check_numbers(work_dir, content.study, tables.summarise(content.frame, content.study), content.verdicts)
    out = Path(os.path.abspath(out))
    _refuse_foreign(out)
    make_dir(out.parent)
    with explain_os_errors(out):
        building = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        _write_files(content, building)
        _write_manifest(content, building)
        with explain_os_errors(out):
            building.chmod(0o755)
            _swap(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def _write_files(content: Content, folder: Path) -> None:
    frame, study, verdicts, floors = content.frame, content.study, content.verdicts, content.floors
    crossed = {name: found.crossed for name, found in content.evidence.items()}
    beside = beside_markdown(beside_tables(study, frame, verdicts))
    write_text(folder / "table.csv", tables.csv_text(frame, study))
    write_text(
        folder / "table.md", f"{tables.markdown_text(frame, study, verdicts, floors, content.dropped)}\n{beside}"
    )
    write_text(folder / "table.tex", latex.table_text(frame, study, verdicts, floors))
    write_text(folder / "numbers.tex", latex.numbers_text(frame, study, verdicts, crossed, floors))
    write_text(folder / "runs.csv", frame.to_csv(index=False, lineterminator="\n"))
    write_json(
        folder / "verdicts.json",
        {
            "schema": 1,
            "answer": content.answer,
            "verdicts": [verdict.as_json() for verdict in verdicts],
            "dropped": [{"name": each.name, "what": each.what, "when": each.when} for each in content.dropped],
        },
    )
    write_text(folder / "report.html", page(content, _draw(content, folder)))


def _draw(content: Content, folder: Path) -> dict[str, Drawing]:
    """Write the figures in the width of a paper's column (or its text); return those of the page by name."""
    metric, judged = main_metric(content), [verdict for verdict in content.verdicts if verdict.differences]
    drawers: dict[str, tuple[float, Any]] = {
        "score": (COLUMN, lambda width: figures.score_figure(content, metric, width)),
        "scale": (TEXT, lambda width: scale_figure(content, metric, width)),
        "curves": (COLUMN, lambda width: figures.curve_figure(content, width)),
        "difference": (COLUMN, lambda width: figures.difference_figure(judged, width) if judged else None),
    }
    drawn: dict[str, Drawing] = {}
    for name, (narrow, draw) in drawers.items():
        with style(narrow):
            figure = draw(narrow)
        if figure is not None:
            save(figure, folder, name)
            with style(PAGE):
                wide = svg_text(draw(PAGE), name)
            with style(COLUMN):
                drawn[name] = Drawing(wide=wide, narrow=svg_text(draw(COLUMN), f"{name} narrow"))
    if "scale" in drawn:  # its first panel is the same figure
        del drawn["score"]
    pictured = [sample for sample in content.samples if sample.image is not None]
    if pictured:
        with style():
            save(prediction_figure(pictured), folder, "predictions")
    return drawn


def _write_manifest(content: Content, folder: Path) -> None:
    study = content.study
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    write_json(
        folder / MANIFEST,
        {
            "schema": 1,
            "ablation": study.ablation,
            "profile": study.profile,
            "data": study.data,
            "data_fingerprint": study.data_fingerprint,
            "command": study.command,
            "title": study.title,
            "environment": {name: list(values) for name, values in content.provenance.items()},
            "runs": [run.run_key for run in content.finished],
            "missing_runs": [run.run_key for run in content.missing],
            "files": hashes,
        },
    )


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
