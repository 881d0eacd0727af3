"""The benchmark run: each task in its own process, one after another, then one result; no torch in this process."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gitbench.bench.rows import Row, from_json
from gitbench.bench.workloads import Task
from gitbench.errors import GitbenchError
from gitbench.files import ROOT, read_json
from gitbench.study.provenance import environment

_KEPT = ("git_revision", "git_dirty", "python", "platform", "cpu", "cpu_count", "gpus", "machine", "started")

Measure = Callable[[Task], dict[str, Any]]  # a task -> {"rows": rows as JSON, "rates": operations a second}


def in_process(task: Task) -> dict[str, Any]:
    """Measure a task in a child process (`child.py`). Raises GitbenchError with its last line if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(task.threads), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory(prefix="gitbench-bench-") as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "gitbench.bench.child", json.dumps(asdict(task)), str(out)]
        child = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        if child.returncode or not out.is_file():
            last = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
            raise GitbenchError(f"{task}: {last.removeprefix('gitbench: ')}; no result was written")
        return read_json(out)


def run_tasks(
    tasks: Sequence[Task], measure: Measure = in_process, say: Callable[[str], None] = print
) -> tuple[list[Row], dict[str, Any]]:
    """Measure all tasks; the first that fails ends the run with its own error.

    Returns the rows, and where they were made: machine, revision, versions, the matrix rates of the first process
    (operations a second). Both together are `bench.json`.
    """
    made = environment()
    rows: list[Row] = []
    rates: dict[str, float] = {}
    for number, task in enumerate(tasks, start=1):
        say(f"{number} of {len(tasks)}: {task}")
        answer = measure(task)
        found = [from_json(values) for values in answer["rows"]]
        for row in found:
            say(f"    {row}")
        rows += found
        rates = rates or answer["rates"]
    versions = {**made["packages"], "transformers": _version("transformers")}
    threads = max(task.threads for task in tasks)
    return rows, {**{key: made[key] for key in _KEPT}, "threads": threads, "versions": versions, "matrix_rate": rates}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
