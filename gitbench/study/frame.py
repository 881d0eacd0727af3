"""One tidy frame over the finished runs of studies: one row a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from gitbench.metric_info import COSTS, unit

if TYPE_CHECKING:
    from gitbench.study.store import Study

COLUMNS = (
    "ablation",
    "profile",
    "data",
    "arm",
    "label",
    "role",
    "replicate",
    "metric",
    "value",
    "unit",
    "signature",
    "run_key",
    "overridden",
    "device",
    "machine",
)


def build_frame(studies: Sequence[Study]) -> pd.DataFrame:
    """Return the tidy frame of the given studies; empty (with its columns) when nothing is finished."""
    rows = [row for study in studies for row in (*_run_rows(study), *_ceiling_rows(study))]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"replicate": "Int64", "value": "float64", "overridden": "bool"})


def _run_rows(study: Study) -> Iterator[dict[str, Any]]:
    """Yield the rows of each finished run: its scores, then its costs."""
    for run in study.finished:
        record = study.record(run.run_key)
        assert record is not None
        arm, cost = study.plan.arm(run.arm), record["cost"]
        shared = _shared(study) | {
            "arm": arm.name,
            "label": arm.label,
            "role": arm.role,
            "replicate": run.replicate,
            "run_key": run.run_key,
            "overridden": bool(record.get("overridden")),
            "device": cost.get("device"),
            "machine": cost.get("machine"),
        }
        for name, entry in record["metrics"].items():
            yield shared | _value(name, entry["value"], entry.get("signature"))
        for name in COSTS:
            if cost.get(name) is not None:
                yield shared | _value(name, cost[name])


def _ceiling_rows(study: Study) -> Iterator[dict[str, Any]]:
    for name, entry in study.yardstick.ceiling.items():
        ceiling = dict.fromkeys(("arm", "label", "role"), "ceiling") | {"overridden": False}
        yield _shared(study) | ceiling | _value(name, entry["value"], entry.get("signature"))


def _shared(study: Study) -> dict[str, Any]:
    return {"ablation": study.plan.ablation, "profile": study.plan.profile, "data": study.plan.label}


def _value(metric: str, value: float, signature: str | None = None) -> dict[str, Any]:
    return {"metric": metric, "value": value, "unit": unit(metric), "signature": signature}
