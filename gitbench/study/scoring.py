"""What a task's texts score: one hand for a run's predictions, for the ceiling of its data, and for both again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gitbench.data import data_names
from gitbench.data.base import AnswersAre
from gitbench.data.scenes.graph import SceneGraph
from gitbench.data.tasks import TaskSource, open_task
from gitbench.files import atomic_path, explain_os_errors
from gitbench.metrics import CaptionScorer, answer_ceiling, score_answers
from gitbench.metrics.base import Score, Scores
from gitbench.profiles import get_profile
from gitbench.study.store import Study, Yardstick
from gitbench.tasks import task_spec


class TaskScorer:
    """Scores captions by `CaptionScorer`, answers and labels by `score_answers`.

    `references`: request id -> texts; `answers_are`: of questions, as `score_answers` takes it; `graphs`: of `scenes`, for
    SceneF1; `grammar`: captions that the data set's own grammar gives, its ceiling.
    """

    def __init__(
        self,
        task: str,
        scorer: CaptionScorer,
        references: Mapping[str, Sequence[str]],
        graphs: Mapping[str, SceneGraph] | None = None,
        grammar: Mapping[str, str] | None = None,
        answers_are: Mapping[str, AnswersAre] | None = None,
    ) -> None:
        self.task, self.scorer, self.references, self.answers_are = task, scorer, references, answers_are
        self.graphs, self.grammar = graphs, grammar
        self.captions = task in ("caption", "video")

    @classmethod
    def of(cls, source: TaskSource, scorer: CaptionScorer) -> TaskScorer:
        """Return the scorer of a test split that is here."""
        requests = [request for index in range(len(source)) for request in source.requests(index)]
        references = {request.request_id: request.references for request in requests}
        task = source.task.name
        if task not in ("caption", "video"):
            kinds = {request.request_id: request.answers_are for request in requests}
            return cls(task, scorer, references, answers_are=kinds)
        graphs = {source.image_id(index): source.example(index).graph for index in range(len(source))}
        known = {image_id: graph for image_id, graph in graphs.items() if graph is not None}
        fresh = getattr(source, "ceiling_caption", None)
        grammar = fresh and {source.image_id(index): fresh(index) for index in range(len(source))}
        return cls(task, scorer, references, known or None, grammar)

    @classmethod
    def of_rows(cls, task: str, scorer: CaptionScorer, rows: Sequence[Mapping[str, Any]]) -> TaskScorer:
        """Return the scorer of a test split that is not here, by what the rows of a `predictions.jsonl` hold of it."""
        references = {row["image_id"]: row["references"] for row in rows}
        kinds = {row["image_id"]: row["answers_are"] for row in rows if "answers_are" in row}
        return cls(task, scorer, references, answers_are=kinds or None)

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> Scores:
        """Score the rows of a `predictions.jsonl`, one for each of `references`."""
        said = {row["image_id"]: row["caption"] for row in rows}
        if self.captions:
            return self.scorer.score(said, self.references, self.graphs)
        closed = {row["image_id"]: row["closed"] for row in rows if "closed" in row}
        return score_answers(self.task, said, self.references, closed or None, self.answers_are)

    def ceiling(self) -> Yardstick:
        """Return the ceiling: a fresh caption of the data set's own grammar, or one reference against the others."""
        if not self.captions:
            perfect = answer_ceiling(self.task, self.references, self.answers_are)
            kind = "leave-one-out" if any("leave-one-out" in one.signature for one in perfect.values()) else "perfect"
            return Yardstick(kind=kind, ceiling=metric_values(perfect))
        if self.grammar is None and all(len(captions) < 2 for captions in self.references.values()):
            return Yardstick(kind="none", absent="every image has a single reference caption")
        scores = self.scorer.ceiling(self.references, self.grammar, self.graphs)
        return Yardstick(kind="grammar" if self.grammar else "leave-one-out", ceiling=metric_values(scores.values))


def test_source(study: Study) -> TaskSource | None:
    """Return the test split of a study, where its data have a name that is known here; None where they are a folder."""
    plan = study.plan
    data = plan.data.split("+")[0].removesuffix(f"-{plan.task}")
    if data not in data_names():
        return None
    return open_task(data, "test", plan.test_images, task_spec(plan.task, get_profile(plan.profile)))


def metric_values(scores: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    """Return metric -> value and signature, as records and yardsticks hold them."""
    return {name: {"value": score.value, "signature": score.signature} for name, score in scores.items()}


def likelihood(value: float, vocabulary: int, count: int) -> dict[str, Any]:
    """Return a negative log-likelihood per token, in nats, over `count` requests, as records hold it."""
    made = f"nll-per-token|unit:nats|smoothing:none|vocab:{vocabulary}|n:{count}"
    return {"value": value, "signature": made}


def write_per_image(path: Path, scores: Scores, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what each row of a `predictions.jsonl` scores, and its likelihood, as a Parquet table."""
    table = scores.per_image.copy()
    by_id = {row["image_id"]: row for row in rows}
    table["nll"] = [by_id[image_id]["nll"] for image_id in table["image_id"]]
    table["tokens"] = [by_id[image_id]["tokens"] for image_id in table["image_id"]]
    if any("image" in row for row in rows):  # an image with several requests
        table["image"] = [by_id[image_id].get("image", image_id) for image_id in table["image_id"]]
    with atomic_path(path) as temporary, explain_os_errors(temporary):
        table.to_parquet(temporary)
