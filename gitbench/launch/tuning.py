"""Train the tuning runs of a study that are still to be made: with the executor, the display and the second attempt of any
run. What a run gives lies in its folder in the user's cache (`gitbench.study.rates`): a launch that was killed goes on there.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.launch.executor import Executor
from gitbench.launch.places import cards_for, check_jobs
from gitbench.launch.scheduling import execute_runs, local_executor, prepare_images
from gitbench.launch.session import Outcome
from gitbench.launch.tracking import report_rest
from gitbench.plan import PlannedRun
from gitbench.study.rates import Tuning
from gitbench.trackers import Trackers


class _Results:
    """Stands where a study has its scorer: a tuning run has its likelihood already, and its data no ceiling."""

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning

    def score_run(self, run: PlannedRun) -> dict[str, Any]:
        record = self.tuning.record(run.run_key)
        if record is None:
            raise GitbenchError(f"{self.tuning.folder(run.run_key).path} holds no likelihood: delete it and run again")
        return record

    def score_ceiling(self) -> None:
        """There is none."""


def tune(
    tuning: Tuning,
    jobs: int | None = None,
    plain: bool = False,
    executor: Executor | None = None,
    trackers: Trackers | None = None,
) -> Outcome:
    """Train every tuning run whose result is not known. Arguments, signals and outcome are those of `launch`."""
    check_jobs(jobs)
    if not tuning.to_do:
        if trackers:
            report_rest(tuning, tuning.unique_runs, trackers)
        return Outcome(completed=0, found=len(tuning.unique_runs), failed=())
    if executor is None:
        cards_for(tuning.plan)  # refuses what cannot be
    prepare_images(tuning.plan)
    with nullcontext(executor) if executor else local_executor(tuning, jobs) as chosen:
        return execute_runs(tuning, chosen, plain, scorer=_Results(tuning), trackers=trackers)
