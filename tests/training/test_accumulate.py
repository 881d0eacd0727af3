"""Steps that take less memory: in parts whose gradients are added, and with blocks that are computed again."""

from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_errors import refused
from helpers_model import DECODER, both_attentions, gradients, pictures, ragged, tiny
from helpers_study import Run, make_study, run_of, tiny_profile, write_configs
from torch import Tensor

from gitbench.launch import work as work_module
from gitbench.launch.state import read_state
from gitbench.models.git import GIT
from gitbench.models.packed import pack
from gitbench.models.recompute import set_checkpointing
from gitbench.spec import Compute
from gitbench.training import run as training
from gitbench.training.accumulate import parts_of, step_in_parts
from gitbench.training.run import execute
from gitbench.variants.vision import VisionSpec

IMAGES, TEXTS = 8, 3


def batch_of(everywhere: bool = False) -> dict[str, Any]:
    """Images with texts of different lengths, as `caption_collate` gives them."""
    tokens, need = ragged(IMAGES * TEXTS, 12)
    return {
        "images": pictures(IMAGES, 3, 32, 32).double(),
        "tokens": tokens.view(IMAGES, TEXTS, -1),
        "texts": pack(tokens, need, IMAGES, 0, 16, everywhere),
        "image_ids": [str(i) for i in range(IMAGES)],
        "indices": list(range(IMAGES)),
        "image_set": "train",
    }


class Model:
    """Does what `CaptionModel` does with a batch of a step."""

    def __init__(self, git: GIT) -> None:
        self.git = git

    def data_preprocessor(self, batch: dict[str, Any], training: bool) -> dict[str, Any]:
        return batch

    def __call__(self, images: Tensor, texts: Any, mode: str, **_: Any) -> dict[str, Tensor]:
        return {"loss": self.git.packed_loss(self.git.image_memory(images), texts)}


class Wrapper:
    """Keeps the gradient that a step would be taken with."""

    def __init__(self, git: GIT) -> None:
        self.git, self.steps = git, 0

    def optim_context(self, _: object) -> Any:
        return torch.enable_grad()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self) -> None:
        self.steps += 1
        self.gradients = gradients(self.git)

    def zero_grad(self) -> None:
        self.git.zero_grad()


@both_attentions
@pytest.mark.parametrize("images", [1, 3, 8])
@pytest.mark.parametrize("options", [{}, {"everywhere": True}, {"vision": VisionSpec(blind=True)}], ids=str)
def test_the_gradient_in_parts_is_that_of_the_whole_batch(attention, images, options):
    batch = batch_of(options.pop("everywhere", False))
    git = tiny(attention=attention, **options).double()
    whole = git.packed_loss(git.image_memory(batch["images"]), batch["texts"])
    whole.backward()
    expected = gradients(git)
    git.zero_grad()
    wrapper = Wrapper(git)
    found = step_in_parts(Model(git), wrapper, batch, images)  # type: ignore[arg-type]
    assert wrapper.steps == 1 and found["loss"].item() == pytest.approx(whole.item(), rel=1e-13)
    largest = max(float(each.abs().max()) for each in expected.values())
    for name, gradient in wrapper.gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-12 * largest, msg=name)


def test_parts_have_all_of_a_batch_in_order():
    batch = batch_of()
    parts = list(parts_of(batch, 3))
    assert [part["indices"] for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert {part["image_set"] for part in parts} == {"train"}
    assert torch.equal(torch.cat([part["images"] for part in parts]), batch["images"])
    assert torch.equal(torch.cat([part["texts"].targets for part in parts]), batch["texts"].targets)


@both_attentions
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_checkpointed_gradients_have_the_same_bits_and_blocks_are_computed_twice(attention, precision):
    batch, calls = batch_of(), []
    git = tiny(attention=attention)
    for part in git.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.1
    git.decoder.spec = dataclasses.replace(DECODER, attention=attention, dropout=0.1)
    git.train()
    for block in (*git.encoder.blocks, *(layer.up for layer in git.decoder.layers)):
        block.register_forward_pre_hook(lambda *_: calls.append(1))

    def step() -> tuple[dict[str, Tensor], int]:
        calls.clear()
        git.zero_grad()
        torch.manual_seed(7)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = git.packed_loss(git.image_memory(batch["images"].float()), batch["texts"])
        loss.backward()
        return gradients(git), len(calls)

    plain, once = step()
    again, _ = step()
    set_checkpointing(git)
    found, twice = step()
    assert twice == 2 * once
    assert all(torch.equal(again[name], plain[name]) for name in plain)
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    assert any(each.abs().max() > 0 for each in plain.values())


def executed(folder: Path, compute: Compute) -> Run:
    study = make_study(folder, profile=tiny_profile(iterations=4), compute=compute)
    write_configs(study)
    run = run_of(study, "base")
    execute(run.folder)
    return run


def weights(run: Run) -> dict[str, Tensor]:
    return torch.load(run.folder / "model.pth", weights_only=True)["state_dict"]


def test_a_run_is_trained_so(tmp_path):
    """Checkpointing changes no bit and no key; parts of 3 and 1 images change both, by rounding (there is no dropout)."""
    plain = executed(tmp_path / "plain", Compute())
    checked = executed(tmp_path / "checked", Compute(checkpointing=True))
    parts = executed(tmp_path / "parts", Compute(micro_batch=3))
    assert plain.key == checked.key != parts.key
    assert plain.spec.variants["decoder"].dropout == 0
    expected, same, near = (weights(run) for run in (plain, checked, parts))
    assert all(torch.equal(same[name], each) for name, each in expected.items())
    assert not all(torch.equal(near[name], each) for name, each in expected.items())
    keys = [name for name in expected if "qkv.bias" in name]  # of biases of keys the gradient is rounding alone
    for name, each in expected.items():
        if name not in keys:
            np.testing.assert_allclose(near[name], each, rtol=0, atol=2e-4, err_msg=name)


def test_the_number_of_images_at_a_time_is_in_the_name_and_more_than_a_batch_is_refused(tmp_path):
    study = make_study(tmp_path, compute=Compute(micro_batch=2))
    assert study.name.endswith("+micro-2")
    with refused("--micro-batch 4: a step has 4 images: use fewer, or leave it out"):
        make_study(tmp_path, compute=Compute(micro_batch=4))


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (
            Compute(),
            r"step 1 of training: 4 images at a time .* plan it with --micro-batch 2 \(half of that\) or --check",
        ),
        (
            Compute(micro_batch=2, checkpointing=True),
            r"2 images at a time .* plan it with --micro-batch 1 \(half of that\)$",
        ),
        (
            Compute(micro_batch=1, checkpointing=True),
            r"1 images at a time .*: use a smaller image size, or a larger card",
        ),
    ],
)
def test_a_step_that_does_not_fit_into_memory_is_one_line(tmp_path, monkeypatch, compute, said):
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(GIT, "packed_loss", full)
    with refused(said):
        executed(tmp_path, compute)


def test_its_worker_adds_what_fits_by_formula(tmp_path, monkeypatch):
    """The run computes on the CPU, and takes it for a card."""
    study = make_study(tmp_path, profile=tiny_profile(iterations=4, batch_images=24))
    write_configs(study)
    run = run_of(study, "base")
    monkeypatch.setattr(GIT, "packed_loss", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("")))
    monkeypatch.setattr(training, "described", lambda: {"name": "Small card", "memory_bytes": int(0.66 * 2**30)})
    with multiprocessing.get_context("fork").Pool(1) as pool:  # whose output goes to the log
        assert pool.apply(work_module.work, (run.folder,)) == work_module.REFUSED
    said = read_state(run.folder).values[0]
    assert (
        "24 images at a time do not fit into the memory of Small card (0.7 GiB): plan it with --micro-batch 12" in said
    )
    assert "by formula" in said and "\n" not in said
