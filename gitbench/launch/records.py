"""From outputs to a record: score a trained run's predictions, then write `record.json`, last and atomically.

Runs leave `predictions.jsonl` and `trained.json`; one scorer with its JVMs started once serves all runs of a launch,
beside the training of the next ones. The study's ceiling is scored by the same hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gitbench.data import limit_of
from gitbench.data.tasks import open_task
from gitbench.errors import GitbenchError
from gitbench.files import atomic_path, explain_os_errors, load_json, write_json
from gitbench.metrics import CaptionScorer, answer_ceiling, score_answers
from gitbench.metrics.base import Score, Scores
from gitbench.metrics.guards import caption_warnings
from gitbench.run_folder import RECORD_SCHEMA
from gitbench.spec import PlannedRun
from gitbench.study.provenance import now
from gitbench.study.provenance import provenance as provenance_now
from gitbench.study.store import Study, Yardstick, read_predictions


class DamagedRun(GitbenchError):
    """What a run left behind is not whole: it has to caption again."""


class StudyScorer:
    """Scores the runs of one study by its task: captions by `CaptionScorer`, answers and labels by `score_answers`."""

    def __init__(self, study: Study, scorer: CaptionScorer) -> None:
        self.study, self.scorer = study, scorer
        spec = study.plan.runs[0].resolved
        self.task = spec.task.name
        tested = spec.cfg_options.get("test_dataloader.dataset.data_spec.test_images", limit_of(spec.data, "test"))
        self.source = source = open_task(spec.data_name, "test", tested, spec.task)
        requests = [request for index in range(len(source)) for request in source.requests(index)]
        self.references = {request.request_id: request.references for request in requests}
        self.captions = self.task in ("caption", "video")
        graphs = {source.image_id(index): source.example(index).graph for index in range(len(source) * self.captions)}
        known = {image_id: graph for image_id, graph in graphs.items() if graph is not None}
        self.graphs = known or None

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
        if trained is None or [row["image_id"] for row in rows] != list(self.references):
            raise DamagedRun(
                f"{folder.path} does not hold one text for each of the {len(self.references)} test requests"
            )
        scores = self._scores(rows)
        per_image = scores.per_image.copy()
        by_id = {row["image_id"]: row for row in rows}
        per_image["nll"] = [by_id[image_id]["nll"] for image_id in per_image["image_id"]]
        per_image["tokens"] = [by_id[image_id]["tokens"] for image_id in per_image["image_id"]]
        if any("image" in row for row in rows):  # an image with several requests
            per_image["image"] = [by_id[image_id].get("image", image_id) for image_id in per_image["image_id"]]
        with atomic_path(folder.per_image) as temporary, explain_os_errors(temporary):
            per_image.to_parquet(temporary)
        provenance = load_json(folder.provenance) or provenance_now(self.study.plan)
        write_json(folder.provenance, {**provenance, "finished": now()})
        device = provenance["gpus"][0] if provenance["gpus"] else "cpu"
        record = {
            "schema": RECORD_SCHEMA,
            "run_key": run.run_key,
            "spec": asdict(run.resolved),
            "variant_names": dict(run.resolved.variant_names),
            "overridden": sorted(run.resolved.cfg_options),
            "metrics": {
                **_metrics(scores.values),
                "test_nll": {
                    "value": trained["test_nll"],
                    "signature": f"nll-per-token|unit:nats|smoothing:none|vocab:{self.study.plan.vocabulary.size}|n:{len(rows)}",
                },
            },
            "absent": dict(scores.absent),
            "warnings": self._warnings(run, rows),
            "cost": {**trained["cost"], "device": device, "machine": provenance["machine"]},
            "train": trained["train"],
        }
        write_json(folder.record, record)
        return record

    def _warnings(self, run: PlannedRun, rows: list[dict[str, Any]]) -> list[str]:
        """Return what to know before believing the scores; nothing of a blind arm, which writes one caption by design."""
        blind = {arm.name for arm in self.study.plan.arms if arm.role == "floor"}
        if not self.captions or run.arm in blind:
            return []
        return caption_warnings({row["image_id"]: row["caption"] for row in rows})

    def _scores(self, rows: list[dict[str, Any]]) -> Scores:
        said = {row["image_id"]: row["caption"] for row in rows}
        if self.captions:
            return self.scorer.score(said, self.references, self.graphs)
        closed = {row["image_id"]: row["closed"] for row in rows if "closed" in row}
        return score_answers(self.task, said, self.references, closed or None)

    def score_ceiling(self) -> None:
        """Write the study's ceiling: a fresh caption of the generator's own grammar, or one reference against the others."""
        if self.study.yardstick.kind is None:
            self.study.write_yardstick(self._ceiling())

    def _ceiling(self) -> Yardstick:
        if not self.captions:
            perfect = answer_ceiling(self.task, self.references)
            kind = "leave-one-out" if any("leave-one-out" in one.signature for one in perfect.values()) else "perfect"
            return Yardstick(kind=kind, ceiling=_metrics(perfect))
        grammar: Mapping[str, str] | None = None
        fresh = getattr(self.source, "ceiling_caption", None)
        if fresh is not None:
            grammar = {self.source.image_id(index): fresh(index) for index in range(len(self.source))}
        if grammar is None and all(len(captions) < 2 for captions in self.references.values()):
            return Yardstick(kind="none", absent="every image has a single reference caption")
        scores = self.scorer.ceiling(self.references, grammar, self.graphs)
        return Yardstick(kind="grammar" if grammar else "leave-one-out", ceiling=_metrics(scores.values))


def _metrics(scores: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    return {name: {"value": score.value, "signature": score.signature} for name, score in scores.items()}
