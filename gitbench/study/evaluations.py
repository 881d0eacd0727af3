"""A finished evaluation of a checkpoint, read from its folder: for reports, and for comparisons with others."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.plan import PlannedEvaluation
from gitbench.run_folder import EvaluationFolder
from gitbench.run_key import from_json
from gitbench.study.store import read_predictions


class Evaluation:
    """What an evaluation's folder holds. Errors: GitbenchError for one that is not complete, or damaged."""

    def __init__(self, folder: EvaluationFolder) -> None:
        self.folder = folder
        record = folder.completed_record()
        if record is None:
            raise GitbenchError(f"{folder.path} holds no complete evaluation: run `gitbench evaluate` again")
        self.record = record

    @functools.cached_property
    def plan(self) -> PlannedEvaluation:
        try:
            return from_json(PlannedEvaluation, read_json(self.folder.plan)["plan"])
        except (TypeError, ValueError, KeyError):
            raise self._damaged() from None

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """Score -> its value and signature."""
        return self.record["metrics"]

    @functools.cached_property
    def per_image(self) -> pd.DataFrame:
        try:
            return pd.read_parquet(self.folder.per_image)
        except (OSError, ValueError):
            raise self._damaged() from None

    @functools.cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Request -> its row of `predictions.jsonl`."""
        try:
            return {str(row["image_id"]): row for row in read_predictions(self.folder.predictions)}
        except (OSError, ValueError):
            raise self._damaged() from None

    @functools.cached_property
    def provenance(self) -> Mapping[str, Any]:
        return read_json(self.folder.provenance)

    def _damaged(self) -> GitbenchError:
        return GitbenchError(f"{self.folder.path} is damaged: delete it and run `gitbench evaluate` again")
