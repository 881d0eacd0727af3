"""A study on disk: opened once, read once. `Study` alone knows where in a work directory anything lies.

    studies/<ablation>.<profile>.<data>.json     the plan; beside it its proof, looks and manifest
    runs/<run key>/                              a run (`gitbench.run_folder`)
    yardsticks/<key>.json                        the ceiling of a data set
    noise/<profile>.<data>.json                  a noise floor

What is half-written or damaged gives one line that names the file and the fix.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from gitbench.claim import claimed
from gitbench.errors import GitbenchError
from gitbench.files import load_json, read_json, remove_leftovers_of, write_json, write_text
from gitbench.plan import Plan, PlannedRun
from gitbench.run_folder import RunFolder, read_early_captions
from gitbench.run_key import from_json, read_as
from gitbench.study.frame import build_frame
from gitbench.study.manifest import Manifest, entries_of
from gitbench.study.plan_file import check_schema, listed_runs, plan_to_json, read_plan

if TYPE_CHECKING:
    from gitbench.judge.noise import NoiseFloor
    from gitbench.study.interim import Looks
    from gitbench.study.proof import Proof

Value = TypeVar("Value")


class NoStudy(GitbenchError):
    """The study that was asked for is not there."""


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """The ceiling of a data set. `kind`: "grammar", "leave-one-out", "perfect" or "none"; `ceiling`: metric -> entry."""

    kind: str | None = None
    ceiling: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # value and signature
    absent: str | None = None  # why there is none


class Study:
    """One study of a work directory. What it has read of a finished run it keeps."""

    def __init__(self, work_dir: str | Path, plan: Plan) -> None:
        self.work_dir, self.plan = Path(work_dir), plan
        studies = self.work_dir / "studies"
        self.plan_path = studies / f"{plan.name}.json"
        self.proof_path = studies / f"{plan.name}.proof.json"  # the single-difference proof
        self.looks_path = studies / f"{plan.name}.looks.json"  # who read its results, and when
        self.manifest_path = studies / f"{plan.name}.manifest.json"  # its records, chained
        self.yardstick_path = self.work_dir / "yardsticks" / f"{plan.yardstick_key}.json"  # the ceiling
        self.noise_path = self.work_dir / "noise" / f"{plan.profile}.{plan.data}.json"  # of this profile and data
        self._records: dict[str, dict[str, Any]] = {}

    @classmethod
    def open(cls, work_dir: str | Path, name: str) -> Study:
        """Open a study by its name. Errors: GitbenchError where it is missing (listing those there are) or damaged."""
        path = existing(work_dir) / "studies" / f"{name}.json"
        if not path.is_file():
            known = ", ".join(study_names(work_dir)) or "(none)"
            ablation, profile = [*name.split("."), ""][:2]
            raise NoStudy(
                f"no study {name} in {work_dir}: run `gitbench run {ablation} --profile {profile}`; found: {known}"
            )
        return cls(work_dir, read_plan(path))

    @property
    def name(self) -> str:
        """The study's name: `<ablation>.<profile>.<data>`."""
        return self.plan.name

    def folder(self, run_key: str) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.work_dir / "runs" / run_key)

    # ---- runs -------------------------------------------------------------------------------------------------------

    def done(self, run: PlannedRun) -> bool:
        """Tell whether a run is complete; a damaged record counts as none, and the run is made again."""
        if run.run_key not in self._records and (found := self.folder(run.run_key).completed_record()) is not None:
            self._records[run.run_key] = found
        return run.run_key in self._records

    @property
    def unique_runs(self) -> tuple[PlannedRun, ...]:
        """The runs of the plan, each once where arms share one."""
        return tuple({run.run_key: run for run in self.plan.runs}.values())

    @property
    def finished(self) -> tuple[PlannedRun, ...]:
        """The runs of the plan that have a record."""
        return tuple(run for run in self.plan.runs if self.record(run.run_key) is not None)

    @property
    def missing(self) -> tuple[PlannedRun, ...]:
        """The runs of the plan that have none."""
        return tuple(run for run in self.plan.runs if self.record(run.run_key) is None)

    def record(self, run_key: str) -> dict[str, Any] | None:
        """Return a run's record, or None when the run is not finished; a damaged record is an error naming the fix."""
        if run_key not in self._records:
            folder = self.folder(run_key)
            if not folder.record.exists():
                return None
            if (record := folder.read_record()) is None:
                raise _damaged(folder.record)
            self._records[run_key] = record
        return self._records[run_key]

    @functools.cache  # noqa: B019 (a study lives as long as its command)
    def per_image(self, run_key: str) -> pd.DataFrame:
        """Return a run's per-image scores: `image_id`, one column a metric, and sufficient statistics."""
        path = self.folder(run_key).per_image
        table = _read(path, pd.read_parquet)
        if "image_id" not in table.columns:
            raise _damaged(path)
        return table

    @functools.cache  # noqa: B019
    def predictions(self, run_key: str) -> list[dict[str, Any]]:
        """Return a run's captions in test order: dicts with image_id, caption, score, references."""
        return _read(self.folder(run_key).predictions, read_predictions)

    def curve(self, run_key: str) -> pd.DataFrame:
        """Return a run's loss curve: columns iteration, split ("train" or "val"), loss (nats per token), lr."""
        path = self.folder(run_key).curve
        curve = _read(path, pd.read_csv)
        if not {"iteration", "split", "loss"} <= set(curve.columns):
            raise _damaged(path)
        return curve

    def early_captions(self, run_key: str) -> list[dict[str, Any]]:
        """Return the rows of a run's `early_captions.jsonl`; none of a run that took no such looks."""
        path = self.folder(run_key).early
        return _read(path, read_early_captions) if path.is_file() else []

    @functools.cache  # noqa: B019
    def provenance(self, run_key: str) -> dict[str, Any]:
        """Return what a run recorded about its revision, packages, device and machine."""
        path = self.folder(run_key).provenance
        found = _read(path, read_json)
        mappings = ("packages", "claims", "looks")
        if not isinstance(found, dict) or not all(isinstance(found.get(name) or {}, dict) for name in mappings):
            raise _damaged(path)
        return found

    # ---- the study --------------------------------------------------------------------------------------------------

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The tidy frame of this study (`gitbench.study.frame`)."""
        return build_frame([self])

    @functools.cached_property
    def yardstick(self) -> Yardstick:
        """The ceiling of the study's data; without a kind where it is not scored yet."""
        if not self.plan.yardstick_key or not self.yardstick_path.is_file():
            return Yardstick()
        found = read_as(Yardstick, self.yardstick_path, "delete it and run again")
        if not all(
            isinstance(entry, dict) and type(entry.get("value")) in (int, float) for entry in found.ceiling.values()
        ):
            raise GitbenchError(f"{self.yardstick_path} is damaged: delete it and run again")
        return found

    @functools.cached_property
    def proof(self) -> Proof | None:
        """The proof that the arms differ in one thing; None where there is none."""
        from gitbench.study.proof import Proof

        return read_as(Proof, self.proof_path, "delete it and run again") if self.proof_path.is_file() else None

    @property
    def proven(self) -> bool:
        """Whether the proof is of exactly the runs that are planned."""
        return self.proof is not None and [*self.proof.runs] == listed_runs(self.plan)

    @functools.cached_property
    def looks(self) -> Looks | None:
        """The looks at the study; None where nobody looked yet."""
        from gitbench.study.interim import read_looks

        return read_looks(self.looks_path)

    @functools.cached_property
    def noise_floors(self) -> Mapping[str, NoiseFloor]:
        """Metric -> noise floor of this profile and data; empty where none was measured."""
        from gitbench.judge.noise import NoiseFloor

        if not self.noise_path.is_file():
            return {}
        values = read_json(self.noise_path)
        try:
            return {each["metric"]: from_json(NoiseFloor, each) for each in values["floors"]}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise GitbenchError(
                f"{self.noise_path} is damaged: delete it and run `gitbench noise-floor` again"
            ) from None

    def write_yardstick(self, found: Yardstick) -> None:
        """Write the ceiling of the study's data."""
        values = {"kind": found.kind, "ceiling": found.ceiling}
        write_json(self.yardstick_path, values | ({"absent": found.absent} if found.absent else {}))
        self.yardstick = found

    def write_proof(self, proof: Proof) -> None:
        """Write the proof of the arms."""
        write_json(self.proof_path, {"schema": 1, **asdict(proof)})
        self.proof = proof

    def write_looks(self, looks: Looks) -> None:
        """Write the interim looks."""
        write_json(self.looks_path, {"schema": 2, **asdict(looks)})
        self.looks = looks

    @property
    def manifest(self) -> Manifest:
        """The records of the study, chained, as they are on file now."""
        fix = "restore it from a bundle"
        return read_as(Manifest, self.manifest_path, fix) if self.manifest_path.is_file() else Manifest()

    def adopt(self, runs: Collection[PlannedRun] | None = None) -> None:
        """Enter what the manifest does not list: of every finished run of the plan, or of these `runs`, and the ceiling.

        Another launch may do the same for its own at the same time.
        """
        keys = None if runs is None else {run.run_key for run in runs}
        entries = entries_of(self, keys)
        if self.manifest.with_entries(entries) == self.manifest:
            return
        with claimed(self.manifest_path):
            remove_leftovers_of(self.manifest_path)
            write_json(self.manifest_path, {"schema": 1, **asdict(self.manifest.with_entries(entries))})

    def write_plan(self) -> None:
        """Write the plan; a file that says the same is not touched. Errors: a study of an earlier version is there."""
        if self.plan_path.is_file() and isinstance(there := load_json(self.plan_path), dict):
            check_schema(self.plan_path, there)
        write_if_changed(self.plan_path, json.dumps(plan_to_json(self.plan), indent=2) + "\n")


def study_names(work_dir: str | Path) -> list[str]:
    """Return the names of the studies in a work directory, sorted."""
    files = (Path(work_dir) / "studies").glob("*.json")
    return sorted(
        path.stem for path in files if not path.name.endswith((".proof.json", ".looks.json", ".manifest.json"))
    )


def open_studies(work_dir: str | Path) -> list[Study]:
    """Open every study of a work directory, sorted by name."""
    return [Study.open(work_dir, name) for name in study_names(existing(work_dir))]


def existing(work_dir: str | Path) -> Path:
    """Return a work directory that is there. Errors: GitbenchError where it is not."""
    path = Path(work_dir)
    if not path.is_dir():
        raise NoStudy(f"work directory {path} does not exist: pass --work-dir, or run an ablation first")
    return path


def write_if_changed(path: Path, text: str) -> None:
    """Write a text file, unless it holds that text already."""
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a `predictions.jsonl`. Errors: ValueError for a damaged file."""
    # not splitlines(): a caption may hold U+2028, which JSON leaves as it is
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not all(isinstance(row, dict) and {"image_id", "caption", "references"} <= set(row) for row in rows):
        raise ValueError("a row that is no prediction")
    return rows


def _read(path: Path, reader: Callable[[Path], Value]) -> Value:
    if not path.is_file():
        raise GitbenchError(f"{path} is missing: delete the folder {path.parent} and run again")
    try:
        return reader(path)
    except (GitbenchError, OSError, ValueError):  # pandas' parser and empty-data errors are ValueErrors
        raise _damaged(path) from None


def _damaged(path: Path) -> GitbenchError:
    return GitbenchError(f"{path} is damaged: delete the folder {path.parent} and run again")
