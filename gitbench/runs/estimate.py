"""How long a plan will take: the mean of finished runs of the same arm, else of any arm, else the profile's first guess."""

from __future__ import annotations

from collections import defaultdict

from gitbench.runs.plan import Plan
from gitbench.runs.store import completed_record


def estimate_seconds(plan: Plan, at_once: int) -> tuple[float, bool]:
    """Return (seconds with `at_once` slots, whether it rests on finished runs)."""
    known: dict[str, list[float]] = defaultdict(list)
    todo = []
    for run in {run.key: run for run in plan.runs}.values():
        record = completed_record(run.folder)
        if record is None:
            todo.append(run.arm.name)
        else:
            known[run.arm.name].append(record["cost"]["seconds"])
    everything = [seconds for arm in known.values() for seconds in arm]
    fallback = sum(everything) / len(everything) if everything else plan.profile.run_seconds
    total = sum(sum(known[arm]) / len(known[arm]) if arm in known else fallback for arm in todo)
    return total / max(1, min(at_once, len(todo))), bool(everything)
