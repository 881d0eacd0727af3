"""How far a run fits what it alone was trained on: its likelihoods of training and validation images, measured alike."""

import copy
import dataclasses
import json

import pytest
import torch
from helpers_study import make_study, run_of, tiny_profile, write_configs

from gitbench.registry import DATASETS
from gitbench.run_folder import RunFolder
from gitbench.training.hooks import read_curve
from gitbench.training.run import execute, load_run


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A run that has seen each of its 3 training images 80 times; validation has 4."""
    profile = tiny_profile(iterations=60, batch_images=4, lr_decoder=4e-3)
    profile = dataclasses.replace(profile, data=dataclasses.replace(profile.data, train_images=3))
    study = make_study(tmp_path_factory.mktemp("fit"), profile=profile)
    write_configs(study)
    run = run_of(study, "base")
    execute(run.folder)
    return run


def train_data(run, **options):
    """Build the training split of a run as its config names it."""
    config = copy.deepcopy(RunFolder(run.folder).read_config().train_dataloader.dataset)
    config.update(**options)
    return DATASETS.build(config)


def test_an_arm_that_memorises_its_images_shows_a_gap(few):
    trained = json.loads((few.folder / "trained.json").read_text())
    assert trained["train_nll"] < trained["val_nll"] - 0.5 and trained["val_nll"] < 10
    assert trained["fit_images"] == {"train_nll": 3, "val_nll": 4}
    assert (
        trained["val_nll"] == [loss for _, split, loss, _ in read_curve(few.folder / "curve.csv") if split == "val"][-1]
    )


def test_it_is_the_likelihood_of_all_captions_of_the_first_training_images(few):
    trained, (model, _) = json.loads((few.folder / "trained.json").read_text()), load_run(few.folder)
    data = train_data(few, first=3, captions_per_image=None)
    nll = tokens = 0.0
    with torch.no_grad():
        for item in data:
            ids = torch.tensor([[*text, *[data.pad_id] * (40 - len(text))] for text in item["tokens"]])
            pixels = (item["image"][None].float() - model.data_preprocessor.mean) / model.data_preprocessor.std
            logits = model.git.logits(pixels.expand(len(ids), -1, -1, -1), ids[:, :-1]).log_softmax(-1)
            said = ids[:, 1:] != data.pad_id
            nll -= logits.gather(-1, ids[:, 1:, None])[..., 0][said].sum().item()
            tokens += said.sum().item()
    assert trained["train_nll"] == pytest.approx(nll / tokens, rel=1e-5)


def test_the_first_training_images_are_those_trained_on_as_evaluation_sees_them(few):
    trained_on = train_data(few)
    data = train_data(few, first=2, captions_per_image=None, split="train")
    assert len(data) == 2 and [data[at]["index"] for at in range(2)] == [0, 1]
    assert data.tokenizer.fingerprint() == trained_on.tokenizer.fingerprint()
    assert [data.source.image_id(at) for at in range(2)] == [trained_on.source.image_id(at) for at in range(2)]
    assert all(len(data[at]["tokens"]) == 5 for at in range(2)) and data.crop_scale is None
