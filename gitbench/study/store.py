"""The work directory: where studies, runs and yardsticks lie, and when a run counts as complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import read_json

DEFAULT_WORK_DIR = Path("work_dirs")


def run_folder(work_dir: Path, key: str) -> Path:
    """Return the folder of a run."""
    return work_dir / "runs" / key


def study_file(work_dir: Path, study: str) -> Path:
    """Return the file of a study ("<ablation>.<profile>.<data>")."""
    return work_dir / "studies" / f"{study}.json"


def yardstick_file(work_dir: Path, key: str) -> Path:
    """Return the file of a ceiling."""
    return work_dir / "yardsticks" / f"{key}.json"


def captioned(folder: Path) -> bool:
    """Return whether only the scores of a run are missing."""
    return all((folder / name).is_file() for name in ("trained.json", "predictions.jsonl"))


def completed_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a complete run; None where it is missing, damaged or another run's."""
    path = folder / "record.json"
    if not path.is_file():
        return None
    try:
        record = read_json(path)
    except GitbenchError:
        return None
    whole = (
        isinstance(record, dict)
        and record.get("run_key") == folder.name
        and all(isinstance(record.get(part), dict) for part in ("spec", "metrics", "cost", "train"))
        and (folder / "per_image.parquet").is_file()
    )
    return record if whole else None
