"""Score a study again from its texts: every run's predictions, and the ceiling of its data; and what no scoring can tell.

Predictions hold the captions and their references. Where the data themselves can be opened (embedded and registered
ones), references and scene graphs are taken from there, so that references which were edited are found too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.metric_info import FIT
from gitbench.metrics import CaptionScorer
from gitbench.metrics.aggregate import LOSS
from gitbench.study.scoring import TaskScorer, metric_values, test_source
from gitbench.study.store import Study
from gitbench.study.verify import CLOSE

ALWAYS = (
    "test_nll and the likelihoods it is made of, train_nll and val_nll, and all costs: they need the trained model; "
    "`gitbench replicate` makes runs again",
    "captions that no model wrote, scored as they stand: `gitbench replicate` makes runs again",
    "whoever rewrites plan, runs, looks and chains alike: compare the bundle's SHA-256 with one that was published before",
)


class Rescored:
    """What scoring again has found (`findings`), and what of the study rests on trust (`trust`)."""

    def __init__(self, study: Study, scorer: CaptionScorer) -> None:
        self.study, self.trust = study, list(ALWAYS)
        self.findings: list[str] = []
        source = test_source(study)
        if source is None:
            self.trust.append(
                f"the references, as predictions.jsonl holds them: {study.plan.data} cannot be opened by its name"
            )
        self.scorer = scorer
        self.task = None if source is None else TaskScorer.of(source, scorer)
        for part in (self._runs, self._yardstick):
            try:
                self.findings += [said.replace(f"{study.work_dir}/", "") for said in part()]
            except GitbenchError as error:
                self.findings.append(str(error).replace(f"{study.work_dir}/", ""))

    def _runs(self) -> Iterator[str]:
        for run in self.study.unique_runs:
            record = self.study.record(run.run_key)
            if record is None:
                continue
            rows = self.study.predictions(run.run_key)
            given = {row["image_id"]: row["references"] for row in rows}
            if self.task is None:
                self.task = TaskScorer.of_rows(self.study.plan.task, self.scorer, rows)
            if {key: list(texts) for key, texts in self.task.references.items()} != given:
                if record.get("overridden"):  # other images, maybe
                    continue
                yield f"{run.arm} seed {run.replicate}: predictions.jsonl has other images or references than the data"
                continue
            yield from self._scores(f"{run.arm} seed {run.replicate}", record, rows)

    def _scores(self, name: str, record: Mapping[str, Any], rows: list[dict[str, Any]]) -> Iterator[str]:
        assert self.task is not None
        again = metric_values(self.task.scores(rows).values)
        if all("nll" in row and "tokens" in row for row in rows):
            again[LOSS] = {"value": sum(row["nll"] for row in rows) / max(1, sum(row["tokens"] for row in rows))}
        for metric, entry in record["metrics"].items():
            if metric not in again and metric not in FIT:
                self._trust(f"{metric}: it cannot be scored here from the predictions")
            elif metric in again and not _close(scored := again[metric]["value"], said := entry["value"]):
                yield f"{name}: record.json says {metric} {said:.6g}, its predictions score {scored:.6g}"

    def _yardstick(self) -> Iterator[str]:
        said = self.study.yardstick
        if said.kind is None or self.task is None:
            return
        if said.kind == "grammar" and self.task.grammar is None:
            return self._trust(f"the ceiling: the grammar of {self.study.plan.data} is not here")
        found = self.task.ceiling()
        name = f"yardsticks/{self.study.yardstick_path.name}"
        if found.kind != said.kind:
            yield f"{name}: the ceiling is said to be of the kind {said.kind}, the data give {found.kind}"
            return
        for metric, entry in said.ceiling.items():
            if metric not in found.ceiling:
                self._trust(f"the ceiling of {metric}: it cannot be scored here")
            elif not _close(scored := found.ceiling[metric]["value"], entry["value"]):
                yield f"{name}: says a ceiling of {metric} {entry['value']:.6g}, the data give {scored:.6g}"

    def _trust(self, said: str) -> None:
        if said not in self.trust:
            self.trust.append(said)


def _close(again: float, said: float) -> bool:
    return abs(again - said) <= CLOSE * max(1.0, abs(said)) or (again != again and said != said)
