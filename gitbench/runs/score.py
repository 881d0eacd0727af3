"""From captions to a record: score a trained run's predictions, then write `record.json`, last and atomically.

Runs leave `predictions.jsonl` and `trained.json`; one scorer with its JVMs started once serves all runs of a launch,
beside the training of the next ones. The study's ceiling is scored by the same hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitbench.data import open_source
from gitbench.errors import GitbenchError
from gitbench.files import atomic_path, explain_os_errors, load_json, read_json, write_json
from gitbench.metrics import CaptionScorer
from gitbench.metrics.base import Scores
from gitbench.runs.plan import Plan, PlannedRun
from gitbench.runs.provenance import now
from gitbench.runs.provenance import provenance as provenance_now
from gitbench.runs.store import yardstick_file
from gitbench.spec import canonical


class DamagedRun(GitbenchError):
    """What a run left behind is not whole: it has to caption again."""


class StudyScorer:
    """Scores the runs of one study; `graphs` are the scene graphs of its test images, where the data has them."""

    def __init__(self, plan: Plan, scorer: CaptionScorer) -> None:
        self.plan = plan
        self.scorer = scorer
        tested = plan.cfg_options.get("test_dataloader.dataset.data_spec.test_images", plan.profile.data.test_images)
        source = open_source(plan.data, "test", tested)
        self.examples = [source.example(index) for index in range(len(source))]
        graphs = {example.image_id: example.graph for example in self.examples if example.graph is not None}
        self.graphs = graphs or None
        self.source = source

    def score_run(self, run: PlannedRun) -> dict[str, Any]:
        """Score one run and write `per_image.parquet`, then `record.json`. Returns the record."""
        if run.done:  # another launch was first
            return read_json(run.folder / "record.json")
        trained = load_json(run.folder / "trained.json")
        rows = read_predictions(run.folder / "predictions.jsonl")
        if trained is None or [row["image_id"] for row in rows] != [example.image_id for example in self.examples]:
            raise DamagedRun(f"{run.folder} does not hold one caption for each of the {len(self.examples)} test images")
        scores = self.scorer.score(
            {row["image_id"]: row["caption"] for row in rows},
            {example.image_id: example.captions for example in self.examples},
            self.graphs,
        )
        per_image = scores.per_image.copy()
        by_id = {row["image_id"]: row for row in rows}
        per_image["nll"] = [by_id[image_id]["nll"] for image_id in per_image["image_id"]]
        per_image["tokens"] = [by_id[image_id]["tokens"] for image_id in per_image["image_id"]]
        with atomic_path(run.folder / "per_image.parquet") as temporary, explain_os_errors(temporary):
            per_image.to_parquet(temporary)
        provenance = load_json(run.folder / "provenance.json") or provenance_now(self.plan.data_fingerprint)
        write_json(run.folder / "provenance.json", {**provenance, "finished": now()})
        record = {
            "schema": 1,
            "run_key": run.key,
            "spec": canonical(run.spec),
            "variant_names": dict(run.spec.variant_names),
            "overridden": sorted(run.spec.cfg_options),
            "metrics": {
                **_metrics(scores),
                "test_nll": {
                    "value": trained["test_nll"],
                    "signature": f"nll-per-token|unit:nats|smoothing:none|vocab:{self.plan.vocabulary.size}|n:{len(rows)}",
                },
            },
            "absent": dict(scores.absent),
            "cost": {**trained["cost"], "device": _device(provenance), "machine": provenance["machine"]},
            "train": trained["train"],
        }
        write_json(run.folder / "record.json", record)
        return record

    def score_ceiling(self) -> None:
        """Write the study's ceiling: a fresh caption of the generator's own grammar, or one reference against the others."""
        path = yardstick_file(self.plan.work_dir, self.plan.yardstick_key)
        if load_json(path) is not None:
            return
        references = {example.image_id: example.captions for example in self.examples}
        grammar: Mapping[str, str] | None = None
        fresh = getattr(self.source, "ceiling_caption", None)
        if fresh is not None:
            grammar = {example.image_id: fresh(index) for index, example in enumerate(self.examples)}
        if grammar is None and all(len(captions) < 2 for captions in references.values()):
            write_json(path, {"kind": "none", "ceiling": {}, "absent": "every image has a single reference caption"})
            return
        scores = self.scorer.ceiling(references, grammar, self.graphs)
        write_json(path, {"kind": "grammar" if grammar else "leave-one-out", "ceiling": _metrics(scores)})


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a `predictions.jsonl`; a damaged file gives a one-line error."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        raise DamagedRun(f"{path} is missing or damaged: delete the run's folder and run again") from None


def _metrics(scores: Scores) -> dict[str, dict[str, Any]]:
    return {name: {"value": score.value, "signature": score.signature} for name, score in scores.values.items()}


def _device(provenance: Mapping[str, Any]) -> str:
    return provenance["gpus"][0] if provenance["gpus"] else "cpu"
