"""What each arm costs, for people: which cost columns a study has, their headings, and how a number is printed."""

from __future__ import annotations

import pandas as pd

from gitbench.scores import COSTS

_COST_NAMES = {
    "training_images": "training images",
    "parameters": "parameters",
    "encoder_parameters": "encoder parameters",
    "decoder_parameters": "decoder parameters",
    "flops_per_image": "FLOPs per image",
    "peak_memory_bytes": "peak memory",
    "train_images_per_second": "training images/s",
    "seconds": "seconds a run",
    "data_wait_seconds": "of them waiting for data",
    "compile_seconds": "of them compiling",  # where a run was asked to; no part of training images/s
    "pretrain_seconds": "pre-training seconds (shared)",  # once for all runs of a replicate; no part of the run's own
}


def cost_names(frame: pd.DataFrame) -> list[str]:
    """Return the cost columns that a study has."""
    present = set(frame["metric"])
    return [name for name in COSTS if name in present]


def cost_heading(name: str) -> str:
    """Return a cost column's name for people."""
    return _COST_NAMES[name]


def cost_text(name: str, value: float) -> str:
    """Format one cost for people: 1.24 M, 3.1 G, 812 MB, 145, 63."""
    kind = COSTS[name]
    if kind in ("image/s", "s"):
        return f"{value:.{0 if value >= 100 else 1}f}"
    suffix = "B" if kind == "byte" else ""
    for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return (
                f"{value / scale:.3g} {letter}{suffix}"
                if value < 999.5 * scale
                else f"{value / scale:.0f} {letter}{suffix}"
            )
    return f"{value:.0f} {suffix}".strip()
