"""A frozen encoder stays put and is asked once an image; what is reused equals what is computed again, bit for bit."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers_resume import assert_same_results, kill_at, run_to_end
from helpers_study import make_study, run_of, runs_of, tiny_ablation, tiny_profile, write_configs

import gitbench.training.frozen as frozen
from gitbench.ablations import check_ablation
from gitbench.errors import GitbenchError
from gitbench.files import load_json
from gitbench.models.encoder import ImageEncoder
from gitbench.models.packed import pack
from gitbench.registry import MODELS
from gitbench.run_folder import RunFolder
from gitbench.study.config import make_config
from gitbench.study.store import Study
from gitbench.training.encoder_init import EncoderInitHook
from gitbench.training.frozen import FrozenEncoder
from gitbench.training.hooks import CurveHook, read_curve
from gitbench.training.run import PlainRunner, execute, load_run
from gitbench.variants.encoder import EncoderSpec

SPEC = EncoderSpec(width=32, layers=2, heads=4, patch=8, image_size=32)
VARIANTS = ("trained", "frozen", "ratio_1_20", "ratio_1_1")


def planned(folder: Path, *variants: str, train=None, data=None, **changes) -> Study:
    profile = tiny_profile(**(train or {}))
    profile = dataclasses.replace(profile, data=dataclasses.replace(profile.data, **(data or {})))
    study = make_study(folder, tiny_ablation("encoder_training", *variants, **changes), profile)
    write_configs(study)
    return study


def model_of(plan: Study, place: int = 0, **changes):
    run = runs_of(plan)[place]
    config = make_config(run.spec, plan.plan.vocabulary, run.key)
    return MODELS.build({**config.model.to_dict(), **changes})


def some_batch(plan: Study, indices: list[int], image_set: str | None = "train") -> dict:
    generator = torch.Generator().manual_seed(sum(indices))
    pixels = torch.stack([torch.full((3, 64, 64), 9 * i + 3, dtype=torch.uint8) for i in indices])
    pixels[:, :, 8:24, 8:24] = 200
    tokens = torch.randint(5, plan.plan.vocabulary.size, (len(indices), 2, 6), generator=generator)
    tokens[:, :, 0], tokens[:, :, -1] = plan.plan.vocabulary.bos_id, plan.plan.vocabulary.eos_id
    predicted = tokens != plan.plan.vocabulary.bos_id
    return {
        "images": pixels,
        "tokens": tokens,
        "texts": pack(tokens.flatten(0, 1), predicted.flatten(0, 1), len(indices), plan.plan.vocabulary.pad_id),
        "image_ids": [str(i) for i in indices],
        "indices": indices,
        "image_set": image_set,
    }


def test_a_ratio_of_rates_becomes_the_encoders_rate(tmp_path):
    plan = planned(tmp_path, *VARIANTS)
    rates = {run.arm: run.spec.train.lr_encoder / run.spec.train.lr_decoder for run in runs_of(plan)}
    assert rates == pytest.approx(
        {"base": 1 / 5, "frozen": 1 / 5, "ratio_1_20": 1 / 20, "ratio_1_1": 1, "blind": 1 / 5}
    )
    assert len({run.key for run in runs_of(plan)}) == 5
    for run in runs_of(plan):
        config = make_config(run.spec, plan.plan.vocabulary, run.key)
        assert config.optim_wrapper.paramwise_cfg.lr_encoder == run.spec.train.lr_encoder
        assert config.model.encoder_training.frozen == (run.arm == "frozen")
        assert config.model.encoder_init.source == "pretrained" and config.variants["amount"] == "all"


def test_a_frozen_encoder_gets_no_gradient_and_stays_in_eval_mode(tmp_path):
    plan = planned(tmp_path, "frozen")
    model = model_of(plan).train()
    assert model.git.training and model.git.decoder.training and not model.git.encoder.training
    assert not any(module.training for module in model.git.encoder.modules())
    batch = model.data_preprocessor(some_batch(plan, [0, 1, 2]))
    model(**batch, mode="loss")["loss"].backward()
    assert all(p.grad is None and not p.requires_grad for p in model.git.encoder.parameters())
    assert all(p.grad is not None for n, p in model.git.named_parameters() if not n.startswith("encoder."))
    model.git.generate(batch["images"], beam_size=1, max_length=4)
    assert model.git.training and not model.git.encoder.training


def encoder_of(seed: int = 0) -> FrozenEncoder:
    encoder = FrozenEncoder(SPEC)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in encoder.named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + ("norm" in name))
    return encoder


class Split:
    """What `keep` asks of a data set: five images of 32 pixels."""

    image_set: str | None = "train"
    store_size = 32
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    source = SimpleNamespace(image_fingerprint=lambda: "five images", task=SimpleNamespace(frames=0))


def prepared(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 255


def test_kept_features_are_the_plain_encoders_image_by_image():
    encoder, plain = encoder_of(), ImageEncoder(SPEC).eval()
    plain.load_state_dict(encoder.state_dict())
    images = prepared(torch.from_numpy(Split.images).movedim(-1, -3))
    one_by_one = torch.cat([plain(image[None]) for image in images])
    assert torch.equal(encoder(images), one_by_one)  # without reuse
    encoder.keep(Split(), prepared)
    with encoder.known("train", [3, 0, 3]):
        kept = encoder(images[:3])  # the numbers say which images these are
    assert torch.equal(kept, one_by_one[[3, 0, 3]]) and not kept.requires_grad
    torch.testing.assert_close(one_by_one, plain(images), rtol=1e-5, atol=1e-5)


def test_an_image_is_encoded_once_for_all_encoders_of_these_values(monkeypatch):
    encoder, twin, other = encoder_of(1), encoder_of(1), encoder_of(2)
    passed: list[int] = []
    real = FrozenEncoder.encode
    monkeypatch.setattr(FrozenEncoder, "encode", lambda self, images: passed.append(len(images)) or real(self, images))
    took = []
    for each, encoded in ((encoder, [5]), (twin, [5]), (other, [5, 5])):
        took.append(each.keep(Split(), prepared))
        with each.known("train", range(5)):
            each(torch.zeros(5, 3, 32, 32))
        assert passed == encoded
    assert took[0] == took[1] > 0 and took[2] not in (took[0], 0)  # what it took whoever made it
    crops = Split()
    crops.image_set = None
    assert other.keep(crops, prepared) == 0
    with other.known(None, range(5)):  # augmented
        other(torch.zeros(5, 3, 32, 32))
    with other.known("val", range(2)):  # of which nothing is kept
        other(torch.zeros(2, 3, 32, 32))
    assert passed == [5, 5, 5, 2]
    other.load_state_dict(ImageEncoder(SPEC).state_dict())
    assert not other.features
    monkeypatch.setattr(frozen, "FEATURE_LIMIT", 5 * 17 * 32 * 4 - 1)
    assert other.keep(Split(), prepared) == 0
    assert not other.features


# ---- kept on a GPU: tried on the CPU, which takes this way for no run of its own --------------------------------------


@pytest.fixture
def on_gpu(monkeypatch):
    """Batches of two on the way that GPUs take; returns how many images `encode` is given each time."""
    passed: list[int] = []
    real = ImageEncoder.forward
    monkeypatch.setattr(frozen, "CHUNK", 2)

    def encode(self, images):
        passed.append(len(images))
        return real(self, images)

    monkeypatch.setattr(FrozenEncoder, "encode", torch.no_grad()(encode))
    return passed


def test_on_a_gpu_features_are_kept_in_the_precision_they_are_asked_for(on_gpu):
    encoder = encoder_of()
    images = prepared(torch.from_numpy(Split.images).movedim(-1, -3))
    encoder._keep_on_device("train", Split.images, prepared, "bfloat16")
    encoder._keep_on_device("val", Split.images, prepared, "float32")
    assert on_gpu == [2, 2, 1, 2, 2, 1] and encoder.features["train", torch.bfloat16].dtype == torch.bfloat16
    kept = encoder.features["val", torch.float32]
    torch.testing.assert_close(kept, ImageEncoder.forward(encoder, images), rtol=1e-5, atol=1e-5)
    on_gpu.clear()
    with encoder.known("val", [3, 0, 3]):
        assert torch.equal(encoder(images[:3]), kept[[3, 0, 3]])
    with encoder.known("train", [3, 0, 3]), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(images[:3]), encoder.features["train", torch.bfloat16][[3, 0, 3]])
    assert on_gpu == []
    with encoder.known("train", [3, 0, 3]):  # the likelihood of training images is measured in float32
        assert encoder(images[:3]).dtype == torch.float32 and on_gpu == [3]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_training_images_are_kept_in_the_precision_of_training_and_others_in_float32(tmp_path, monkeypatch, device):
    """Whatever device is no CPU stands for a GPU: test images are asked for once, and not kept there."""
    plan = planned(tmp_path, "frozen", common={"encoder_init": "random"})
    config = RunFolder(run_of(plan, "base").folder).read_config()
    config.work_dir, config.optim_wrapper.precision = str(tmp_path), "bfloat16"
    runner = PlainRunner.from_cfg(config)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.model.git.encoder.to(device)
    asked: dict[str, str] = {}
    monkeypatch.setattr(
        FrozenEncoder, "keep", lambda self, data, _, precision: asked.update({data.image_set: precision}) or 0.0
    )
    next(hook for hook in runner.hooks if isinstance(hook, EncoderInitHook)).before_train(runner)
    expected = {"train": "bfloat16", "val": "float32", "test": "float32"}
    assert asked == ({name: expected[name] for name in ("train", "val")} if device == "meta" else expected)


def test_beyond_the_limit_of_bytes_the_first_images_are_kept_and_the_others_alone_encoded(on_gpu, monkeypatch):
    encoder = encoder_of()
    images = prepared(torch.from_numpy(Split.images).movedim(-1, -3))
    monkeypatch.setattr(frozen, "FEATURE_LIMIT", 3 * 17 * 32 * 4)  # three images: one whole batch
    encoder._keep_on_device("train", Split.images, prepared, "float32")
    assert len(encoder.features["train", torch.float32]) == 2
    on_gpu.clear()
    with encoder.known("train", [4, 1, 2, 0]):
        found = encoder(images[[4, 1, 2, 0]])
    assert on_gpu == [2]  # images 4 and 2
    torch.testing.assert_close(found, ImageEncoder.forward(encoder, images[[4, 1, 2, 0]]), rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(frozen, "FEATURE_LIMIT", 0)
    assert encoder._keep_on_device("val", Split.images, prepared, "float32") == 0
    assert ("val", torch.float32) not in encoder.features


def test_features_of_another_encoder_with_equal_values_or_of_other_pixels_are_others(monkeypatch, tmp_path):
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path))
    halved = dataclasses.replace(SPEC, heads=SPEC.heads // 2)
    kept = []
    for spec, prepare in ((SPEC, prepared), (halved, prepared), (SPEC, lambda images: prepared(images) * 2)):
        encoder = FrozenEncoder(spec)
        encoder.load_state_dict(encoder_of().state_dict())
        encoder.keep(Split(), prepare)
        kept.append(encoder.features["train", torch.float32])
    assert len(list(tmp_path.glob("features/*.npy"))) == 3
    assert not any(np.array_equal(kept[0], other) for other in kept[1:])


def test_the_blind_reuse_nothing(tmp_path):
    plan = planned(tmp_path, "frozen")
    model = model_of(plan, vision={"type": "vision/blind", "blind": True})
    losses = [
        model(**model.data_preprocessor(some_batch(plan, rows)), mode="loss")["loss"] for rows in ([0, 1], [0, 1])
    ]
    assert torch.equal(*losses) and not model.git.encoder.features


def frozen_run(folder: Path) -> Path:
    plan = planned(folder, "frozen", train={"iterations": 14, "val_every": 7})
    folder = runs_of(plan)[0].folder
    execute(folder)
    return folder


def test_a_run_with_reuse_equals_one_without_bit_for_bit(tmp_path, monkeypatch):
    with_reuse = frozen_run(tmp_path / "a")
    monkeypatch.setattr(frozen, "FEATURE_LIMIT", 0)
    assert_same_results(with_reuse, frozen_run(tmp_path / "b"))
    curve = read_curve(with_reuse / "curve.csv")
    assert curve[-1][2] < curve[0][2]  # it learns, from the image projection on


def test_the_cost_of_frozen_runs_names_what_their_encoding_took_apart_from_their_own_time(tmp_path, monkeypatch):
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    happened: list[str] = []
    encode, start = FrozenEncoder.encode, CurveHook.before_train
    monkeypatch.setattr(FrozenEncoder, "encode", lambda *given: happened.append("encoded") or encode(*given))
    monkeypatch.setattr(CurveHook, "before_train", lambda *given: happened.append("clock starts") or start(*given))
    study = planned(tmp_path, "frozen", "trained")
    (maker, trained), (finder,) = (
        [run for run in runs_of(each) if run.arm != "blind"][:count]
        for each, count in ((study, 2), (planned(tmp_path, "frozen", train={"lr_decoder": 1e-3}), 1))
    )
    costs = []
    for run in (maker, finder, trained):
        execute(run.folder)
        costs.append(load_json(run.folder / "trained.json")["cost"])
    assert happened == ["encoded"] * 3 + ["clock starts"] * 3  # images of training, validation and test
    assert costs[0]["encode_seconds"] == costs[1]["encode_seconds"] > 0 and "encode_seconds" not in costs[2]
    for note in (tmp_path / "cache" / "features").glob("*.json"):
        note.unlink()
    again = run_of(planned(tmp_path / "again", "frozen"), "base")
    execute(again.folder)
    assert "encode_seconds" not in load_json(again.folder / "trained.json")["cost"]  # not known is not nothing


def test_training_moves_a_trained_encoder_and_not_a_frozen_one(tmp_path):
    plan = planned(tmp_path, "trained", "frozen", data={"crop_scale": (0.6, 1.0)}, common={"encoder_init": "random"})
    for place in (0, 1):
        before = copy.deepcopy(model_of(plan, place).git.state_dict())
        execute(runs_of(plan)[place].folder)
        after = load_run(runs_of(plan)[place].folder)[0].git.state_dict()
        same = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
        encoder = {name for name in before if name.startswith("encoder.")}
        assert encoder <= same if place else not encoder & same - {"encoder.cls_token"}
        assert len(same) <= len(encoder) + 2


@pytest.mark.timeout(240)
def test_a_killed_run_with_a_frozen_pretrained_encoder_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))  # where nothing is pre-trained yet
    train = {"iterations": 30, "checkpoint_every": 0, "val_every": 15}
    quiet, killed = (run_of(planned(tmp_path / name, "frozen", train=train), "base") for name in ("quiet", "killed"))
    assert quiet.key == killed.key
    first = kill_at(killed, 3)  # before the first checkpoint: from the cached encoder again
    assert "pretraining" in first and first == sorted(first)  # "pretraining" before "progress"
    kill_at(killed, 20)
    run_to_end(killed)
    run_to_end(quiet)
    assert_same_results(quiet.folder, killed.folder)


def test_what_is_common_to_all_arms_reaches_the_floor_and_may_not_be_varied(tmp_path):
    plan = planned(tmp_path, "trained", "frozen", common={"encoder_init": "masked"})
    assert {run.spec.variants["encoder_init"].source for run in runs_of(plan)} == {"pretrained"}
    assert run_of(plan, "blind").spec.variants["encoder_init"].recipe.objective == "masked"
    check_ablation(tiny_ablation("encoder_training", "trained", "frozen", common={"encoder_init": "contrastive"}))
    with pytest.raises(GitbenchError, match="'encoder_training' is varied and common at once"):
        check_ablation(tiny_ablation("encoder_training", "trained", "frozen", common={"encoder_training": "frozen"}))
    with pytest.raises(GitbenchError, match="did you mean 'contrastive'"):
        check_ablation(tiny_ablation("encoder_training", "trained", common={"encoder_init": "contrastiv"}))
