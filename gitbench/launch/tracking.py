"""Trackers from the launcher's side: what is asked for of a run, its scores once it has some, and what was not sent yet."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from gitbench.claim import Claim
from gitbench.errors import GitbenchError, in_short
from gitbench.files import guarded
from gitbench.formats import plural
from gitbench.launch.session import Scorer
from gitbench.plan import PlannedRun
from gitbench.study.store import Study
from gitbench.trackers import Trackers, Tracking


class TrackedScorer:
    """A scorer whose runs are reported to trackers when they have their scores."""

    def __init__(self, scorer: Scorer, study: Study, trackers: Trackers) -> None:
        self.scorer, self.study, self.trackers = scorer, study, trackers
        self.said: set[str] = set()  # trackers of whose failure the user has heard
        try_again(trackers)

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
    arms = tuple(dict.fromkeys(each.arm for each in study.plan.runs if each.run_key == run.run_key))
    asked = Tracking(trackers=trackers, study=study.name, arms=arms, seed=run.replicate, values={})
    values = {"study": study.name, "arm": asked.arm, "seed": run.replicate, "run_key": run.run_key}
    return replace(asked, values={**values, "spec": asdict(run.resolved)})


def report(study: Study, run: PlannedRun, record: dict[str, Any], trackers: Trackers) -> dict[str, str]:
    """Report what was not sent of a run that has its record, by whoever holds its claim; returns tracker -> why it failed."""
    from gitbench.training.hooks import read_curve
    from gitbench.training.track import Sender

    folder = study.folder(run.run_key)
    values = {name: entry["value"] for name, entry in record["metrics"].items() if entry["value"] is not None}
    try:
        rows = read_curve(folder.curve)
    except GitbenchError as error:
        return dict.fromkeys(trackers.names, str(error))
    sender = Sender(folder, tracking_of(study, run, trackers))
    sender.send(rows, values)
    sender.close()
    return sender.failed


def report_rest(study: Study, runs: Iterable[PlannedRun], trackers: Trackers) -> None:
    """Report what was not sent of finished runs, unless somebody works on them; say what fails."""
    try_again(trackers)
    failed: dict[str, list[str]] = {}
    for run in runs:
        for name, why in _report_alone(study, run, trackers).items():
            failed.setdefault(name, []).append(f"{run.arm} seed {run.replicate}: {why}")
    for name, said in failed.items():
        print(f"  not reported to {name}: {plural(len(said), 'run')}; the same command tries again ({said[0]})")


def try_again(trackers: Trackers) -> None:
    """Let runs try trackers again that were given up."""
    for name in trackers.names:
        with suppress(OSError):
            trackers.down(name).unlink(missing_ok=True)


def _report_alone(study: Study, run: PlannedRun, trackers: Trackers) -> dict[str, str]:
    record, folder = study.record(run.run_key) if study.done(run) else None, study.folder(run.run_key)
    if record is None:
        return {}
    claim = Claim(folder.claim)
    try:
        if not claim.take():
            return {}
        try:
            with guarded(folder.path, claim.check):
                return report(study, run, record, trackers)
        finally:
            claim.release()
    except (GitbenchError, OSError) as error:  # of a folder that cannot be written, of a file server that is away
        return dict.fromkeys(trackers.names, in_short(error))
