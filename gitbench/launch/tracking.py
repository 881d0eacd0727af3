"""Trackers from the launcher's side: what is asked for of a run, its scores once it has some, and what was not sent yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from gitbench.claim import Claim
from gitbench.files import guarded
from gitbench.launch.session import Scorer
from gitbench.plan import PlannedRun
from gitbench.study.store import Study
from gitbench.trackers import Trackers, Tracking


class TrackedScorer:
    """A scorer whose runs are reported to trackers when they have their scores."""

    def __init__(self, scorer: Scorer, study: Study, trackers: Trackers) -> None:
        self.scorer, self.study, self.trackers = scorer, study, trackers
        self.said: set[str] = set()  # trackers of whose failure the user has heard

    def score_run(self, run: PlannedRun) -> dict[str, Any]:
        """Score a run and report it; returns its record, with a warning where a tracker fails for the first time."""
        record = self.scorer.score_run(run)
        failed = report(self.study, run, record, self.trackers)
        new = [f"{name} failed: {why}" for name, why in failed.items() if name not in self.said]
        self.said.update(failed)
        return {**record, "warnings": [*record.get("warnings", ()), *new]}

    def score_ceiling(self) -> None:
        """Score the ceiling, which is no run's."""
        self.scorer.score_ceiling()


def tracking_of(study: Study, run: PlannedRun, trackers: Trackers) -> Tracking:
    """Return what is to be reported of a run."""
    values = {"study": study.name, "arm": run.arm, "seed": run.replicate, "run_key": run.run_key}
    return Tracking(
        trackers=trackers,
        study=study.name,
        arm=run.arm,
        seed=run.replicate,
        values={**values, "spec": asdict(run.resolved)},
    )


def report(study: Study, run: PlannedRun, record: dict[str, Any], trackers: Trackers) -> dict[str, str]:
    """Report what was not sent of a run that has its record, by whoever holds its claim; returns tracker -> why it failed."""
    from gitbench.training.hooks import read_curve
    from gitbench.training.track import Sender

    folder = study.folder(run.run_key)
    sender = Sender(folder, tracking_of(study, run, trackers))
    values = {name: entry["value"] for name, entry in record["metrics"].items() if entry["value"] is not None}
    sender.send(read_curve(folder.curve) if folder.curve.is_file() else [], values)
    sender.close()
    return sender.failed


def report_rest(study: Study, runs: Iterable[PlannedRun], trackers: Trackers) -> None:
    """Report what was not sent of finished runs, unless somebody works on them."""
    for run in runs:
        record = study.record(run.run_key) if study.done(run) else None
        claim = Claim(study.folder(run.run_key).claim)
        if record is None or not claim.take():
            continue
        try:
            with guarded(study.folder(run.run_key).path, claim.check):
                failed = report(study, run, record, trackers)
        finally:
            claim.release()
        if failed:
            said = ", ".join(f"{name} ({why})" for name, why in failed.items())
            print(f"  {run.arm} - seed {run.replicate} was not reported to {said}: the same command does it again")
            return
