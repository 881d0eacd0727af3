"""Contrastive pre-training learns to match images with captions, and its result is the same however it was obtained."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import TINY, tiny_profile

import gitbench.training.contrastive as contrastive
from gitbench.errors import GitbenchError
from gitbench.models.encoder import ImageEncoder
from gitbench.runs.plan import make_plan, write_plan
from gitbench.seeding import derive_seed
from gitbench.spec import Arm, ContrastiveSpec, EncoderSpec
from gitbench.training.contrastive import (
    PairEncoder,
    contrastive_loss,
    pretrain,
    pretrained_encoder,
    pretrained_path,
    set_initial_values,
)
from gitbench.training.data import CaptionData
from gitbench.training.model import ImagePreprocessor
from gitbench.training.run import execute

SPEC = EncoderSpec(width=32, layers=2, heads=2, patch=8, image_size=32)
RECIPE = ContrastiveSpec(iterations=6, batch_images=8, lr=2e-3, warmup=2, width=32, layers=1, embedding=16)
CPU = torch.device("cpu")


def pixels(images: torch.Tensor) -> torch.Tensor:
    return ImagePreprocessor()({"images": images})["images"]


@pytest.fixture(scope="module")
def dataset() -> CaptionData:
    data = {"image_size": 32, "train_images": 24, "val_images": 2, "test_images": 2}
    text = {"tokenizer": "wordpiece", "vocab_size": 300, "max_tokens": 20}
    return CaptionData(data="scenes", split="train", data_spec=data, text_spec=text, seed=1, captions_per_image=None)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(contrastive, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "encoders"


def obtain(dataset: CaptionData, seed: int = 0, recipe: ContrastiveSpec = RECIPE):
    return pretrained_encoder(SPEC, recipe, dataset, seed, CPU, pixels)


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_loss_is_infonce_in_both_directions():
    similarities = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-2))) / 2
    columns = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-3))) / 2
    assert contrastive_loss(similarities).item() == pytest.approx((rows + columns) / 2)
    assert contrastive_loss(torch.zeros(7, 7)).item() == pytest.approx(math.log(7))


def test_it_learns_to_find_the_caption_of_an_image(dataset):
    recipe = dataclasses.replace(RECIPE, iterations=120, warmup=10, batch_images=12)
    made = pretrain(SPEC, recipe, dataset, 0, CPU, pixels)
    assert len(made.losses) == len(made.accuracies) == 120
    assert sum(made.losses[-10:]) / 10 < 0.6 * math.log(12) < sum(made.losses[:5]) / 5
    assert sum(made.accuracies[-10:]) / 10 > 4 / 12  # chance is 1 in 12
    ImageEncoder(SPEC).load_state_dict(made.state)


def test_padding_and_later_tokens_do_not_reach_a_caption():
    model = PairEncoder(SPEC, RECIPE, 50, 12, eos_id=3)
    set_initial_values(model, 0)
    short = torch.tensor([[2, 7, 8, 3]])
    padded = torch.tensor([[2, 7, 8, 3, 0, 0, 0]])
    torch.testing.assert_close(model.text(short), model.text(padded))
    assert not torch.allclose(model.text(short), model.text(torch.tensor([[2, 8, 7, 3]])))


def test_initial_values_are_those_of_name_and_seed():
    one, same, other = (PairEncoder(SPEC, RECIPE, 50, 12, eos_id=3) for _ in range(3))
    for model, seed in ((one, 5), (same, 5), (other, 6)):
        set_initial_values(model, seed)
    assert equal(one.state_dict(), same.state_dict()) and not equal(one.state_dict(), other.state_dict())
    assert one.scale.exp().item() == pytest.approx(1 / RECIPE.temperature)


def test_made_and_loaded_are_the_same_bits_and_the_global_generator_is_left_alone(dataset, cache, monkeypatch):
    state = torch.get_rng_state()
    made = obtain(dataset)
    assert torch.equal(torch.get_rng_state(), state)
    (file,) = cache.glob("*.pth")
    assert pretrained_path(SPEC, RECIPE, dataset, 0, CPU) == file
    real = contrastive.pretrain
    monkeypatch.setattr(contrastive, "pretrain", lambda *_: pytest.fail("made twice"))
    assert equal(obtain(dataset).state, made.state)
    monkeypatch.setattr(contrastive, "pretrain", real)
    file.unlink()
    torch.manual_seed(99)
    assert equal(obtain(dataset).state, made.state)


def test_a_damaged_file_is_made_again(dataset, cache):
    made = obtain(dataset)
    (file,) = cache.glob("*.pth")
    whole = file.read_bytes()
    for damage in (whole[:500], whole[:-20], b"", b"not torch"):
        file.write_bytes(damage)
        assert equal(obtain(dataset).state, made.state)
    torch.save({"something": "else"}, file)
    assert equal(obtain(dataset).state, made.state)


def test_a_cache_that_cannot_be_written_costs_time_only(dataset, cache):
    made = obtain(dataset)
    for file in cache.iterdir():
        file.unlink()
    cache.rmdir()
    cache.write_text("a file in the way")
    assert equal(obtain(dataset).state, made.state)


def test_seed_recipe_encoder_data_and_device_each_decide_the_file(dataset):
    base = pretrained_path(SPEC, RECIPE, dataset, 0, CPU)
    fewer = CaptionData(
        data="scenes", split="train", seed=1, captions_per_image=None, text_spec=dataclasses.asdict(dataset.text_spec),
        data_spec={"image_size": 32, "train_images": 20, "vocabulary_images": 24, "val_images": 2, "test_images": 2},
    )  # fmt: skip
    others = [
        pretrained_path(SPEC, RECIPE, dataset, 1, CPU),
        pretrained_path(SPEC, dataclasses.replace(RECIPE, lr=1e-3), dataset, 0, CPU),
        pretrained_path(dataclasses.replace(SPEC, layers=3), RECIPE, dataset, 0, CPU),
        pretrained_path(SPEC, RECIPE, fewer, 0, CPU),
    ]
    assert len({base, *others}) == 5
    assert not equal(obtain(dataset, seed=0).state, obtain(dataset, seed=1).state)


def test_batches_hold_each_image_once_and_never_span_two_epochs():
    recipe = dataclasses.replace(RECIPE, iterations=5, batch_images=4)
    assert list(contrastive._batches(10, recipe)) == [
        [0, 1, 2, 3], [4, 5, 6, 7], [10, 11, 12, 13], [14, 15, 16, 17], [20, 21, 22, 23],
    ]  # fmt: skip
    assert list(contrastive._batches(3, recipe))[1] == [3, 4, 5]
    with pytest.raises(GitbenchError, match="at least 2 training images"):
        list(contrastive._batches(1, recipe))


def test_a_run_starts_from_the_pretrained_encoder_of_its_replicate(tmp_path, cache, monkeypatch):
    arms = (
        Arm(name="base", variants={"encoder_init": "random"}),
        Arm(name="contrastive", variants={"encoder_init": "contrastive"}),
    )
    ablation = dataclasses.replace(TINY, axis="encoder_init", arms={"smoke": arms})
    plan = make_plan(ablation, tiny_profile(iterations=2), "scenes", tmp_path / "w", replicates=2)
    write_plan(plan, "test")
    started = {}
    real = torch.optim.AdamW.step

    def step(optimizer, *arguments):
        names = {group.get("name") for group in optimizer.param_groups}
        if "encoder" in names and current not in started:
            group = next(group for group in optimizer.param_groups if group["name"] == "encoder")
            started[current] = [parameter.detach().clone() for parameter in group["params"]]
        return real(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    for run in plan.runs:
        if run.arm.role == "arm":
            current = (run.arm.name, run.replicate)
            execute(run.folder)
    assert len(list(cache.glob("*.pth"))) == 2  # one a replicate
    for replicate in (0, 1):
        run = next(r for r in plan.runs if r.arm.name == "contrastive" and r.replicate == replicate)
        values = dataclasses.asdict(run.spec.data)
        values.pop("workers")
        data = CaptionData(
            data="scenes", split="train", data_spec=values, text_spec=dataclasses.asdict(run.spec.text), seed=0,
            captions_per_image=None,
        )  # fmt: skip
        recipe = run.spec.encoder_init.recipe
        path = pretrained_path(run.spec.encoder, recipe, data, derive_seed("contrastive", replicate), CPU)
        assert path.is_file()
        kept = {t.numpy().tobytes() for t in contrastive._load(path).state.values()}
        assert all(t.numpy().tobytes() in kept for t in started["contrastive", replicate])
        assert not any(t.numpy().tobytes() in kept for t in started["base", replicate])


def _die_while_saving(dataset: CaptionData, folder: str) -> None:
    contrastive.cache_dir = lambda: Path(folder)  # type: ignore[assignment]

    def killed(*_) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    contrastive._save = killed  # type: ignore[assignment]
    torch.set_num_threads(1)
    obtain(dataset)


def test_a_process_killed_in_the_middle_leaves_nothing_that_counts(dataset, cache, tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=_die_while_saving, args=(dataset, str(tmp_path / "cache"))
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and not [p for p in cache.glob("contrastive-*.pth")]
    assert len(obtain(dataset).losses) == RECIPE.iterations and len(list(cache.glob("contrastive-*.pth"))) == 1
