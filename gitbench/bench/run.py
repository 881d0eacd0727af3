"""The benchmark run: each task in its own process, one after another, then one result; no torch in this process.

The child process is `python -m gitbench.bench.run TASK FILE`, so that memory, allocator and caches of one workload never
touch the next. TASK is JSON; its rows go to FILE. A failed check ends it with status 2 and one line, and no file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gitbench.bench.rows import Row, from_json, to_json
from gitbench.bench.workloads import Task
from gitbench.errors import GitbenchError
from gitbench.files import ROOT, read_json, write_json
from gitbench.study.provenance import environment, installed_version, now

_KEPT = ("git_revision", "git_dirty", "python", "platform", "cpu", "cpu_count", "gpus", "machine")


def measure_here(task: Task) -> list[Row]:
    """Measure a task in this process."""
    if task.workload == "scoring":
        from gitbench.bench.scoring import scoring_rows

        return scoring_rows(task.repeats or 1, task.images)
    from gitbench.bench.measure import measure

    return measure(task)


def measure_in_child(task: Task) -> list[Row]:
    """Measure a task in a child process. Raises GitbenchError with its last line if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(task.threads), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory(prefix="gitbench-bench-") as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "gitbench.bench.run", json.dumps(asdict(task)), str(out)]
        child = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        if child.returncode or not out.is_file():
            last = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
            raise GitbenchError(f"{task}: {last.removeprefix('gitbench: ')}; no result was written")
        return [from_json(values) for values in read_json(out)]


def run_tasks(
    tasks: Sequence[Task], measure: Callable[[Task], list[Row]] = measure_in_child, say: Callable[[str], None] = print
) -> tuple[list[Row], dict[str, Any]]:
    """Measure all tasks; the first that fails ends the run with its own error.

    Returns the rows, and where they were made: machine, revision, versions. Both together are `bench.json`.
    """
    made = {key: value for key, value in environment().items() if key in _KEPT}
    made |= {"started": now(), "threads": max(task.threads for task in tasks)}
    made["versions"] = dict(environment()["packages"])
    if version := installed_version("transformers"):
        made["versions"]["transformers"] = version
    rows: list[Row] = []
    for number, task in enumerate(tasks, start=1):
        say(f"{number} of {len(tasks)}: {task}")
        found = measure(task)
        for row in found:
            say(f"    {row}")
        rows += found
    return rows, made


if __name__ == "__main__":
    try:
        write_json(sys.argv[2], [to_json(row) for row in measure_here(Task(**json.loads(sys.argv[1])))])
    except GitbenchError as problem:
        print(f"gitbench: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
