"""Run folders trained in a group end as their runs alone do; killed, they are resumed, or finished one by one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import TINY, tiny_profile

from gitbench.errors import GitbenchError
from gitbench.runs.plan import PlannedRun, make_plan, write_plan
from gitbench.training import group
from gitbench.training.group import common_iteration, train_group
from gitbench.training.hooks import checkpoints, read_curve
from gitbench.training.run import execute

ITERATIONS = 12


def planned(work_dir: Path, arm: str = "base", dropout: float = 0.1, **train) -> list[PlannedRun]:
    """Two replicates of an arm with dropout, crops and a validation on the way."""
    profile = tiny_profile(**{"iterations": ITERATIONS, "checkpoint_every": 4, "val_every": 6, **train})
    profile = dataclasses.replace(profile, data=dataclasses.replace(profile.data, crop_scale=(0.6, 1.0)))
    plan = make_plan(TINY, profile, "scenes", work_dir, replicates=2, cfg_options={"model.decoder.dropout": dropout})
    write_plan(plan, "test")
    return [run for run in plan.runs if run.arm.name == arm]


def folders(runs: list[PlannedRun]) -> list[Path]:
    return [run.folder for run in runs]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> list[PlannedRun]:
    runs = planned(tmp_path_factory.mktemp("alone"))
    for run in runs:
        execute(run.folder)
    return runs


def assert_same(one: Path, other: Path) -> None:
    """Two finished folders agree: curves, weights, likelihood within float32 rounding, captions word for word."""
    curves = [read_curve(folder / "curve.csv") for folder in (one, other)]
    assert [row[:2] for row in curves[0]] == [row[:2] for row in curves[1]]
    for left, right in zip(*curves, strict=True):
        assert left[2:] == pytest.approx(right[2:], rel=2e-5)
    weights = [torch.load(folder / "model.pth", weights_only=True)["state_dict"] for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        # AdamW divides a key bias's gradient, which is rounding noise about 0, by its own size: a rate a step at most
        tolerance = 3e-2 if name.endswith("bias") else 2e-4
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=tolerance, msg=name)
    records = [json.loads((folder / "trained.json").read_text()) for folder in (one, other)]
    assert records[0]["test_nll"] == pytest.approx(records[1]["test_nll"], rel=2e-5)
    assert records[0]["train"]["final_loss"] == pytest.approx(records[1]["train"]["final_loss"], rel=2e-5)
    rows = [
        [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        for folder in (one, other)
    ]
    for left, right in zip(*rows, strict=True):
        assert left["image_id"] == right["image_id"] and left["caption"] == right["caption"]
        assert left["nll"] == pytest.approx(right["nll"], rel=1e-4)


def test_a_group_leaves_what_runs_alone_leave(alone, tmp_path):
    runs, heard = planned(tmp_path), []
    train_group(folders(runs), lambda *message: heard.append(message))
    assert {message[0] for message in heard} == {0, 1} and heard[-1][1:3] == (ITERATIONS, ITERATIONS)
    for run, reference in zip(runs, alone, strict=True):
        assert (
            checkpoints(run.folder)[0].name == f"iter_{ITERATIONS}.pth" and not (run.folder / "trained.json").exists()
        )
        execute(run.folder)
        assert not checkpoints(run.folder)
        assert_same(run.folder, reference.folder)


def tensors_of(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_of(item)


def test_a_checkpoint_holds_its_own_replicate_and_no_other(tmp_path):
    runs = planned(tmp_path, iterations=2)
    train_group(folders(runs))
    held = [torch.load(checkpoints(run.folder)[0], weights_only=True) for run in runs]
    for part in ("state_dict", "optimizer"):
        tensors = list(tensors_of(held[0][part]))
        assert len(tensors) > 50
        assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in tensors)
    name = "git.decoder.layers.0.qkv.weight"
    assert not torch.equal(held[0]["state_dict"][name], held[1]["state_dict"][name])


def interrupted(monkeypatch, runs: list[PlannedRun], after: int) -> None:
    """Train a group and end it as iteration `after` begins."""
    step = group._step

    def stop(stack, loops):
        if loops[0].iter == after:
            raise RuntimeError("power cut")
        step(stack, loops)

    monkeypatch.setattr(group, "_step", stop)
    with pytest.raises(RuntimeError, match="power cut"):
        train_group(folders(runs))
    monkeypatch.setattr(group, "_step", step)


def test_a_killed_group_goes_on_bit_for_bit(monkeypatch, tmp_path):
    straight, cut = planned(tmp_path / "straight"), planned(tmp_path / "cut")
    train_group(folders(straight))
    interrupted(monkeypatch, cut, after=7)
    assert common_iteration(folders(cut)) == 4
    # the kill came between the two saves: one folder is a checkpoint ahead, which is made again
    shutil.copy(cut[0].folder / "iter_4.pth", cut[0].folder / "iter_8.pth")
    train_group(folders(cut))
    for one, other in zip(straight, cut, strict=True):
        states = [torch.load(run.folder / f"iter_{ITERATIONS}.pth", weights_only=True) for run in (one, other)]
        for name, value in states[0]["state_dict"].items():
            assert torch.equal(value, states[1]["state_dict"][name]), name
        assert read_curve(one.folder / "curve.csv") == read_curve(other.folder / "curve.csv")


def test_an_interrupted_group_is_finished_one_by_one(alone, monkeypatch, tmp_path):
    runs = planned(tmp_path)
    interrupted(monkeypatch, runs, after=9)
    for run, reference in zip(runs, alone, strict=True):
        execute(run.folder)
        assert_same(run.folder, reference.folder)


def test_runs_at_different_iterations_are_no_group(monkeypatch, tmp_path):
    runs = planned(tmp_path)
    interrupted(monkeypatch, runs, after=5)
    (runs[1].folder / "iter_4.pth").rename(runs[1].folder / "iter_3.pth")
    with pytest.raises(GitbenchError, match="one by one"):
        train_group(folders(runs))
    assert checkpoints(runs[0].folder)  # nothing is lost
    (runs[1].folder / "iter_3.pth").unlink()
    assert common_iteration(folders(runs)) == 0  # the kill came between the first two saves
    train_group(folders(runs))
    assert checkpoints(runs[0].folder)[0].name == checkpoints(runs[1].folder)[0].name == f"iter_{ITERATIONS}.pth"
