"""Trackers hear of a run what its folder says, each thing once, and change nothing of it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from helpers_resume import assert_same_results, stop_at
from helpers_study import make_study, run_of, tiny_profile
from helpers_track import (
    ROWS,
    asked_for,
    empty_store,
    in_curve,
    in_mlflow,
    in_tensorboard,
    stand_in,
    stood_in,
    told,
    trackers,
    tracking,
)

from gitbench.errors import GitbenchError
from gitbench.files import guarded
from gitbench.launch.scheduling import launch
from gitbench.launch.tracking import TrackedScorer, report
from gitbench.registry import VISBACKENDS
from gitbench.run_folder import RunFolder
from gitbench.study.part import Part
from gitbench.study.store import Study
from gitbench.training import track, track_backends
from gitbench.training.hooks import Diverged
from gitbench.training.run import execute

pytestmark = pytest.mark.usefixtures("as_before")
BASE = Part(arms=("base",), replicates=None, shard=None)


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
    (found,) = in_mlflow(Path(place, "mlflow", "mlflow.db"), study.name)
    assert found.curves == wanted and found.info.status == "FINISHED" and found.info.run_name == "base seed 0"
    assert found.data.tags.items() >= {"study": study.name, "arm": "base", "seed": "0"}.items()
    assert found.data.params["run_key"] == run.key and found.data.params["spec.train.iterations"] == "6"
    assert len([*(study.work_dir / "trackers" / "mlflow" / "artifacts").rglob("config.py")]) == 1
    offline = list((study.work_dir / "trackers" / "wandb" / "wandb").glob("offline-run-*"))
    assert {told(run.folder, name)[1] for name in named.names} == {1 + 7 + 1}  # parameters, curve, scores
    assert {each.name.rsplit("-", 1)[1] for each in offline} == {
        told(run.folder, "wandb")[0]
    }  # two sessions of one run
    assert not [path for each in offline for path in each.rglob("*") if path.name.startswith(("requ", "wandb-meta"))]

    later = trackers(without.work_dir, "tensorboard")
    for _ in range(2):
        assert launch(make_study(without.work_dir), plain=True, part=BASE, trackers=later).completed == 0
    assert in_tensorboard(Path(later.place) / "tensorboard" / without.name / "base" / "seed-0") == wanted
    assert not (other.folder / "track.json").exists()


def test_a_run_that_goes_on_goes_on_in_its_trackers_and_repeats_nothing(tmp_path, monkeypatch):
    """It was stopped before its first checkpoint, so that all it had reported is trained again."""
    monkeypatch.setattr(track, "EVERY", 0.0)
    study = make_study(tmp_path, profile=tiny_profile(iterations=12, val_every=3))
    (tmp_path / "trackers" / "mlflow").mkdir(parents=True)
    store = empty_store(tmp_path / "trackers" / "mlflow" / "mlflow.db")
    run = asked_for(study, "tensorboard", "mlflow")
    stop_at(run, 8)
    before = {name: told(run.folder, name) for name in ("tensorboard", "mlflow")}
    assert {parts for _, parts in before.values()} == {1 + 8 + 2}  # parameters, training, validation
    execute(run.folder)
    assert {name: told(run.folder, name)[0] for name in before} == {name: own for name, (own, _) in before.items()}
    assert in_tensorboard(tmp_path / "trackers" / "tensorboard" / before["tensorboard"][0]) == in_curve(run.folder)
    (found,) = in_mlflow(store, study.name)
    assert found.curves == in_curve(run.folder) and found.info.run_id == before["mlflow"][0]


def lines_of(monkeypatch) -> list[str]:
    """What tracking writes to the log from now on; where the log goes depends on the tests before."""
    said: list[str] = []
    monkeypatch.setattr(track, "print_log", lambda line, **_: said.append(line))
    return said


def test_a_tracker_that_fails_leaves_the_training_alone_and_hears_the_rest_later(tmp_path, monkeypatch):
    monkeypatch.setattr(track, "EVERY", 0.0)
    said = lines_of(monkeypatch)
    study = make_study(tmp_path)
    run = asked_for(study, "tensorboard")
    backend = track_backends.mmengine_backends.TensorboardVisBackend
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
        assert "".join(said).count("tensorboard failed, the run goes on without it: OSError") == 1
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
        assert told(folder, "tensorboard")[0].endswith(f"/base/{name}")
        folder.tracked.unlink()  # by --fresh


def test_of_several_processes_rank_0_alone_reports(tmp_path, monkeypatch):
    run = asked_for(make_study(tmp_path), "tensorboard")
    monkeypatch.setattr(track, "is_main_process", lambda: False)
    runner = SimpleNamespace(work_dir=str(run.folder))  # which takes no hook
    with track.tracked(runner, None):  # type: ignore[arg-type]
        pass
    assert not (tmp_path / "trackers").exists()


@pytest.mark.parametrize(
    ("name", "first", "again"),
    [
        ("aim", {"experiment": "tiny.smoke.scenes", "run_hash": None}, {"run_hash": "given", "force_resume": True}),
        (
            "clearml",
            {"project_name": "tiny.smoke.scenes", "task_name": "base seed 0", "reuse_last_task_id": False},
            {"reuse_last_task_id": "given", "continue_last_task": 0},
        ),
    ],
)
def test_trackers_that_were_not_run_are_called_as_mmengine_calls_them(name, first, again, tmp_path, monkeypatch):
    """Stand-ins of Aim and ClearML: the second session goes on in the run that the first one made."""
    heard, asked = stand_in(monkeypatch, name), stood_in(make_study(tmp_path), name)
    for rows, options in ((ROWS[:1], first), (ROWS, again)):
        sender = track.Sender(RunFolder(tmp_path / "run"), asked)
        sender.send(rows)
        sender.close()
        assert sender.failed == {} and heard.made[-1].ended
        assert heard.made[-1].options.items() >= options.items()
    one, two = heard.made
    assert one.heard == [("train/loss", 3.0, 1), ("train/lr", 0.1, 1)] and one.values["arm"] == "base"
    assert two.heard == [("train/loss", 2.0, 2), ("train/lr", 0.2, 2), ("val/nll", 2.5, 2)] and not hasattr(
        two, "values"
    )


def test_the_configs_name_backends_that_mmengine_knows(tmp_path, monkeypatch):
    for part in ("swanlab", "swanlab.integration", "swanlab.integration.mmengine"):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    asked = tracking(make_study(tmp_path))
    for name in ("tensorboard", "wandb", "mlflow", "aim", "clearml"):
        backend = VISBACKENDS.build(track_backends.backend_config(name, asked, "run"))
        assert isinstance(backend, track_backends.mmengine_backends.BaseVisBackend)
    swanlab = track_backends.backend_config("swanlab", asked, "run")
    assert swanlab["type"] == "SwanlabVisBackend"
    assert swanlab["init_kwargs"].items() >= {"project": "tiny.smoke.scenes", "id": "run", "resume": "allow"}.items()
    assert os.path.isabs(swanlab["save_dir"])


@pytest.mark.parametrize(("failed", "how"), [(False, {}), (True, {"state": "crashed", "error": "the run failed"})])
def test_a_run_of_swanlab_is_ended_whose_backend_leaves_it_open(failed, how, tmp_path):
    ended: list[Any] = []
    experiment = SimpleNamespace(finish=lambda **how: ended.append(how))
    sender = track.Sender(RunFolder(tmp_path), tracking(make_study(tmp_path)))
    sender.backends["swanlab"] = SimpleNamespace(close=lambda: ended.append("backend"), experiment=experiment)
    sender.close(failed)
    assert ended == ["backend", how] and sender.failed == {}


def test_a_run_that_diverges_ends_as_failed_with_its_last_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow keeps the files of a store of the user's
    store = empty_store(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    study = make_study(tmp_path, profile=tiny_profile(lr_decoder=1e30, lr_encoder=1e30))
    run = asked_for(study, "mlflow")
    with pytest.raises(Diverged):
        execute(run.folder)
    (found,) = in_mlflow(store, study.name)
    losses = [value for _, value in found.curves["train/loss"]]
    assert found.info.status == "FAILED" and not math.isfinite(losses[-1]) and math.isfinite(losses[0])


def test_a_run_that_fails_in_its_captions_ends_as_failed(tmp_path, monkeypatch):
    heard = stand_in(monkeypatch, "clearml")
    run = asked_for(make_study(tmp_path), "clearml")
    monkeypatch.setattr("gitbench.training.run._captioned", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        execute(run.folder)
    assert heard.made[0].failed and ("train/loss", pytest.approx(6, abs=4), 6) in heard.made[0].heard


@pytest.mark.parametrize(("last", "status"), [(2.0, 0), (math.nan, 1)])
def test_wandb_hears_whether_a_training_went_well(last, status, tmp_path, monkeypatch):
    ended: list[int] = []
    module = SimpleNamespace(
        init=lambda **_: None, define_metric=lambda **_: None, log=lambda *_, **__: None, run=None, config=None
    )
    module.finish = lambda exit_code: ended.append(exit_code)
    monkeypatch.setitem(sys.modules, "wandb", module)  # type: ignore[arg-type]
    sender = track.Sender(RunFolder(tmp_path / "run"), stood_in(make_study(tmp_path), "wandb"))
    sender.send([(1, "train", last, 0.1)])
    sender.close()
    assert (sender.failed, ended) == ({}, [status])


def test_rows_are_sent_when_their_checkpoint_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(track, "EVERY", 0.0)
    run = asked_for(make_study(tmp_path, profile=tiny_profile(checkpoint_every=0.0)), "tensorboard")
    seen: list[tuple[int, str]] = []

    def send(sender: track.Sender, rows: Any, scores: Any = None) -> None:
        seen.append((rows[-1][0], sender.folder.checkpoints[0].name))

    monkeypatch.setattr(track.Sender, "send", send)
    execute(run.folder)
    assert seen[:6] == [(done, f"iter_{done}.pth") for done in range(1, 7)]


def test_of_a_batch_that_fails_half_way_the_rest_is_sent_later(tmp_path, monkeypatch):
    heard, asked = stand_in(monkeypatch, "clearml"), stood_in(make_study(tmp_path), "clearml")
    folder, rows = RunFolder(tmp_path / "run"), [(done, "train", 1.0 * done, 0.1) for done in (1, 2, 3)]
    for fails, parts in (("init", None), ("config", 0), ("train/loss 3", 3), ("", 4)):
        monkeypatch.setattr(heard, "fails", fails)
        sender = track.Sender(folder, asked)
        sender.send(rows)
        sender.close()
        assert sender.failed == ({"clearml": f"ConnectionError: no answer to {fails}"} if fails else {})
        assert told(folder, "clearml") == ("given", parts) if folder.tracked.is_file() else parts is None
    losses = [value for each in heard.made for name, value, _ in each.heard if name == "train/loss"]
    assert losses == [1.0, 2.0, 3.0]
    assert [each.options["reuse_last_task_id"] for each in heard.made] == [False, False, "given", "given"]


def test_a_run_is_noted_before_it_is_told_anything(tmp_path, monkeypatch):
    """So that a kill meanwhile leaves no second one."""
    heard, asked = stand_in(monkeypatch, "clearml"), stood_in(make_study(tmp_path), "clearml")
    folder, noted = RunFolder(tmp_path / "run"), []
    monkeypatch.setattr(heard, "connect_configuration", lambda *_: noted.append(told(folder, "clearml")))
    track.Sender(folder, asked).send(ROWS)
    assert noted == [("given", 0)]


def test_of_a_curve_that_mlflow_takes_in_several_calls_those_that_arrived_are_not_repeated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow keeps the files of a store of the user's
    store = empty_store(tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    monkeypatch.setattr(track, "AT_ONCE", {"mlflow": 2})
    asked = tracking(make_study(tmp_path), "mlflow")
    folder, rows = RunFolder(tmp_path / "run"), [(done, "train", 1.0 * done, 0.1) for done in range(1, 6)]
    flush, calls = track_backends.MlflowBackend.flush, []

    def once_in_two(backend: Any) -> None:
        calls.append(len(backend._waiting))
        if len(calls) == 2:
            raise ConnectionError("gone")
        flush(backend)

    monkeypatch.setattr(track_backends.MlflowBackend, "flush", once_in_two)
    for _ in range(2):
        sender = track.Sender(folder, asked)
        sender.send(rows)
        sender.close()
    assert calls == [2, 4, 4, 4]  # with the hyper-parameters in the first
    (found,) = in_mlflow(store, asked.study)
    assert found.curves["train/loss"] == [(done, loss) for done, _, loss, _ in rows]


def test_another_store_and_another_study_hear_all_of_it_and_none_hears_it_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow keeps the files of a store of the user's
    study, record = make_study(tmp_path / "work"), {"metrics": {"CIDEr": {"value": 2.0}}}
    run = asked_for(study)
    execute(run.folder)
    named, planned = trackers(study.work_dir, "mlflow"), study.plan.runs[0]
    other = Study(study.work_dir, dataclasses.replace(study.plan, ablation="other"))
    stores = [empty_store(tmp_path / name) for name in ("a.db", "b.db")]
    wanted = in_curve(run.folder) | {"scores/CIDEr": [(6, 2.0)]}
    for _ in range(2):
        for store in stores:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
            for each in (study, other):
                assert report(each, planned, record, named) == {}
                assert [found.curves for found in in_mlflow(store, each.name)] == [wanted]


def test_a_password_of_a_server_is_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("CLEARML_API_HOST", "https://me:secret@example.org/api")
    stand_in(monkeypatch, "clearml")
    folder = RunFolder(tmp_path / "run")
    track.Sender(folder, stood_in(make_study(tmp_path), "clearml")).send(ROWS)
    assert "https://example.org/api" in folder.tracked.read_text() and "secret" not in folder.tracked.read_text()


def test_stores_that_were_moved_with_their_runs_hear_nothing_twice(tmp_path):
    study = make_study(tmp_path / "work")
    run = asked_for(study, "tensorboard")
    execute(run.folder)
    (tmp_path / "work").rename(tmp_path / "moved")
    moved = make_study(tmp_path / "moved")
    record = {"metrics": {"CIDEr": {"value": 2.0}}}
    assert report(moved, moved.plan.runs[0], record, trackers(moved.work_dir, "tensorboard")) == {}
    place = tmp_path / "moved" / "trackers" / "tensorboard" / study.name / "base"
    assert [each.name for each in place.iterdir()] == ["seed-0"]
    assert in_tensorboard(place / "seed-0").keys() == {"train/loss", "train/lr", "val/nll", "scores/CIDEr"}


def test_a_server_that_is_away_is_waited_for_once(tmp_path, monkeypatch):
    """Failures that are quick are each run's own; nobody waits for another run that opens a server's."""
    monkeypatch.setattr(track, "claimed", lambda place: pytest.fail("it waits"))
    heard, asked = stand_in(monkeypatch, "clearml"), stood_in(make_study(tmp_path), "clearml")
    monkeypatch.setattr(heard, "fails", "init")

    def sent(number: int) -> dict[str, str]:
        sender = track.Sender(RunFolder(tmp_path / f"run{number}"), asked)
        sender.send(ROWS)
        return sender.failed

    why = {"clearml": "ConnectionError: no answer to init"}
    assert [sent(number) for number in range(2)] == [why, why] and len(heard.made) == 2
    monkeypatch.setattr(track, "SLOW", 0.0)
    assert [sent(number) for number in range(4)] == [why] * 4 and len(heard.made) == 3
    asked.trackers.down("clearml").unlink()
    monkeypatch.setattr(heard, "fails", "")
    assert [sent(number) for number in range(2)] == [{}, {}] and len(heard.made) == 5


@pytest.mark.parametrize("text", ['{"sent": [{"tracker": "tensorboard"}]}', '["rows"]', ""])
def test_a_damaged_note_of_what_was_sent_is_one_line(text, tmp_path):
    folder, said = RunFolder(tmp_path), []
    folder.tracked.write_text(text)
    sender = track.Sender(folder, tracking(make_study(tmp_path), "tensorboard"), said.append)
    for _ in range(2):
        sender.send(ROWS)
    sender.close()
    (line,) = said
    assert line.startswith(f"tensorboard failed, the run goes on without it: {folder.tracked} is damaged")
    assert line.endswith(": delete it and run again")


def test_a_damaged_wish_is_one_line_and_ends_no_training(tmp_path, monkeypatch):
    said, run = lines_of(monkeypatch), asked_for(make_study(tmp_path))
    (run.folder / "track.json").write_text('{"arm": "base"}')
    execute(run.folder)
    assert [line.partition(":")[0] for line in said] == ["reported to no tracker"] and (
        run.folder / "trained.json"
    ).is_file()


def test_a_run_that_another_process_took_over_is_left_to_it(tmp_path, monkeypatch):
    heard, asked = stand_in(monkeypatch, "clearml"), stood_in(make_study(tmp_path), "clearml")

    def lost() -> None:
        raise GitbenchError("taken over")

    folder = RunFolder(tmp_path / "run")
    sender = track.Sender(folder, asked)
    sender.send(ROWS[:1])
    with guarded(folder.path, lost):
        sender.send(ROWS)
        sender.close(failed=True)
    assert sender.failed == {"clearml": "taken over"} and told(folder, "clearml") == ("given", 2)
    assert len(heard.made[0].heard) == 2 and not heard.made[0].failed


def test_tags_of_wandb_are_no_longer_than_it_takes(tmp_path):
    asked = tracking(make_study(tmp_path))
    long = asked.__class__(**{**vars(asked), "study": 70 * "s", "arms": ("base", 80 * "a", 64 * "a")})
    tags = track_backends.backend_config("wandb", long, "id")["init_kwargs"]["tags"]
    assert tags == [64 * "s", "base", 64 * "a", "0"]
