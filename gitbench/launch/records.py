"""From outputs to a record: score a trained run's predictions, then write `record.json`, last and atomically.

Runs leave `predictions.jsonl` and `trained.json`; one scorer with its JVMs started once serves all runs of a launch,
beside the training of the next ones. The study's ceiling is scored by the same hand.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gitbench.claim import claimed
from gitbench.data import limit_of
from gitbench.data.tasks import open_task
from gitbench.errors import GitbenchError
from gitbench.files import load_json, write_json
from gitbench.machine import machine_of
from gitbench.metrics import CaptionScorer
from gitbench.metrics.base import Scores
from gitbench.plan import PlannedRun
from gitbench.run_folder import RECORD_SCHEMA
from gitbench.run_key import NUMERICS_VERSION
from gitbench.study.makers import Maker, scored_by
from gitbench.study.manifest import file_digests
from gitbench.study.provenance import now, published
from gitbench.study.provenance import provenance as provenance_now
from gitbench.study.scoring import TaskScorer, likelihood, metric_values, write_per_image
from gitbench.study.store import Study, read_predictions


class DamagedRun(GitbenchError):
    """What a run left behind is not whole: it has to caption again."""


class StudyScorer:
    """Scores the runs of one study that was just planned, and its ceiling."""

    def __init__(self, study: Study, scorer: CaptionScorer) -> None:
        self.study = study
        self.maker = Maker.here("cpu")  # now: files may be edited before the first run is scored
        spec = study.plan.runs[0].resolved
        tested = spec.cfg_options.get("test_dataloader.dataset.data_spec.test_images", limit_of(spec.data, "test"))
        self.task = TaskScorer.of(open_task(spec.data_name, "test", tested, spec.task), scorer)

    def score_run(self, run: PlannedRun) -> dict[str, Any]:
        """Score one run and write `per_image.parquet`, then `record.json`. Returns the record."""
        folder = self.study.folder(run.run_key)
        if (record := folder.completed_record()) is not None:  # another launch was first
            return record
        trained = load_json(folder.trained)
        try:
            rows = read_predictions(folder.predictions)
        except (OSError, ValueError):
            rows = []
        if trained is None or [row["image_id"] for row in rows] != list(self.task.references):
            raise DamagedRun(
                f"{folder.path} does not hold one text for each of the {len(self.task.references)} test requests"
            )
        scores = self.task.scores(rows)
        write_per_image(folder.per_image, scores, rows)
        provenance = load_json(folder.provenance) or provenance_now(self.study)
        device = trained.get("device", {"name": "cpu"})
        provenance |= {"device": published(device), "machine": machine_of(device["name"], provenance["cpu_count"])}
        makers = scored_by(provenance, self.maker)
        write_json(folder.provenance, {**provenance, "makers": makers, "finished": now()})
        record = {
            "schema": RECORD_SCHEMA,
            "run_key": run.run_key,
            "numerics": NUMERICS_VERSION,
            "data_fingerprint": run.data_fingerprint,
            "seed_root": run.resolved.seed_root,
            "claims_lock": provenance.get("claims_lock"),
            "spec": asdict(run.resolved),
            "variant_names": dict(run.resolved.variant_names),
            "overridden": sorted(run.resolved.cfg_options),
            "metrics": {
                **metric_values(scores.values),
                **self._likelihoods(trained, len(rows)),
            },
            "absent": dict(scores.absent),
            "warnings": self._warnings(run, scores),
            "cost": {**trained["cost"], "device": device["name"], "machine": provenance["machine"]},
            "train": trained["train"],
            "encoder_content": trained.get("encoder_content"),
            "files": file_digests(folder),
        }
        write_json(folder.record, record)
        return record

    def _likelihoods(self, trained: dict[str, Any], tested: int) -> dict[str, dict[str, Any]]:
        """Return the likelihoods that a run has measured, on `tested` test requests and on what it was trained with."""
        counts = {"test_nll": tested, **(trained.get("fit_images") or {})}
        words = self.study.plan.vocabulary.size
        return {name: likelihood(trained[name], words, count) for name, count in counts.items()}

    def _warnings(self, run: PlannedRun, scores: Scores) -> list[str]:
        """Return what to know before believing the scores; nothing of a blind arm, which writes one caption by design."""
        blind = {arm.name for arm in self.study.plan.arms if arm.role == "floor"}
        return [] if run.arm in blind else list(scores.warnings)

    def score_ceiling(self) -> None:
        """Write the ceiling of the study's data, unless it is there; another launch may be at it."""
        if self.study.yardstick.kind is None:
            with claimed(self.study.yardstick_path):
                there = Study(self.study.work_dir, self.study.plan).yardstick
                if there.kind is None:
                    self.study.write_yardstick(self.task.ceiling())
                else:
                    self.study.yardstick = there
