"""A part of a study: some of its arms, some of its replicates, or every n-th of its runs. The plan stays that of the whole.

So the seeds and keys of a part's runs are those that they have in the whole study, wherever and whenever each is trained.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gitbench.errors import GitbenchError
from gitbench.plan import Plan, PlannedRun
from gitbench.study.store import Study


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is wanted of a study; None: all. `shard` is (i, n): of n equal parts the i-th, from 1."""

    arms: tuple[str, ...] | None = None
    replicates: frozenset[int] | None = None
    shard: tuple[int, int] | None = None

    def check(self, plan: Plan) -> None:
        """Refuse arms and replicates that the plan has not, with one line."""
        for arm in self.arms or ():
            plan.arm(arm)
        count = max(run.replicate for run in plan.runs) + 1
        if over := sorted(each for each in self.replicates or () if each >= count):
            raise GitbenchError(f"--replicates: there is no replicate {over[0]}, the study has 0 to {count - 1}")

    def of(self, runs: Sequence[PlannedRun]) -> tuple[PlannedRun, ...]:
        """Return those of the runs that belong to the part; a shard takes about as many of every arm as any other one."""
        chosen = [
            run
            for run in runs
            if (self.arms is None or run.arm in self.arms)
            and (self.replicates is None or run.replicate in self.replicates)
        ]
        if self.shard is None:
            return tuple(chosen)
        arms = list(dict.fromkeys(run.arm for run in chosen))
        place, count = self.shard
        mine = sorted(chosen, key=lambda run: (arms.index(run.arm), run.replicate))[place - 1 :: count]
        return tuple(run for run in chosen if any(run is each for each in mine))

    def within(self, study: Study) -> Study:
        """Return a study whose plan has the runs of the part alone: to look at, its plan is never written."""
        return Study(study.work_dir, dataclasses.replace(study.plan, runs=self.of(study.plan.runs)))


def parse_replicates(text: str) -> frozenset[int]:
    """Return the numbers of "5-9" or "0,2,5-9". Errors: GitbenchError for anything else."""
    found: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:\s*-\s*(\d{1,4}))?\s*", item)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise GitbenchError(f"--replicates {text}: write numbers and ranges, for example 5-9 or 0,2,5-9")
        found |= set(range(first, last + 1))
    return frozenset(found)


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, n) of "i/n". Errors: GitbenchError for anything else, or an i that is not 1 to n."""
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise GitbenchError(f"--shard {text}: write i/n, for example 1/4 to 4/4 on four machines")
    return int(match[1]), int(match[2])
