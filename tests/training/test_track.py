"""Trackers hear of a run what its folder says, each thing once, and change nothing of it."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from helpers_resume import assert_same_results, stop_at
from helpers_study import Run, make_study, run_of, tiny_profile, write_configs

from gitbench.files import write_json
from gitbench.launch.scheduling import launch
from gitbench.launch.tracking import TrackedScorer, report, tracking_of
from gitbench.registry import VISBACKENDS
from gitbench.run_folder import RunFolder
from gitbench.study.part import Part
from gitbench.study.store import Study
from gitbench.trackers import Trackers
from gitbench.training import track
from gitbench.training.hooks import read_curve
from gitbench.training.run import execute

pytestmark = pytest.mark.usefixtures("as_before")
BASE = Part(arms=("base",), replicates=None, shard=None)
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


def tracking(study: Study, *names: str) -> Any:
    return tracking_of(study, study.plan.runs[0], trackers(study.work_dir, *names))


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


def in_mlflow(place: Path, experiment: str) -> list[Any]:
    """Return the runs of an experiment, each with its `curves`: metric -> (step, value)."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place}/mlflow/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    for run in runs:
        names = run.data.metrics
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in names}
        run.curves = {name: [(each.step, each.value) for each in history] for name, history in histories.items()}
    return runs


@pytest.mark.timeout(600)
def test_a_launch_reports_curve_scores_and_parameters_and_gives_the_same_results_without(tmp_path, monkeypatch):
    """To stores on this disk, and to W&B offline. Runs that were finished without are reported later, once."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    without, study = make_study(tmp_path / "without"), make_study(tmp_path / "a b%20 ü")
    named = trackers(study.work_dir, "tensorboard", "mlflow", "wandb")
    assert (
        launch(without, plain=True, part=BASE).failed
        == ()
        == launch(study, plain=True, part=BASE, trackers=named).failed
    )
    run, other = run_of(study, "base"), run_of(without, "base")
    assert run.key == other.key and (run.folder / "config.py").read_bytes() == (other.folder / "config.py").read_bytes()
    assert_same_results(run.folder, other.folder)
    record = json.loads((run.folder / "record.json").read_text())
    assert not any("track" in name for name in record["files"])

    wanted = in_curve(run.folder) | {
        f"scores/{name}": [(6, pytest.approx(entry["value"], rel=1e-5))] for name, entry in record["metrics"].items()
    }
    seen = in_tensorboard(study.work_dir / "trackers" / "tensorboard" / study.name / "base" / "seed-0")
    assert seen == wanted
    place = str(study.work_dir / "trackers").replace("%", "%25")
    (found,) = in_mlflow(Path(place), study.name)
    assert found.curves == wanted and found.info.status == "FINISHED" and found.info.run_name == "base seed 0"
    assert found.data.tags.items() >= {"study": study.name, "arm": "base", "seed": "0"}.items()
    assert found.data.params["run_key"] == run.key and found.data.params["spec.train.iterations"] == "6"
    assert len([*(study.work_dir / "trackers" / "mlflow" / "artifacts").rglob("config.py")]) == 1
    offline = list((study.work_dir / "trackers" / "wandb" / "wandb").glob("offline-run-*"))
    sent = json.loads((run.folder / "tracked.json").read_text())
    assert {name: (each["rows"], each["scored"]) for name, each in sent.items()} == dict.fromkeys(
        named.names, (7, True)
    )
    assert {each.name.rsplit("-", 1)[1] for each in offline} == {sent["wandb"]["run"]}  # two sessions of one run

    later = trackers(without.work_dir, "tensorboard")
    for _ in range(2):
        assert launch(make_study(without.work_dir), plain=True, part=BASE, trackers=later).completed == 0
    assert in_tensorboard(Path(later.place) / "tensorboard" / without.name / "base" / "seed-0") == wanted
    assert not (other.folder / "track.json").exists()


def test_a_run_that_goes_on_goes_on_in_its_trackers_and_repeats_nothing(tmp_path, monkeypatch):
    """It was stopped before its first checkpoint, so that all it had reported is trained again."""
    monkeypatch.setattr(track, "EVERY", 0.0)
    study = make_study(tmp_path, profile=tiny_profile(iterations=12, val_every=3))
    run = asked_for(study, "tensorboard", "mlflow")
    stop_at(run, 8)
    before = json.loads((run.folder / "tracked.json").read_text())
    assert {each["rows"] for each in before.values()} == {9}  # 7 of training and 2 of validation
    execute(run.folder)
    after = json.loads((run.folder / "tracked.json").read_text())
    assert {name: each["run"] for name, each in after.items()} == {name: each["run"] for name, each in before.items()}
    assert in_tensorboard(tmp_path / "trackers" / "tensorboard" / before["tensorboard"]["run"]) == in_curve(run.folder)
    (found,) = in_mlflow(tmp_path / "trackers", study.name)
    assert found.curves == in_curve(run.folder) and found.info.run_id == before["mlflow"]["run"]


def test_a_tracker_that_fails_leaves_the_training_alone_and_hears_the_rest_later(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(track, "EVERY", 0.0)
    study = make_study(tmp_path)
    run = asked_for(study, "tensorboard")
    backend = track.mmengine_backends.TensorboardVisBackend
    send, calls = backend.add_scalars, []

    def full(self: Any, values: Any, step: int = 0, **_: Any) -> None:
        calls.append(step)
        if step > 2:
            raise OSError(28, "No space left on device")
        send(self, values, step)

    with monkeypatch.context() as patch:
        patch.setattr(backend, "add_scalars", full)
        execute(run.folder)
        assert calls == [1, 2, 3] and (run.folder / "trained.json").is_file()
        assert capfd.readouterr().out.count("tensorboard failed, the run goes on without it: OSError") == 1
        scorer = SimpleNamespace(score_run=lambda run: {"metrics": {"CIDEr": {"value": 2.0}}, "warnings": ["x"]})
        scored = TrackedScorer(scorer, study, tracking(study, "tensorboard").trackers)  # type: ignore[arg-type]
        warned = [scored.score_run(study.plan.runs[0])["warnings"] for _ in range(2)]
        assert warned[0][0] == "x" and warned[0][1].startswith("tensorboard failed: ") and warned[1] == ["x"]
    record = {"metrics": {"CIDEr": {"value": 2.0}, "SPICE": {"value": None}}}
    assert report(study, study.plan.runs[0], record, trackers(tmp_path, "tensorboard")) == {}
    folder = tmp_path / "trackers" / "tensorboard" / study.name / "base" / "seed-0"
    assert in_tensorboard(folder) == in_curve(run.folder) | {"scores/CIDEr": [(6, 2.0)]}


def test_a_run_that_is_made_again_is_another_run_of_its_trackers(tmp_path):
    study = make_study(tmp_path)
    folder = RunFolder(tmp_path / "run")
    for name in ("seed-0", "seed-0.2"):
        sender = track.Sender(folder, tracking(study, "tensorboard"))
        sender.send(ROWS)
        sender.close()
        assert json.loads(folder.tracked.read_text())["tensorboard"]["run"].endswith(f"/base/{name}")
        folder.tracked.unlink()  # by --fresh


def test_of_several_processes_rank_0_alone_reports(tmp_path, monkeypatch):
    run = asked_for(make_study(tmp_path), "tensorboard")
    monkeypatch.setattr(track, "is_main_process", lambda: False)
    runner = SimpleNamespace(work_dir=str(run.folder))  # which takes no hook
    with track.tracked(runner, None):  # type: ignore[arg-type]
        pass
    assert not (tmp_path / "trackers").exists()


class StandIn:
    """Takes what mmengine's backends call of Aim, ClearML and SwanLab."""

    made: list[StandIn] = []

    def __init__(self, **options: Any) -> None:
        self.options, self.heard, self.hash, self.id, self.ended = options, [], "given", "given", False
        StandIn.made.append(self)

    def __setitem__(self, name: str, value: Any) -> None:
        self.connect_configuration(value)

    def connect_configuration(self, values: dict[str, Any]) -> None:
        self.values = values

    def get_logger(self) -> StandIn:
        return self

    def report_scalar(self, title: str, series: str, value: float, iteration: int) -> None:
        self.heard.append((title, value, iteration))

    def track(self, name: str, value: float, step: int) -> None:
        self.heard.append((name, value, step))

    def close(self) -> None:
        self.ended = True


@pytest.mark.parametrize(
    ("name", "first", "again"),
    [
        ("aim", {"experiment": "tiny.smoke.scenes", "run_hash": None}, {"run_hash": "given", "force_resume": True}),
        (
            "clearml",
            {"project_name": "tiny.smoke.scenes", "task_name": "base seed 0", "continue_last_task": False},
            {"continue_last_task": "given"},
        ),
    ],
)
def test_trackers_that_were_not_run_are_called_as_mmengine_calls_them(name, first, again, tmp_path, monkeypatch):
    """Stand-ins of Aim and ClearML: the second session goes on in the run that the first one made."""
    module = ModuleType(name)
    module.Run = module.Task = SimpleNamespace(init=StandIn) if name == "clearml" else StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(StandIn, "made", [])
    study = make_study(tmp_path)
    asked = dataclasses.replace(tracking(study), trackers=Trackers(names=(name,), place=str(tmp_path / "trackers")))
    for rows, options in ((ROWS[:1], first), (ROWS, again)):
        sender = track.Sender(RunFolder(tmp_path / "run"), asked)
        sender.send(rows)
        sender.close()
        assert sender.failed == {} and StandIn.made[-1].ended
        assert StandIn.made[-1].options.items() >= options.items()
    one, two = StandIn.made
    assert one.heard == [("train/loss", 3.0, 1), ("train/lr", 0.1, 1)] and one.values["arm"] == "base"
    assert two.heard == [("train/loss", 2.0, 2), ("train/lr", 0.2, 2), ("val/nll", 2.5, 2)] and not hasattr(
        two, "values"
    )


def test_the_configs_name_backends_that_mmengine_knows(tmp_path, monkeypatch):
    for part in ("swanlab", "swanlab.integration", "swanlab.integration.mmengine"):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    asked = tracking(make_study(tmp_path))
    for name in ("tensorboard", "wandb", "mlflow", "aim", "clearml"):
        backend = VISBACKENDS.build(track.backend_config(name, asked, "run"))
        assert isinstance(backend, track.mmengine_backends.BaseVisBackend)
    swanlab = track.backend_config("swanlab", asked, "run")
    assert swanlab["type"] == "SwanlabVisBackend"
    assert swanlab["init_kwargs"].items() >= {"project": "tiny.smoke.scenes", "id": "run", "resume": "allow"}.items()
    assert os.path.isabs(swanlab["save_dir"])


def test_a_run_of_swanlab_is_ended_whose_backend_leaves_it_open(tmp_path):
    ended: list[str] = []
    experiment = SimpleNamespace(finish=lambda: ended.append("run"))
    sender = track.Sender(RunFolder(tmp_path), tracking(make_study(tmp_path)))
    sender.backends["swanlab"] = SimpleNamespace(close=lambda: ended.append("backend"), experiment=experiment)
    sender.close()
    assert ended == ["backend", "run"] and sender.failed == {}
