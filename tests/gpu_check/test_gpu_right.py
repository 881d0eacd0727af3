"""Every check of what is right fails where something is wrong: each is given a broken system, and a sound one."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys

import pytest
import torch
from helpers_errors import refused

from gitbench.bench.program import shared_model
from gitbench.gpu_check import watched
from gitbench.gpu_check.checks import agree, attention, card, repeat, resume, uuid
from gitbench.gpu_check.sizes import Setting, arms, config_of, write_run
from gitbench.gpu_check.watched import Peak
from gitbench.launch.work import DONE, FAULT
from gitbench.machine import Gpu
from gitbench.run_folder import RunFolder
from gitbench.spec import Compute
from gitbench.study.memory import CONTEXT_GIB, FRAGMENTATION
from gitbench.training.caption_model import CaptionModel

CPU = torch.device("cpu")
GIB = 2**30

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


def small(setting: Setting, monkeypatch):
    """Cut what is repeated down to three steps."""
    monkeypatch.setattr(repeat, "STEPS", 3)
    return config_of(setting)


def test_a_run_gives_the_same_bits_twice(setting, report, monkeypatch):
    config = small(setting, monkeypatch)
    repeat.judge_twice(report, "base", lambda: repeat.trained(config))
    assert report.passed == ["base: 3 training steps", "base: validation", "base: captions"] and not report.failed


def test_a_loss_that_differs_from_time_to_time_is_found(setting, report, monkeypatch):
    config, forward = small(setting, monkeypatch), CaptionModel.forward

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


def test_a_step_and_captions_are_looked_at_and_lengths_that_are_slow_at_first_are_found(report, setting, monkeypatch):
    """On a CPU attention is a CPU's, which is told as such; time is made up."""
    times, taken = iter([9.0, 1.0]), []
    monkeypatch.setattr(attention, "once", lambda call: taken.append(call) or next(times))
    attention.check(setting, report)
    assert "training, self-attention" in report.found and "likelihood and captions, cross-attention" in report.found
    assert "flash" in str(report.found["training, self-attention"].value)
    assert (
        len(taken) == 2 and report.failed == ["a new length costs"] and report.found["a new length costs"].value == 0.4
    )


# ---- a run that is killed, and its memory ------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path) -> tuple[RunFolder, RunFolder]:
    """Two finished runs that left the same."""
    runs = []
    for name in ("quiet", "killed"):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        torch.save({"state_dict": {"a": torch.ones(2), "b": torch.zeros(2)}}, run.weights)
        run.predictions.write_text("{}\n")
        run.curve.write_text("iteration\n")
        runs.append(run)
    return runs[0], runs[1]


def test_runs_that_left_the_same_are_the_same(report, pair):
    resume.compare(report, *pair)
    assert report.passed == ["weights", "predictions.jsonl", "curve.csv"] and not report.failed


def test_a_weight_that_a_stop_has_changed_is_found(report, pair):
    torch.save({"state_dict": {"a": torch.ones(2), "b": torch.tensor([0.0, 1e-30])}}, pair[1].weights)
    pair[1].curve.write_text("iteration\n1\n")
    resume.compare(report, *pair)
    assert report.failed == ["weights", "curve.csv"] and report.found["weights"].said == "b"


def test_a_run_that_is_lost_is_found(report, pair):
    pair[1].predictions.unlink()
    with report.part("weights and captions"):
        resume.compare(report, *pair)
    assert report.failed == ["weights and captions"]


def test_a_run_that_ends_before_it_can_be_killed_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "start", lambda folder: subprocess.Popen([sys.executable, "-c", "pass"]))
    with refused("it ended before it could be killed"):
        resume.kill_at(RunFolder(tmp_path), 10)


@pytest.mark.parametrize(
    ("recorded", "taken", "failed"),
    [
        (5.0, 5.2 + CONTEXT_GIB, []),
        (0.9, 0.9 * FRAGMENTATION, ["the recorded peak of memory"]),  # mmengine had reset it
        (5.0, 7.0, ["the run takes of the card"]),  # more than is set aside
    ],
)
def test_memory_that_is_recorded_or_planned_wrong_is_found(report, recorded, taken, failed):
    resume.judge_memory(
        report, round(recorded * GIB), peak=5 * GIB, reserved=5 * GIB, taken=round(taken * GIB), alone=True
    )
    assert report.failed == failed


def test_beside_other_processes_what_the_card_gave_out_is_not_judged(report):
    resume.judge_memory(report, 5 * GIB, peak=5 * GIB, reserved=5 * GIB, taken=70 * GIB, alone=False)
    assert report.passed == ["the recorded peak of memory"] and not report.failed
    assert report.found["the run takes of the card"].absent


def test_the_true_peak_is_seen_whoever_resets_torchs(monkeypatch):
    held = [5]

    def reset(device: int) -> None:
        held[0] = 1

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *_: held[0])
    monkeypatch.setattr(torch._C, "_cuda_resetPeakMemoryStats", reset, raising=False)
    peak = Peak()
    torch._C._cuda_resetPeakMemoryStats(0)
    held[0] = 3
    assert torch.cuda.max_memory_allocated() == 3 and peak.bytes == 5


def test_a_worker_is_watched_to_its_end(tmp_path, monkeypatch):
    """What it held at its most: 3 GiB of tensors, 4 reserved, and beside them half a GiB that the card gave out."""
    held = {"max_memory_allocated": 3, "max_memory_reserved": 4, "memory_reserved": 2}
    for name, gib in held.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, gib=gib: gib * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (round(77.5 * GIB), 80 * GIB))
    monkeypatch.setattr(torch._C, "_cuda_resetPeakMemoryStats", lambda device: None, raising=False)
    monkeypatch.setattr(watched, "end_with_parent", lambda parent: None)
    monkeypatch.setattr(watched, "work", lambda folder, every: DONE)
    assert watched.main(tmp_path) == DONE
    found = json.loads((tmp_path / "watched.json").read_text())
    assert found == {"peak": 3 * GIB, "reserved": 4 * GIB, "taken": round(4.5 * GIB)}


# ---- the card ----------------------------------------------------------------------------------------------------

H100 = Gpu(uuid="GPU-0a1b", name="H100", free_gib=79.0, total_gib=80.0, capability=(9, 0))


@pytest.mark.parametrize(
    ("name", "uuid_found", "status", "right"),
    [
        ("H100", "0a1b", DONE, True),
        ("H100", "ffff", DONE, False),  # another card of the same kind
        ("H100", "", DONE, False),
        ("cpu", "", DONE, False),
        ("H100", "0a1b", FAULT, False),
    ],
)
def test_a_worker_on_another_card_is_found(report, tmp_path, name, uuid_found, status, right):
    run = RunFolder(tmp_path)
    run.trained.write_text(json.dumps({"device": {"name": name, "uuid": uuid_found}}))
    run.predictions.write_text("{}\n")
    uuid.judge(report, "the first card", H100, run, status)
    assert bool(report.passed) == right and bool(report.failed) != right


def test_a_worker_that_left_nothing_is_found(report, tmp_path):
    uuid.judge(report, "the first card", H100, RunFolder(tmp_path / "none"), DONE)
    assert report.failed == ["the first card"]


@pytest.mark.parametrize(("seen", "right"), [("0a1b", True), ("ffff", False)])
def test_another_card_than_gitbench_sees_is_found(report, monkeypatch, seen, right):
    described = {"name": "H100", "uuid": seen, "memory_bytes": 80 * GIB, "capability": "9.0"}
    monkeypatch.setattr(card, "described", lambda: described)
    monkeypatch.setattr(card, "gpus", lambda: (H100,))
    card._card(report)
    assert bool(report.passed) == right and report.found["precision in which it trains"].value == "bfloat16"


def test_rates_are_measured(monkeypatch):
    monkeypatch.setattr(card, "SIZE", 32)
    monkeypatch.setattr(card, "COPIED", 2**16)
    assert 1e5 < card.matrix_rate("float32", "cpu") < 1e15 and 1e5 < card.copy_rate("cpu") < 1e15


def test_a_slice_and_a_card_are_known_by_their_uuids():
    assert card.same_card("MIG-dd-11", "dd-11") and card.same_card("GPU-aa", "GPU-aa")
    assert not card.same_card("GPU-aa", "ab") and not card.same_card("GPU-", "")


def test_runs_of_the_proof_are_run_folders(setting, tmp_path):
    run = write_run(tmp_path / "run", config_of(setting, {"encoder_training": "frozen"}, iterations=5))
    read = run.read_config()
    assert read.train_cfg.max_iters == 5 and read.model.encoder_training.frozen
