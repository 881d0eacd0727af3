"""Every check of what is fast fails where something is slow; what profiles tell is read right."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from gitbench.bench.workloads import SHAPES
from gitbench.gpu_check.checks import arms, peers, waiting
from gitbench.gpu_check.sizes import config_of
from gitbench.gpu_check.steps import MARK, Profiled, Steps, covered, measure_steps, seen
from gitbench.profiles import GPU

pytestmark = pytest.mark.usefixtures("as_before")


# ---- profiles ----------------------------------------------------------------------------------------------------


def event(name: str, start: float, end: float, device: DeviceType = DeviceType.CPU, children: tuple = (), **more):
    time = SimpleNamespace(start=start, end=end)
    return SimpleNamespace(name=name, time_range=time, device_type=device, cpu_children=list(children), **more)


def test_a_profile_is_read_within_its_mark():
    cuda, inner = DeviceType.CUDA, event("aten::addmm", 12, 14)
    found = seen(
        [
            event(MARK, 10, 100),
            event("aten::linear", 11, 15, children=(inner,)),
            inner,
            event("aten::mm", 5, 6),  # before
            event("cudaLaunchKernel", 12, 13),
            event("cudaStreamSynchronize", 50, 60),
            event("cudaDeviceSynchronize", 120, 130),  # the profiler's own
            event(MARK, 10, 100, cuda, is_user_annotation=True),
            event("gemm", 20, 30, cuda),
            event("copy", 25, 40, cuda),
            event("gemm", 60, 70, cuda),
        ]
    )
    assert found.calls == {"aten::linear": 1, "aten::addmm": 1} and found.lowest == 1
    assert found.kernels == 3 and found.busy == pytest.approx(30e-6) and found.waits == {"cudaStreamSynchronize": 1}
    assert covered([]) == 0 and covered([(3, 4), (0, 10), (9, 12)]) == 12


def test_steps_of_a_run_are_timed_and_profiled(setting):
    found = measure_steps(config_of(setting, iterations=2, warmup=1), seconds=0.05, profiled=2, warm=1)
    assert found.per_second > 0 and found.profiled == 2
    assert found.seen.lowest > 500 and found.seen.calls["aten::addmm"] > 0 and not found.seen.waits


def test_a_card_that_no_profile_shows_at_work_is_found(report):
    found = Steps(per_second=50.0, profiled=5, seen=Profiled(calls=Counter({"aten::_to_copy": 100}), lowest=600))
    arms.tell(report, "base", found, on_card=True)
    assert report.failed == ["base: what the card does was seen"]
    busy = dataclasses.replace(found, seen=dataclasses.replace(found.seen, kernels=4000, busy=0.05))
    arms.tell(report, "large", busy, on_card=True)
    assert (
        report.failed == ["base: what the card does was seen"] and report.found["large: the card is busy"].value == 50.0
    )
    assert report.found["large: calls a step"].value == 120 and "20 of them" in report.found["large: calls a step"].said


# ---- waiting -----------------------------------------------------------------------------------------------------


def waited(count: int) -> Steps:
    return Steps(per_second=50.0, profiled=40, seen=Profiled(waits=Counter({"cudaStreamSynchronize": count})))


def test_a_host_that_waits_more_than_once_in_ten_steps_is_found(report):
    waiting.judge_training(report, waited(4))
    assert report.passed == ["waits in 40 training steps"]
    waiting.judge_training(report, waited(5))
    assert report.failed == ["waits in 40 training steps"]
    assert report.found["waits in 40 training steps"].said == "5 cudaStreamSynchronize"


def test_it_may_wait_once_for_each_point_of_the_curve(setting):
    config = config_of(setting, iterations=GPU.train.iterations)
    (curve,) = [hook for hook in config.custom_hooks if hook.type == "CurveHook"]
    assert waiting.STEPS == waiting.MOST * curve.interval < config.default_hooks.logger.interval


@pytest.mark.parametrize(
    ("waits", "right"), [({12: 3, 28: 3}, True), ({12: 14, 28: 30}, False), ({12: 3, 28: 4}, False)]
)
def test_a_search_that_waits_for_tokens_is_found(report, waits, right):
    waiting.judge_search(report, waits)
    assert bool(report.passed) == right


def test_places_that_wait_are_told_by_file_and_line():
    def do() -> None:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)

    ((place, count),) = waiting.told_of(do).items()
    assert count == 3 and place.startswith("gpu_check/test_gpu_fast.py/")


def test_training_search_and_captions_are_looked_at(report, setting, monkeypatch, short):
    """On a CPU, where nothing waits for a card."""
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    monkeypatch.setattr(waiting, "config_of", short)
    monkeypatch.setattr(waiting, "STEPS", 2)
    monkeypatch.setattr(waiting, "IMAGES", 2)
    monkeypatch.setattr(waiting, "TEXTS", (4, 6))
    waiting.check(setting, report)
    assert report.passed == ["waits in 2 training steps", "waits a token in beam search"] and not report.failed
    assert report.found["waits in the captions of a batch"].value == 0


# ---- peers -------------------------------------------------------------------------------------------------------


def test_a_ratio_that_is_too_small_is_found_on_a_card_and_told_on_a_cpu(report):
    peers.judge_ratio(report, "training", 3.9, 4.0, on_card=True, said="")
    peers.judge_ratio(report, "beam", 3.9, 5.0, on_card=False, said="")
    assert report.failed == ["training"] and report.found["beam"].passed is None


def test_a_batch_that_does_not_fit_is_halved():
    tried = []

    def measure(images: int) -> float:
        tried.append(images)
        if images > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 7.0

    assert peers.fitting(16, measure) == (7.0, 4) and tried == [16, 8, 4]
    with pytest.raises(torch.OutOfMemoryError):
        peers.fitting(2, lambda images: measure(100))


def test_a_program_that_gives_other_results_is_not_timed(report, setting, monkeypatch):
    pytest.importorskip("transformers")
    make = peers.make_peer

    def wrong(name, model):  # type: ignore[no-untyped-def]
        made = make(name, model)
        with torch.no_grad():
            made.model.get_parameter("output.bias")[0] += 1.0
        return made

    monkeypatch.setattr(peers, "make_peer", wrong)
    with report.part("training"):
        peers.training(setting, report, SHAPES["quick"])
    assert report.failed == ["training"] and "differ by" in report.found["training"].said and len(report.found) == 1


def test_both_programs_are_timed_on_a_cpu(report, setting, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(peers, "PAIRS", 1)
    peers.searching(setting, report, dataclasses.replace(SHAPES["quick"], beam_images=2))
    ((what, finding),) = report.found.items()
    assert what == "beam search against Hugging Face" and finding.passed is None and float(finding.value or 0) > 0
    assert "all 2 texts of 19 tokens equal" in finding.said


@pytest.mark.parametrize(("rate", "right"), [(1e3, True), (1e18, False)])
def test_a_step_far_below_the_matrix_rate_is_found(report, setting, monkeypatch, rate, right):
    monkeypatch.setattr(peers, "matrix_rate", lambda precision: rate)
    monkeypatch.setattr(peers, "ALONE", 2)
    monkeypatch.setattr(peers, "PAIRS", 1)
    peers.rate(setting, report, SHAPES["quick"])
    assert bool(report.passed) == right and "2 images of 5 texts" in report.found["share of the matrix rate"].said


def test_others_are_timed_with_torchs_own_settings_and_strict_mode_is_back_afterwards():
    with peers.torchs_own():
        assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cuda.cudnn_sdp_enabled()
    try:
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True
        torch.backends.cuda.enable_cudnn_sdp(True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = False, True
