"""What is computed on: versions, the card as torch and as gitbench see it, and its rates, by which others are judged.

It comes first, so it also makes the images and captions for the checks that follow.
"""

from __future__ import annotations

import time

import torch

from gitbench.bench.rows import once
from gitbench.compute import best_precision
from gitbench.gpu_check.results import NO_CARD, Report
from gitbench.gpu_check.sizes import Setting, config_of
from gitbench.gpu_check.steps import finish
from gitbench.launch.mps import PROGRAM
from gitbench.machine import gpus
from gitbench.registry import DATASETS
from gitbench.training.device import described, settle

SIZE = 8192  # rows and columns of the matrices that are multiplied
COPIED = 2**30  # bytes
REPEATS = 10


def check(setting: Setting, report: Report) -> None:
    """Report versions and rates, judge whether gitbench sees the card that torch computes on, make the images."""
    report.figure("torch", torch.__version__)
    report.figure("CUDA that torch was built for", torch.version.cuda)
    report.figure("cuDNN", torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None)
    if setting.on_card:
        settle(setting.compute)
        with report.part("the card that torch computes on is the first that gitbench sees"):
            _card(report)
        with report.part("matrix products"):
            precision = setting.compute.precision
            report.figure(f"matrix products, {precision}", round(matrix_rate(precision) / 1e12, 1), "TFLOP/s")
            report.figure("copies on the card, read and written", round(copy_rate() / 1e9), "GB/s")
    else:
        report.not_run("matrix products", NO_CARD)
    with report.part("images and captions are made"):
        began = time.perf_counter()
        config = config_of(setting)
        for split in ("train", "val", "test"):
            DATASETS.build(config[f"{split}_dataloader"].dataset)
        report.figure("images and captions are made", round(time.perf_counter() - began, 1), "s")


def _card(report: Report) -> None:
    import shutil

    seen, card = described(), gpus()[0]
    report.figure("memory", round(seen["memory_bytes"] / 2**30, 1), "GiB")
    report.figure("compute capability", seen["capability"])
    report.figure("precision in which it trains", best_precision(card.capability))
    report.figure("NVIDIA's program for MPS", "installed" if shutil.which(PROGRAM) else "not installed")
    same = same_card(card.uuid, seen["uuid"]) and card.name == seen["name"]
    report.judge(
        "the card that torch computes on is the first that gitbench sees", same, "the same name and uuid", seen["name"]
    )


def same_card(named: str, torch_says: str) -> bool:
    """Tell whether CUDA_VISIBLE_DEVICES and torch name one card: "GPU-<uuid>" or "MIG-<uuid>", and "<uuid>"."""
    return bool(torch_says) and named.partition("-")[2] == torch_says.removeprefix("GPU-").removeprefix("MIG-")


def matrix_rate(precision: str, device: str = "cuda") -> float:
    """Return the operations a second of a large matrix product of random numbers."""
    one, other = (torch.randn(SIZE, SIZE, device=device).to(getattr(torch, precision)) for _ in range(2))

    def multiply() -> None:
        for _ in range(REPEATS):
            one @ other
        finish(device)

    multiply()
    return 2 * SIZE**3 * REPEATS / min(once(multiply) for _ in range(3))


def copy_rate(device: str = "cuda") -> float:
    """Return the bytes a second that are read and written when memory of the card is copied."""
    one = torch.randint(256, (COPIED,), dtype=torch.uint8, device=device)
    other = torch.empty_like(one)

    def copy() -> None:
        for _ in range(REPEATS):
            other.copy_(one)
        finish(device)

    copy()
    return 2 * COPIED * REPEATS / min(once(copy) for _ in range(3))
