"""Every check of what is right fails where something is wrong: each is given a broken system, and a sound one."""

from __future__ import annotations

import copy
import dataclasses
import random
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from gitbench.bench.program import Batch, shared_model, training_batch
from gitbench.gpu_check.checks import agree, attention, repeat
from gitbench.gpu_check.sizes import Setting, arms, config_of, write_run
from gitbench.models.packed import PackedTexts, pack
from gitbench.spec import Compute
from gitbench.training.caption_model import CaptionModel

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("as_before")


def test_on_a_card_the_runs_are_those_of_the_gpu_profile(monkeypatch, tmp_path):
    setting = Setting(device="cuda", folder=str(tmp_path))
    monkeypatch.setattr("gitbench.compute.gpus", lambda: ())
    assert set(arms(setting)) == {"tiny", "small", "base", "deep", "large", "blind"}
    assert setting.compute == Compute(device="cuda", precision="bfloat16")
    profile = setting.profile
    assert (profile.train.batch_images, profile.data.image_size, profile.data.train_images) == (64, 128, 1280)
    assert not profile.on_scenes  # encoders start from random values: nothing has to be pre-trained


# ---- the same bits twice -----------------------------------------------------------------------------------------


def small(setting: Setting, monkeypatch, short) -> Config:
    """Cut what is repeated down to three steps."""
    monkeypatch.setattr(repeat, "STEPS", 3)
    return short(setting)


def test_a_run_gives_the_same_bits_twice(setting, report, monkeypatch, short):
    config = small(setting, monkeypatch, short)
    repeat.judge_twice(report, "base", lambda: repeat.trained(config))
    assert report.passed == ["base: 3 training steps", "base: validation", "base: captions"] and not report.failed


def test_a_loss_that_differs_from_time_to_time_is_found(setting, report, monkeypatch, short):
    config, forward = small(setting, monkeypatch, short), CaptionModel.forward

    def uncertain(self, *args, mode, **kwargs):  # type: ignore[no-untyped-def]
        found = forward(self, *args, mode=mode, **kwargs)
        return {"loss": found["loss"] * (1 + 1e-3 * random.SystemRandom().random())} if mode == "loss" else found

    monkeypatch.setattr(CaptionModel, "forward", uncertain)
    repeat.judge_twice(report, "base", lambda: repeat.trained(config))
    assert "base: 3 training steps" in report.failed


def test_captions_that_differ_and_results_that_are_missing_are_found(report):
    times = iter([{"captions": [1.0], "validation": [2.0]}, {"captions": [1.5]}])
    repeat.judge_twice(report, "base", lambda: next(times))
    assert report.failed == ["base: captions", "base: validation"]


def test_an_operation_that_strict_mode_refuses_is_a_failure_in_one_line(report):
    def refusing():
        raise RuntimeError("upsample_bicubic2d_backward_out_cuda does not have a deterministic implementation")

    repeat.judge_twice(report, "base", refusing)
    assert report.failed == ["base"] and "does not have a deterministic" in report.found["base"].said


# ---- GPU against CPU ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    """The model that is compared, of the smoke profile's sizes."""
    setting = Setting(device="cpu", folder="")
    return shared_model(agree.shape_of(setting), CPU)


def compared(report, setting, here, there) -> list[str]:
    agree.compare(report, "base", here, there, setting)
    return report.failed


def test_the_same_model_agrees_with_itself(report, setting, model):
    assert compared(report, setting, model, copy.deepcopy(model)) == [] and len(report.passed) == 6


def test_a_weight_that_differs_is_found(report, setting, model):
    there = copy.deepcopy(model)
    with torch.no_grad():
        there.decoder.layers[0].qkv.bias[-1] += 0.01
    assert {"base: logits", "base: gradients"} <= set(compared(report, setting, model, there))


def test_a_gradient_that_differs_is_found_with_its_tensor(report, setting, model):
    there = copy.deepcopy(model)
    there.embedding.positions.weight.register_hook(lambda gradient: gradient * 1.001)
    assert compared(report, setting, model, there) == ["base: gradients"]
    assert report.found["base: gradients"].said == "furthest: embedding.positions.weight"


def test_a_gradient_that_is_missing_is_found(report, setting, model):
    there = copy.deepcopy(model)
    there.projection.requires_grad_(False)
    assert compared(report, setting, model, there) == ["base: gradients"]


def test_texts_that_differ_are_found(report, setting, model):
    there = copy.deepcopy(model)
    generate = there.generate

    def other(images, **options):  # type: ignore[no-untyped-def]
        sequences, scores = generate(images, **options)
        sequences[0, 1] += 1
        return sequences, scores

    there.generate = other
    assert compared(report, setting, model, there) == ["base: texts of beam search"]


def no_image(batch: Batch) -> Batch:
    return dataclasses.replace(batch, images=torch.zeros_like(batch.images))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_itself_passes(report, model, precision):
    batch = training_batch(agree.shape_of(Setting(device="cpu", folder="")), "captions", agree.CAPTIONS, CPU)
    with torch.no_grad():
        right = agree.loss_of(model, batch)
        with torch.autocast("cpu", getattr(torch, precision)):
            assert agree.apart(right, agree.loss_of(model, batch).float()) < agree.LOW / 2


def test_a_model_that_is_shown_no_image_in_low_precision_is_found(report, setting, model, monkeypatch):
    there, loss = copy.deepcopy(model), agree.loss_of
    calls = []

    def last_is_blind(model, batch):  # type: ignore[no-untyped-def]
        calls.append(model)
        return loss(model, no_image(batch) if len(calls) == 3 else batch)

    monkeypatch.setattr(agree, "loss_of", last_is_blind)
    assert compared(report, setting, model, there) == ["base: loss in float32"] and len(calls) == 3


def test_weights_that_are_rounded_to_8_bits_are_found(report, setting, model):
    there = copy.deepcopy(model)
    with torch.no_grad():
        for weight in there.parameters():
            weight.copy_(weight.to(torch.float8_e5m2))
    assert "base: loss in float32" in compared(report, setting, model, there)


def test_what_is_no_number_is_infinitely_far():
    right = torch.ones(3)
    assert agree.apart(right, torch.full((3,), torch.nan)) == agree.apart(right, torch.ones(4)) == float("inf")
    assert agree.apart(right, right) == 0


# ---- attention ---------------------------------------------------------------------------------------------------

FLASH, EFFICIENT = "aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_efficient_attention"


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        ({FLASH: 8, EFFICIENT: 6, f"{EFFICIENT}_backward": 6, "aten::mm": 9}, "12 efficient, 8 flash"),
        ({EFFICIENT: 6, "aten::_scaled_dot_product_cudnn_attention": 1}, "1 cudnn, 6 efficient"),
        ({FLASH: 8, "aten::_scaled_dot_product_attention_math": 2}, "8 flash, 2 written out"),
        ({"aten::_scaled_dot_product_new_attention": 2}, "2 aten::_scaled_dot_product_new_attention"),
        ({"aten::mm": 3}, "none"),
    ],
)
def test_attention_other_than_flash_and_efficient_is_found(report, calls, told):
    attention.judge(report, "training", attention.ways(calls))
    assert bool(report.passed) == (told == "12 efficient, 8 flash") and report.found["training"].value == told


def test_a_step_and_captions_are_looked_at_and_lengths_that_are_slow_at_first_are_found(
    report, setting, monkeypatch, short
):
    """On a CPU attention is a CPU's, which is told as such; time is made up."""
    times, taken = iter([9.0, 1.0]), []
    monkeypatch.setattr(attention, "config_of", short)
    monkeypatch.setattr(attention, "once", lambda call: taken.append(call) or next(times))
    attention.check(setting, report)
    assert "training, self-attention" in report.found and "likelihood and captions, cross-attention" in report.found
    assert "flash" in str(report.found["training, self-attention"].value)
    assert (
        len(taken) == 2 and report.failed == ["a new length costs"] and report.found["a new length costs"].value == 0.4
    )


def test_new_lengths_come_in_the_form_in_which_a_card_gets_them(report, monkeypatch):
    """As a GPU's loader packs them: no token is picked out, so that all shapes follow from the length."""
    taken: list[PackedTexts] = []
    monkeypatch.setattr(attention, "take_step", lambda runner, batch: taken.append(batch["texts"]))
    tokens = torch.randint(1, 20, (2, 3, 6))
    marked = torch.ones_like(tokens)
    first = pack(tokens.view(6, 6), marked.view(6, 6), 2, 0, everywhere=True)
    model = SimpleNamespace(git=SimpleNamespace(pad_id=0), parameters=lambda: iter([tokens]))
    batch = {"tokens": tokens, "need_predict": marked, "texts": first}
    attention.new_lengths(SimpleNamespace(model=model), batch, report)  # type: ignore[arg-type]
    new = taken[-attention.LENGTHS :]
    assert [texts.tokens.shape[1] for texts in new] == list(range(16, 16 + attention.LENGTHS))
    assert all(texts.places is None and texts.targets.shape == (texts.tokens.numel(),) for texts in new)


# ---- the runs ----------------------------------------------------------------------------------------------------


def test_runs_of_the_proof_are_run_folders(setting, tmp_path):
    run = write_run(tmp_path / "run", config_of(setting, {"encoder_training": "frozen"}, iterations=5))
    read = run.read_config()
    assert read.train_cfg.max_iters == 5 and read.model.encoder_training.frozen
