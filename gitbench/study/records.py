"""Read what the Run layer left behind: studies, records, curves and captions, and one tidy frame over all of them.

A study (`studies/<ablation>.<profile>.<data>.json`) names its arms, runs and claims; a run counts when its
`record.json` is there. Whatever is half-written gives one line that names the file and the fix.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pandas as pd

from gitbench.errors import GitbenchError, unknown_name
from gitbench.files import read_json
from gitbench.scores import COSTS, unit
from gitbench.spec import Claim

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

_KINDS = get_args(get_type_hints(Claim)["kind"])
_PLAIN_FIELDS = ("ablation", "profile", "data", "data_fingerprint", "command", "title", "question", "axis", "base")


@dataclass(frozen=True, kw_only=True)
class StudyArm:
    """An arm as it was planned: its name, role ("arm" or "floor"), variants by axis, and a label for people."""

    name: str
    role: str
    variants: Mapping[str, str]
    label: str


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a study; `run_key` names its folder under `runs/`."""

    arm: str
    replicate: int
    run_key: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """An ablation crossed with a profile and a data set, and the runs it consists of."""

    ablation: str
    profile: str
    data: str
    data_fingerprint: str
    command: str
    title: str
    question: str
    axis: str
    base: str
    claims: tuple[Claim, ...]
    arms: tuple[StudyArm, ...]
    runs: tuple[PlannedRun, ...]
    yardstick_key: str | None
    task: str = "caption"

    def arm(self, name: str) -> StudyArm:
        """Return the arm called `name`; an unknown name offers the nearest."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise unknown_name("arm", name, (arm.name for arm in self.arms))


def load_study(work_dir: str | Path, ablation: str, profile: str, data: str) -> Study:
    """Load one study; raises GitbenchError when it is missing (listing those there are) or damaged."""
    folder = _existing(work_dir) / "studies"
    path = folder / f"{ablation}.{profile}.{data}.json"
    if not path.is_file():
        known = ", ".join(each.stem for each in study_files(folder)) or "(none)"
        raise GitbenchError(
            f"no study {path.stem} in {work_dir}: run `gitbench run {ablation} --profile {profile}`; found: {known}"
        )
    return _parse_study(path)


def load_studies(work_dir: str | Path) -> list[Study]:
    """Load every study of a work directory, sorted by file name."""
    return [_parse_study(path) for path in study_files(_existing(work_dir) / "studies")]


def study_files(folder: Path) -> list[Path]:
    """Return the files of the studies in a folder; beside each lie its proof, "<study>.proof.json", and its looks."""
    return sorted(path for path in folder.glob("*.json") if not path.name.endswith((".proof.json", ".looks.json")))


def load_record(work_dir: str | Path, run_key: str) -> dict[str, Any] | None:
    """Return a run's record, or None when the run is not finished; a damaged record is an error naming the fix."""
    path = Path(work_dir) / "runs" / run_key / "record.json"
    if not path.is_file():
        return None
    fix = f"{path} is damaged: delete the folder {path.parent} and run again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        scores = {name: float(entry["value"]) for name, entry in record["metrics"].items()}
        whole = record["run_key"] == run_key and bool(scores) and isinstance(record["cost"], dict)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GitbenchError(fix) from None
    if not whole:
        raise GitbenchError(fix)
    return record


def load_yardstick(work_dir: str | Path, study: Study) -> dict[str, Any] | None:
    """Return the study's yardstick {"ceiling": {metric: {value, signature}}, "kind"}, or None when there is none."""
    path = Path(work_dir) / "yardsticks" / f"{study.yardstick_key}.json"
    if not study.yardstick_key or not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("ceiling"), dict):
        raise GitbenchError(f"{path} is damaged: delete it and run again")
    return found


def load_frame(work_dir: str | Path) -> pd.DataFrame:
    """Return every finished result of a work directory as one tidy frame, one row a value (see `COLUMNS`).

    Scores and cost columns are rows alike; `replicate` and `run_key` are missing on ceiling rows. Runs that are
    planned but not finished have no rows. Raises GitbenchError for a missing directory or a damaged record.
    """
    studies = load_studies(work_dir)
    if not studies:
        raise GitbenchError(f"{work_dir} holds no study: run `gitbench run ABLATION` first or pass its --work-dir")
    return build_frame(work_dir, studies)


def build_frame(work_dir: str | Path, studies: list[Study]) -> pd.DataFrame:
    """Return the tidy frame of the given studies; empty (with its columns) when nothing is finished."""
    rows = [row for study in studies for row in _study_rows(work_dir, study)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"replicate": "Int64", "value": "float64", "overridden": "bool"})


def load_per_image(work_dir: str | Path, run_key: str) -> pd.DataFrame:
    """Return a run's per-image scores: `image_id`, one column a metric, and sufficient statistics."""
    path = _run_file(work_dir, run_key, "per_image.parquet")
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise _damaged(path) from error


def load_curves(work_dir: str | Path, run_key: str) -> pd.DataFrame:
    """Return a run's loss curve: columns iteration, split ("train" or "val"), loss (nats per token), lr."""
    path = _run_file(work_dir, run_key, "curve.csv")
    try:
        curve = pd.read_csv(path)
    except ValueError as error:  # pandas' parser and empty-data errors are ValueErrors
        raise _damaged(path) from error
    if not {"iteration", "split", "loss"} <= set(curve.columns):
        raise _damaged(path)
    return curve


def load_predictions(work_dir: str | Path, run_key: str) -> list[dict[str, Any]]:
    """Return a run's captions in test order: dicts with image_id, caption, score, references."""
    path = _run_file(work_dir, run_key, "predictions.jsonl")
    try:
        # not splitlines(): a caption may hold U+2028, which JSON leaves as it is
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        found = [json.loads(line) for line in lines]
    except ValueError:
        raise _damaged(path) from None
    if not all(isinstance(each, dict) and {"image_id", "caption", "references"} <= set(each) for each in found):
        raise _damaged(path)
    return found


def load_provenance(work_dir: str | Path, run_key: str) -> dict[str, Any]:
    """Return what a run recorded about its revision, packages, device and machine."""
    found = read_json(_run_file(work_dir, run_key, "provenance.json"))
    return found if isinstance(found, dict) else {}


def _existing(work_dir: str | Path) -> Path:
    path = Path(work_dir)
    if not path.is_dir():
        raise GitbenchError(f"work directory {path} does not exist: pass --work-dir, or run an ablation first")
    return path


def _run_file(work_dir: str | Path, run_key: str, name: str) -> Path:
    path = Path(work_dir) / "runs" / run_key / name
    if not path.is_file():
        raise GitbenchError(f"{path} is missing: delete the folder {path.parent} and run again")
    return path


def _damaged(path: Path) -> GitbenchError:
    return GitbenchError(f"{path} is damaged: delete the folder {path.parent} and run again")


def _parse_study(path: Path) -> Study:
    values = read_json(path)
    try:
        pairs = [(run["arm"], int(run["replicate"])) for run in values["runs"]]
        if len(set(pairs)) < len(pairs) or not {arm for arm, _ in pairs} <= {arm["name"] for arm in values["arms"]}:
            raise ValueError("a run that is listed twice, or of an arm that is not listed")
        for key in (values.get("yardstick_key") or "none", *(run["run_key"] for run in values["runs"])):
            if not re.fullmatch(r"[\w-]+", key):  # the study of a bundle is a stranger's
                raise ValueError("a key that is no file name")
        return Study(
            claims=tuple(map(_claim, values["claims"])),
            arms=tuple(
                StudyArm(
                    name=arm["name"], role=arm["role"], variants=arm["variants"], label=arm.get("label") or arm["name"]
                )
                for arm in values["arms"]
            ),
            runs=tuple(
                PlannedRun(arm=run["arm"], replicate=int(run["replicate"]), run_key=run["run_key"])
                for run in values["runs"]
            ),
            yardstick_key=values.get("yardstick_key"),
            task=values.get("task", "caption"),
            **{key: values[key] for key in _PLAIN_FIELDS},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise GitbenchError(f"{path} is damaged: delete it and run the ablation again") from None


def _claim(values: Mapping[str, Any]) -> Claim:
    """Return a claim of any age: fields that are no more are dropped, those that are younger take their defaults."""
    known = {each.name for each in fields(Claim)}
    kept = {key: value for key, value in values.items() if key in known}
    along = tuple((str(arm), float(place)) for arm, place in kept.pop("along", ()))
    claim = Claim(**kept, along=along)
    if claim.kind not in _KINDS or not all(map(math.isfinite, (claim.margin, claim.level or 0.0))):
        raise ValueError("a claim of no known kind, or without a margin")
    return claim


def _study_rows(work_dir: str | Path, study: Study) -> Iterator[dict[str, Any]]:
    """Yield the rows of one study: scores and costs of each finished run, then the ceiling."""
    shared = {"ablation": study.ablation, "profile": study.profile, "data": study.data}
    for run in study.runs:
        record = load_record(work_dir, run.run_key)
        if record is None:
            continue
        arm, cost = study.arm(run.arm), record["cost"]
        row = shared | {
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
            yield row | {
                "metric": name,
                "value": entry["value"],
                "unit": unit(name),
                "signature": entry.get("signature"),
            }
        for name in COSTS:
            if cost.get(name) is not None:
                yield row | {"metric": name, "value": cost[name], "unit": unit(name), "signature": None}
    ceiling = (load_yardstick(work_dir, study) or {"ceiling": {}})["ceiling"]
    for name, entry in ceiling.items():
        yield shared | {
            **dict.fromkeys(("arm", "label", "role"), "ceiling"),
            **dict.fromkeys(("replicate", "run_key")),
            "overridden": False,
            "metric": name,
            "value": entry["value"],
            "unit": unit(name),
            "signature": entry.get("signature"),
            **dict.fromkeys(("device", "machine")),
        }
