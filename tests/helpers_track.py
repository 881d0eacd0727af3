"""What trackers were told: read from stores on this disk, or by what stands in for a tracker's package."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from helpers_study import Run, run_of, write_configs

from gitbench.files import write_json
from gitbench.launch.tracking import tracking_of
from gitbench.run_folder import RunFolder
from gitbench.study.store import Study
from gitbench.trackers import Trackers, Tracking
from gitbench.training.hooks import read_curve

ROWS = [(1, "train", 3.0, 0.1), (2, "train", 2.0, 0.2), (2, "val", 2.5, 0.0)]


def trackers(work_dir: Path, *names: str) -> Trackers:
    for name in names:
        pytest.importorskip({"mlflow": "alembic"}.get(name, name))
    return Trackers(names=names, place=str(work_dir / "trackers"))


def asked_for(study: Study, *names: str) -> Run:
    """Plan the base run of a study, to be reported to trackers."""
    write_configs(study)
    run = run_of(study, "base")
    write_json(RunFolder(run.folder).track, dataclasses.asdict(tracking(study, *names)))
    return run


def tracking(study: Study, *names: str) -> Tracking:
    return tracking_of(study, study.plan.runs[0], trackers(study.work_dir, *names))


def stood_in(study: Study, name: str) -> Tracking:
    """Return what is asked for of a run that is reported to a stand-in."""
    return dataclasses.replace(
        tracking(study), trackers=Trackers(names=(name,), place=str(study.work_dir / "trackers"))
    )


def told(folder: RunFolder | Path, name: str) -> tuple[str, int]:
    """Return the run of a tracker that a run is reported in, and how many parts the tracker has."""
    file = folder.tracked if isinstance(folder, RunFolder) else RunFolder(folder).tracked
    (found,) = [each for each in json.loads(file.read_text())["sent"] if each["tracker"] == name]
    return found["run"], found["parts"]


def empty_store(file: Path) -> Path:
    """Make an empty store of MLflow, whose tables take half a minute to make: once a process."""
    shutil.copy(_empty_store(), file)
    return file


@functools.cache
def _empty_store() -> Path:
    pytest.importorskip("alembic")
    from mlflow import MlflowClient

    file = Path(tempfile.mkdtemp(), "empty.db")
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


def in_curve(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what trackers are to hear of the curve of a run."""
    found: dict[str, list[tuple[int, float]]] = {"train/loss": [], "train/lr": [], "val/nll": []}
    for iteration, split, loss, rate in read_curve(folder / "curve.csv"):
        for name, value in (("train/loss", loss), ("train/lr", rate)) if split == "train" else (("val/nll", loss),):
            found[name].append((iteration, pytest.approx(value)))
    return found


def in_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    return {name: [(each.step, each.value) for each in read.Scalars(name)] for name in read.Tags()["scalars"]}


def in_mlflow(store: Path, experiment: str) -> list[Any]:
    """Return the runs of an experiment in an SQLite file, each with its `curves`: metric -> (step, value)."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    for run in runs:
        names = run.data.metrics
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in names}
        run.curves = {name: [(each.step, each.value) for each in history] for name, history in histories.items()}
    return runs


class StandIn:
    """Takes what mmengine's backends call of Aim, ClearML and SwanLab."""

    made: list[StandIn] = []
    fails = ""  # the name of the call that fails from now on

    def __init__(self, **options: Any) -> None:
        self.options, self.heard, self.hash, self.id, self.ended = options, [], "given", "given", False
        self.failed = False
        StandIn.made.append(self)
        self.do("init")

    def do(self, name: str) -> None:
        if name == self.fails:
            raise ConnectionError(f"no answer to {name}")

    def __setitem__(self, name: str, value: Any) -> None:
        self.connect_configuration(value)

    def connect_configuration(self, values: dict[str, Any]) -> None:
        self.do("config")
        self.values = values

    def get_logger(self) -> StandIn:
        return self

    def report_scalar(self, title: str, series: str, value: float, iteration: int) -> None:
        self.do(f"{title} {iteration}")
        self.heard.append((title, value, iteration))

    def track(self, name: str, value: float, step: int) -> None:
        self.heard.append((name, value, step))

    def close(self) -> None:
        self.ended = True

    def mark_failed(self, force: bool) -> None:
        assert self.ended and force
        self.failed = True


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str) -> type[StandIn]:
    """Stand in for the package of a tracker; returns what has heard what was called."""
    module = ModuleType(name)
    module.Run = module.Task = SimpleNamespace(init=StandIn) if name == "clearml" else StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(StandIn, "made", [])
    monkeypatch.setattr(StandIn, "fails", "")
    return StandIn
