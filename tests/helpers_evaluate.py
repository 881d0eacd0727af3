"""Evaluations by the command, and what they leave; the forms in which a run's model is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers_cli import call

from gitbench.run_folder import RunFolder


@dataclass(frozen=True)
class Scored:
    """What an evaluation left."""

    folder: Path
    record: dict[str, Any]
    predictions: list[dict[str, Any]]
    out: str
    err: str


def evaluated(work_dir: Path, *words: str | Path) -> Scored:
    """Run `gitbench evaluate` in this process, on one checkpoint."""
    (found,) = all_evaluated(work_dir, *words)
    return found


def all_evaluated(work_dir: Path, *words: str | Path) -> list[Scored]:
    """Run `gitbench evaluate` in this process, on any number of checkpoints."""
    done = call("evaluate", *map(str, words), "--work-dir", str(work_dir))
    assert done.returncode == 0, done.stderr
    reports = [line.removeprefix("report: ") for line in done.stdout.splitlines() if line.startswith("report: ")]
    found = []
    for folder in (Path(report).parent for report in reports):
        lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").split("\n")
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        rows = [json.loads(line) for line in lines if line]
        found.append(Scored(folder=folder, record=record, predictions=rows, out=done.stdout, err=done.stderr))
    return found


def forms_of(run: Path, place: Path) -> dict[str, Path]:
    """Return the forms of a finished run's model: its folder, its file of weights alone, and both exports."""
    alone = place / "alone" / "model.pth"
    alone.parent.mkdir(parents=True)
    for name in (RunFolder(run).weights, RunFolder(run).tokenizer):
        (alone.parent / name.name).symlink_to(name)
    found = {"run": run, "model.pth": alone}
    for layout in ("huggingface", "official"):
        found[layout] = place / layout
        assert call("export", str(run), "--to", layout, str(found[layout])).returncode == 0
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """Print scores of several forms beside each other, to the last digit."""
    metrics = [name for name in ("test_nll", "CIDEr", "BLEU-4", "VQA", "EM") if name in next(iter(found.values()))]
    rows = [
        ["", *metrics],
        *([form, *(repr(scores[name]["value"]) for name in metrics)] for form, scores in found.items()),
    ]
    return "\n".join("  ".join(f"{cell:<20}" for cell in row) for row in rows)
