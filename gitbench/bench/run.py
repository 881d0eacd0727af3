"""The benchmark run: each work in its own process, one after another, then one result; no torch in this process."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitbench.bench.plan import Task
from gitbench.bench.rows import Row, from_json, to_json
from gitbench.errors import GitbenchError
from gitbench.files import ROOT, read_json
from gitbench.study.provenance import provenance

SCORING_IMAGES = 5000
QUICK_IMAGES = 200
SCORING_REPEATS = 3  # of pairs that take 20 s each, on two sets of captions
_KEPT = ("git_revision", "git_dirty", "python", "platform", "cpu", "cpu_count", "gpus", "machine", "started")


@dataclass(frozen=True, kw_only=True)
class Result:
    """A benchmark run: its rows, the measured matrix rates (operations a second) and where it was made."""

    rows: tuple[Row, ...]
    rates: dict[str, float]
    threads: int
    made: dict[str, Any]
    versions: dict[str, str]


def run_tasks(
    tasks: Sequence[Task],
    *,
    official: Path | None,
    repeats: int | None,
    threads: int,
    quick: bool,
    captions: str | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Measure all tasks, one child process each; the first that fails ends the run with its own error, and no result."""
    made = provenance("none")
    rows: list[Row] = []
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="gitbench-bench-") as folder:
        for number, task in enumerate(tasks):
            say(f"{number + 1} of {len(tasks)}: {task.work} {task.shape}".rstrip())
            out = Path(folder) / f"{number}.json"
            _measure(task, out, official, repeats, threads, quick, captions)
            answer = read_json(out)
            found = [from_json(values) for values in answer["rows"]]
            for row in found:
                say(f"    {line(row)}")
            rows += found
            rates = rates or answer["rates"]
    versions = {**made["packages"], "transformers": _version("transformers")}
    return Result(
        rows=tuple(rows),
        rates=rates,
        threads=threads,
        made={key: made[key] for key in _KEPT},
        versions=versions,
    )


def line(row: Row) -> str:
    """A row in one line: its median ratio, the interval and the number of pairs."""
    interval = row.interval
    return (
        f"{row.name}: {row.ratio:.2f} times as fast ({interval.low:.2f} to {interval.high:.2f}, "
        f"{len(row.ratios)} pair{'s' if len(row.ratios) > 1 else ''})"
    )


def _measure(
    task: Task,
    out: Path,
    official: Path | None,
    repeats: int | None,
    threads: int,
    quick: bool,
    captions: str | None,
) -> None:
    scoring = task.work == "scoring"
    order = {
        **asdict(task),
        "out": str(out),
        "official": str(official.resolve()) if official else None,
        "repeats": (repeats or (3 if quick else SCORING_REPEATS)) if scoring else repeats,
        "threads": threads,
        "images": QUICK_IMAGES if quick else SCORING_IMAGES,
        "captions": captions,
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1" if scoring else str(threads), "HF_HUB_OFFLINE": "1"}
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    command = [sys.executable, "-m", "gitbench.bench.child", json.dumps(order)]
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = child.communicate()
    except BaseException:
        child.kill()
        child.wait()
        raise
    if child.returncode or not out.is_file():
        last = errors.strip().splitlines()[-1] if errors.strip() else f"exit status {child.returncode}"
        name = f"{task.work} {task.shape}".rstrip()
        raise GitbenchError(f"{name}: {last.removeprefix('gitbench: ')}; no result was written")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def result_json(result: Result) -> dict[str, Any]:
    """Return a result as plain values."""
    return {
        **result.made,
        "threads": result.threads,
        "versions": result.versions,
        "matrix_rate": result.rates,
        "rows": [to_json(row) for row in result.rows],
    }
