"""Training images that the model holds: the bits of those that batches bring, for the runs of GPUs that have room for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_resume import assert_same_results, stop_at
from helpers_study import Run, edited, make_study, run_of, tiny_profile, write_configs

from gitbench.run_folder import RunFolder
from gitbench.spec import Compute
from gitbench.study.config import RESIDENT_LIMIT, make_config, resident_bytes
from gitbench.study.memory import peak_bytes, resident_images_bytes
from gitbench.study.proof import compare_configs
from gitbench.training.caption_model import ImagePreprocessor
from gitbench.training.data import CaptionData
from gitbench.training.fingerprints import fingerprint
from gitbench.training.resident import ResidentImagesHook, copied
from gitbench.training.run import PlainRunner, execute

FP16 = Compute(device="cuda", precision="float16")


def planned(folder: Path, resident: bool) -> Run:
    """Return a run of the CPU, whose images the model holds as on a GPU."""
    study = make_study(folder, profile=tiny_profile(iterations=9, checkpoint_every=0))  # beyond one pass over 24 images
    write_configs(study)
    run = run_of(study, "base")
    if resident:
        with edited(run) as config:
            config.train_dataloader.dataset.pixels = False
            config.custom_hooks.append({"type": "ResidentImagesHook"})
    return run


def test_a_run_has_the_same_bits_stopped_or_not(tmp_path):
    usual, resident = (planned(tmp_path / str(held), held) for held in (False, True))
    execute(usual.folder)
    stop_at(resident, 5)
    assert (resident.folder / "iter_4.pth").is_file()
    execute(resident.folder)
    assert_same_results(usual.folder, resident.folder)


def test_batches_bring_no_pixels_and_their_memory_is_given_back(tmp_path):
    config = RunFolder(planned(tmp_path, resident=True).folder).read_config()
    config.work_dir = str(tmp_path)
    runner = PlainRunner.from_cfg(config)
    runner.call_hook("before_train")
    data, preprocess = runner.train_dataloader.dataset, runner.model.data_preprocessor
    batch = next(iter(runner.train_dataloader))
    assert "images" not in batch and "image" not in data[0]
    (held,) = preprocess.resident.values()
    assert np.array_equal(held.numpy(), data.images)
    assert preprocess(batch)["images"].shape == (4, 3, 64, 64)
    next(hook for hook in runner.hooks if isinstance(hook, ResidentImagesHook)).after_train(runner)
    assert preprocess.resident == {}


def test_images_and_films_are_as_the_data_set_would_give_them():
    for frames in ((), (2,)):
        images = np.random.default_rng(0).integers(0, 256, (300, *frames, 4, 6, 3), dtype=np.uint8)  # more than a chunk
        preprocess, numbers = ImagePreprocessor(), [299, 0, 7, 7]
        preprocess.resident = {"train": copied(images, torch.device("cpu"))}
        given = torch.from_numpy(images[numbers]).movedim(-1, -3).contiguous()
        found = preprocess({"image_set": "train", "indices": numbers})["images"]
        expected = preprocess({"images": given, "indices": numbers})["images"]
        assert torch.equal(found, expected) and found.stride() == expected.stride()


def test_crops_are_cut_out_of_pixels(tmp_path):
    values = RunFolder(planned(tmp_path, resident=False).folder).read_config().train_dataloader.dataset.to_dict()
    values.pop("type")
    values["data_spec"]["crop_scale"] = (0.5, 1.0)
    with pytest.raises(ValueError, match="random crops are cut out of pixels"):
        CaptionData(**values, pixels=False)


def configs(folder: Path, compute: Compute | None, **data):  # type: ignore[no-untyped-def]
    """Return spec and config of a run with other values of its DataSpec."""
    profile = tiny_profile()
    study = make_study(folder, profile=dataclasses.replace(profile, data=dataclasses.replace(profile.data, workers=3)))
    spec = run_of(study, "base").spec
    spec = dataclasses.replace(spec, data=dataclasses.replace(spec.data, **data), compute=compute or Compute())
    return spec, make_config(spec, study.plan.vocabulary, "key")


@pytest.mark.parametrize(
    ("compute", "data", "resident"),
    [
        (FP16, {}, True),
        (None, {}, False),
        (FP16, {"crop_scale": (0.8, 1.0)}, False),
        (FP16, {"train_images": None}, False),  # a whole split, of whatever size
        (FP16, {"train_images": RESIDENT_LIMIT // (3 * 64**2)}, True),
        (FP16, {"train_images": RESIDENT_LIMIT // (3 * 64**2) + 1}, False),
    ],
)
def test_who_holds_them(tmp_path, compute, data, resident):
    spec, config = configs(tmp_path, compute, **data)
    assert config.train_dataloader.dataset.get("pixels", True) is not resident
    assert ("ResidentImagesHook" in [hook["type"] for hook in config.custom_hooks]) == (compute is FP16)
    assert (resident_bytes(spec) > 0) == resident and resident_images_bytes(config) == resident_bytes(spec)
    assert config.train_dataloader.num_workers == (0 if resident else 3)
    assert config.val_dataloader.num_workers == config.test_dataloader.num_workers == 0  # nothing is cut there
    assert {"type": "EncoderInitHook", "workers": 3} in config.custom_hooks


def test_they_count_while_a_run_trains(tmp_path):
    many = {"train_images": RESIDENT_LIMIT // (3 * 64**2)}
    (_, few), (_, held) = (configs(tmp_path, FP16, **data) for data in ({"train_images": None}, many))
    assert peak_bytes(held, 64, 2) == pytest.approx(peak_bytes(few, 64, 2) + RESIDENT_LIMIT, rel=0.01)


def test_the_proof_reads_pixels_and_lets_them_come_from_anywhere(tmp_path):
    """A small amount of data may lie on a GPU on which the large one has no room."""
    resident, usual = (configs(tmp_path, FP16, **data)[1].to_dict() for data in ({}, {"train_images": None}))
    assert "images" in fingerprint(resident, ())["batches"]["training batch 1"]
    differing = {change.what for change in compare_configs(usual, resident, ("amount",))}
    assert usual["train_dataloader"]["num_workers"] != resident["train_dataloader"]["num_workers"]
    assert differing == {f"{split}_dataloader.dataset.data_spec.train_images" for split in ("train", "val", "test")}
