"""How often the host waits for the card: in training for its log alone, in beam search at its two ends, never for a token."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from gitbench.bench.program import pictures, shared_model
from gitbench.gpu_check.checks.agree import shape_of
from gitbench.gpu_check.results import Report
from gitbench.gpu_check.sizes import Setting, config_of
from gitbench.gpu_check.steps import Interlude, StepClock, Steps, Watched, measure_steps, train_until
from gitbench.models.git import GIT
from gitbench.training.device import settle
from gitbench.training.run import PlainRunner

STEPS = 40  # of training that are looked at: within them four points of the curve are written, and no line of the log
MOST = 4  # waits in them, one for each point
TEXTS = (12, 28)  # lengths of texts: of the longer one the host must not wait more often
IMAGES = 16


def check(setting: Setting, report: Report) -> None:
    """Judge how often the host waits in training and in beam search; tell where."""
    with report.part("training"):
        found = measure_steps(config_of(setting), 0.0, STEPS)
        judge_training(report, found)
        places(report, setting)
    with report.part("beam search"):
        settle(setting.compute)
        shape = shape_of(setting)
        model = shared_model(shape, torch.device(setting.device), endless=True)
        images = pictures(shape, IMAGES, torch.device(setting.device))
        judge_search(report, {length: waits_of_search(model, images, length) for length in TEXTS})
    with report.part("captions of a run"):
        train_until(config_of(setting), Interlude(lambda runner, batch: captions(setting, runner, report)))


def judge_training(report: Report, found: Steps) -> None:
    """Judge the waits of training steps."""
    told = ", ".join(f"{count} {name}" for name, count in found.seen.waits.items())
    report.at_most(f"waits in {STEPS} training steps", sum(found.seen.waits.values()), MOST, said=told)


def waits_of_search(model: GIT, images: torch.Tensor, length: int) -> int:
    """Return how often the host waits while texts of so many tokens are written, which end nowhere before."""
    model.generate(images, max_length=length)
    with Watched(str(images.device.type)) as watched:
        model.generate(images, max_length=length)
    return sum(watched.seen.waits.values())


def judge_search(report: Report, waits: dict[int, int]) -> None:
    """Judge the waits of searches, by the length of their texts."""
    (short, few), (long, many) = sorted(waits.items())
    each = (many - few) / (long - short)
    report.at_most(
        "waits a token in beam search", round(each, 3), 0.0, said=f"{few} in {short} tokens, {many} in {long}"
    )


def captions(setting: Setting, runner: PlainRunner, report: Report) -> None:
    """Report the waits in the captions of a batch of test images, whose texts end and leave the batch."""
    runner.model.eval()
    batch = next(iter(runner.test_dataloader))
    with torch.no_grad(), Watched(setting.device) as watched:
        found = runner.model.test_step(batch)
    longest = max(len(output["ids"]) for item in found for output in item["outputs"])
    report.figure(
        "waits in the captions of a batch", sum(watched.seen.waits.values()), said=f"up to {longest} tokens each"
    )


def places(report: Report, setting: Setting) -> None:
    """Report the lines of code that made the host wait, as torch's debug mode sees them."""

    def begin(runner: PlainRunner) -> None:
        torch.cuda.set_sync_debug_mode("warn")

    found: Counter[str] = Counter()
    try:
        found = told_of(lambda: train_until(config_of(setting), StepClock(setting.device, 0.0, warm=STEPS), begin))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for place, count in found.most_common(5):
        report.figure(f"waits at {place}", count, said=f"from the run's start to step {STEPS + 1}")


def told_of(do: Callable[[], Any]) -> Counter[str]:
    """Return file and line -> how often torch's debug mode warned there while something was done."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        do()
    synchronous = [each for each in caught if "synchroniz" in str(each.message)]
    return Counter("/".join((*each.filename.split("/")[-2:], str(each.lineno))) for each in synchronous)
