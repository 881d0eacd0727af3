"""One task in a process of its own: `python -m gitbench.bench.child TASK FILE`, called by `run.py`.

Memory, allocator and caches of one workload never touch the next. TASK is JSON; what was measured goes to FILE. A failed
check ends the process with status 2 and one line, and no file.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from gitbench.bench.rows import to_json
from gitbench.bench.workloads import Task
from gitbench.errors import GitbenchError
from gitbench.files import write_json


def measure_task(task: Task) -> dict[str, Any]:
    """Return {"rows": rows as JSON, "rates": the matrix rates by precision, empty for scoring}."""
    if task.workload == "scoring":
        from gitbench.bench.scoring import scoring_rows

        return {"rows": [to_json(row) for row in scoring_rows(task.repeats or 1, task.images)], "rates": {}}
    from gitbench.bench.measure import measure

    rows, rates = measure(task)
    return {"rows": [to_json(row) for row in rows], "rates": rates}


if __name__ == "__main__":
    try:
        write_json(sys.argv[2], measure_task(Task(**json.loads(sys.argv[1]))))
    except GitbenchError as problem:
        print(f"gitbench: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
