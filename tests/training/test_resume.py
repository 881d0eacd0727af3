"""A run killed anywhere and started again ends bit-identical to one left alone: dropout, augmentation, workers and all."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
import torch
from helpers_resume import assert_same_results, kill_at, run_to_end
from helpers_study import Run, make_study, tiny_profile, write_configs

from gitbench.run_folder import RunFolder
from gitbench.training.hooks import checkpoints, latest_checkpoint, read_curve
from gitbench.training.optimizer import warmup_cosine


def planned(work_dir: Path) -> Run:
    profile = tiny_profile(iterations=40, checkpoint_every=10, val_every=5)  # validated at each checkpoint, and between
    profile = dataclasses.replace(profile, data=dataclasses.replace(profile.data, crop_scale=(0.6, 1.0), workers=2))
    return write_configs(make_study(work_dir, profile=profile, cfg_options={"model.decoder.dropout": 0.1}))[0]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was left alone."""
    run = planned(tmp_path_factory.mktemp("quiet"))
    run_to_end(run)
    return run


@pytest.mark.timeout(240)
def test_three_sigkills_leave_no_trace(quiet, tmp_path):
    """The last kill leaves two checkpoints, of which the newest is cut short: the older one stands in."""
    killed = planned(tmp_path)
    config = (killed.folder / "config.py").read_bytes()
    assert quiet.key == killed.key
    assert RunFolder(quiet.folder).read_config().model.decoder.dropout == 0.1
    for moment in (*sorted(random.Random(7).sample(range(2, 30), 2)), 33):
        kill_at(killed, moment)
    found = checkpoints(killed.folder)
    assert len(found) == 2
    for path in found:
        saved = torch.load(path, weights_only=True)
        assert saved["meta"]["iter"] == int(path.stem.split("_")[1])
        assert 0 < saved["meta"]["data_wait_seconds"] < saved["meta"]["seconds"]
        saved["meta"]["data_wait_seconds"] = 1000.0
        torch.save(saved, path)
    found[0].write_bytes(found[0].read_bytes()[:1000])
    assert latest_checkpoint(killed.folder) == found[1]
    run_to_end(killed)
    assert_same_results(quiet.folder, killed.folder)
    validated = [iteration for iteration, split, *_ in read_curve(killed.folder / "curve.csv") if split == "val"]
    assert validated == list(range(5, 41, 5))
    trained = json.loads((killed.folder / "trained.json").read_text())
    assert trained["train"]["iterations"] == 40 and not checkpoints(killed.folder)
    assert 1000 < trained["cost"]["data_wait_seconds"] < 1010  # what earlier sessions waited counts
    assert (killed.folder / "config.py").read_bytes() == config  # mmengine would write this session's into it


def test_the_curve_holds_the_decoders_learning_rate(quiet):
    train, total = quiet.spec.train, 40
    for iteration, split, _, rate in read_curve(quiet.folder / "curve.csv"):
        if split == "train":
            assert rate == pytest.approx(train.lr_decoder * warmup_cosine(iteration - 1, train.warmup, total))
