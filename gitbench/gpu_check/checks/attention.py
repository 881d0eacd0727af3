"""Which of torch's ways of attention is used, and what it costs when texts of a new length come.

In strict mode cuDNN's must never be, whose backward pass adds in any order and which makes a plan for each new length; and
attention that is written out, which takes the memory of its weights, should not be (`gitbench.training.device`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from gitbench.bench.rows import once
from gitbench.gpu_check.results import Report
from gitbench.gpu_check.sizes import CROSS, Setting, config_of
from gitbench.gpu_check.steps import Interlude, Watched, finish, take_step, train_until
from gitbench.models.packed import pack
from gitbench.training.run import PlainRunner

# Parts of the names of torch's operations, and of attention itself.
WAYS = {
    "flash": "flash_attention",
    "efficient": "efficient_attention",
    "cudnn": "cudnn_attention",
    "written out": "_math",
}
ATTENTION = "aten::_scaled_dot_product"
LENGTHS = 20  # new ones
MOST = 0.1  # seconds a new length may cost; with cuDNN's plans it was 0.18 in a public report


def check(setting: Setting, report: Report) -> None:
    """Judge the ways of attention of training, likelihood and captions, and the cost of new lengths."""
    for name, variants in (("self-attention", {}), ("cross-attention", {"decoder": CROSS[setting.profile.name]})):

        def look(runner: PlainRunner, batch: dict[str, Any], name: str = name, first: bool = not variants) -> None:
            with Watched(setting.device) as training:
                take_step(runner, batch)
            judge(report, f"training, {name}", ways(training.seen.calls))
            if first:
                new_lengths(runner, batch, report)
            runner.model.eval()
            with torch.no_grad(), Watched(setting.device) as captions:
                runner.model.test_step(next(iter(runner.test_dataloader)))
            judge(report, f"likelihood and captions, {name}", ways(captions.seen.calls))

        with report.part(name):
            train_until(config_of(setting, variants), Interlude(look))


def ways(calls: Mapping[str, int]) -> Counter[str]:
    """Count torch's operations of attention by the way that they go, forward and backward."""
    found: Counter[str] = Counter()
    for operation, count in calls.items():
        if operation.startswith(ATTENTION):
            found[next((way for way, part in WAYS.items() if part in operation), operation)] += count
    return found


def judge(report: Report, what: str, found: Mapping[str, int]) -> None:
    """Judge the ways of attention that were found: some, and none but flash and efficient."""
    told = ", ".join(f"{count} {way}" for way, count in sorted(found.items()))
    right = bool(found) and not set(found) - {"flash", "efficient"}
    report.judge(what, right, "flash and efficient alone, never cuDNN's", told or "none")


def new_lengths(runner: PlainRunner, batch: dict[str, Any], report: Report) -> None:
    """Judge what the first steps with texts of new lengths take more than the second ones."""
    n, k, t = batch["tokens"].shape
    tokens, predicted = (batch[name].view(n * k, t) for name in ("tokens", "need_predict"))
    device = next(runner.model.parameters()).device.type
    pad, shortest = runner.model.git.pad_id, batch["texts"].tokens.shape[1]
    batches = [
        {**batch, "texts": pack(tokens, predicted, n, pad, length, everywhere=True)}
        for length in range(shortest + 1, shortest + 1 + LENGTHS)
    ]

    def all_of_them() -> None:
        for each in batches:
            take_step(runner, each)
        finish(device)

    for _ in range(3):
        take_step(runner, batch)
    finish(device)
    first, second = once(all_of_them), once(all_of_them)
    report.figure(f"{LENGTHS} steps with texts of new lengths", round(first, 3), "s")
    report.figure("the same steps again", round(second, 3), "s")
    report.at_most("a new length costs", (first - second) / LENGTHS, MOST, "s")
