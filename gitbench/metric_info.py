"""What each column of the frame is: its unit, its direction, and how many digits to print.

One place, so that a table, a figure axis and a sentence never disagree about a metric.
"""

from __future__ import annotations

from collections.abc import Iterable

from gitbench.errors import GitbenchError
from gitbench.spec import FALSE_SHARES, METRICS, Claim

# The scores that a claim may be about, in the order of columns in tables; those of plugins are added at the end.
# Any other score follows in tables, in alphabetical order.
SCORES = list(METRICS)

# The scores a printed table shows; the others stand in table.csv and in a folded table of the page.
HEADLINE = tuple(name for name in METRICS if name not in ("BLEU-1", "BLEU-2", "BLEU-3", "SPIDEr", *FALSE_SHARES))

# What a whole set of captions is like (`gitbench.metrics.diversity`): neither more nor less is better, no claim is about it.
DESCRIPTIVE = ("distinct-captions", "distinct-1", "distinct-2", "vocabulary")

# What a run's loss is on the first of its own training images and on validation images, alike in number and measured alike:
# the gap of the two tells how far it fits what it was trained on alone. No claim is about them.
FIT = ("train_nll", "val_nll")

# Cost columns of a record, with their units.
COSTS = {
    "training_images": "count",
    "parameters": "count",
    "encoder_parameters": "count",
    "decoder_parameters": "count",
    "flops_per_image": "FLOP",
    "peak_memory_bytes": "byte",
    "state_bytes": "byte",
    "stored_bytes": "byte",
    "train_images_per_second": "image/s",
    "seconds": "s",
    "data_wait_seconds": "s",
    "pretrain_seconds": "s",
    "encode_seconds": "s",
}

_UNITS = {**dict.fromkeys(("test_nll", *FIT), "nat/token"), "vocabulary": "words"}
_LOWER_IS_BETTER = {"test_nll", *FIT, *FALSE_SHARES}
_NAMES = {
    "test_nll": "test NLL",
    "train_nll": "training NLL",
    "val_nll": "validation NLL",
    "SceneF1": "scene F1",
    "false-attributes": "false attributes",
    "false-relations": "false relations",
    "distinct-captions": "distinct captions",
    "VQA": "VQA accuracy",
    "EM": "exact match",
    "accuracy-closed": "accuracy, closed vocabulary",
    "training_images": "training images",
    "encoder_parameters": "encoder parameters",
    "decoder_parameters": "decoder parameters",
    "flops_per_image": "FLOPs per image",
    "peak_memory_bytes": "peak memory",
    "state_bytes": "weights, gradients and optimizer",
    "stored_bytes": "stored beside the start",  # what was trained, as float32; an adapter before it is merged
    "train_images_per_second": "training images/s",
    "seconds": "seconds a run",
    "data_wait_seconds": "of them waiting for data",
    "pretrain_seconds": "pre-training seconds (shared)",  # once for all runs; no part of the run's own
    "encode_seconds": "seconds of encoding all images (shared)",  # by a frozen encoder, likewise
}


def register_metric(name: str, unit: str = "points", lower_is_better: bool = False, label: str | None = None) -> None:
    """Make a plugin's metric known: claims may name it, and reports print it as `label`, in `unit`.

    Registering a name again replaces what was said of it; GitbenchError for the name of a score or cost of gitbench's own.
    """
    if name in (*METRICS, *COSTS, *DESCRIPTIVE, *FIT):
        raise GitbenchError(f"'{name}' is a metric of gitbench's own: give the new one another name")
    if name not in SCORES:
        SCORES.append(name)
    _UNITS[name] = unit
    _NAMES[name] = label or name
    _LOWER_IS_BETTER.discard(name)
    if lower_is_better:
        _LOWER_IS_BETTER.add(name)


def unit(metric: str) -> str:
    """Return the unit of a metric; scores of captions and answers are in points, a hundred times their fraction."""
    return COSTS.get(metric) or _UNITS.get(metric, "points")


def lower_is_better(metric: str) -> bool:
    """Say whether a smaller value of `metric` is the better one."""
    return metric in _LOWER_IS_BETTER


def quality_sign(metric: str) -> int:
    """Return the sign that turns values of `metric` so that more is better."""
    return -1 if lower_is_better(metric) else 1


def orientation(claim: Claim) -> int:
    """Return the sign that turns the claim's differences so that more is what it claims (for "not_better": better).

    A trend states its direction in the metric's own numbers; the others mean better and worse.
    """
    if claim.kind == "trend":
        return 1 if claim.direction == "up" else -1
    return quality_sign(claim.metric)


def display_name(metric: str) -> str:
    """Return the name of a metric as a reader writes it."""
    return _NAMES.get(metric, metric)


def ordered(metrics: Iterable[str]) -> list[str]:
    """Sort score names into table order."""
    rank = {name: index for index, name in enumerate(SCORES)}
    return sorted(set(metrics), key=lambda name: (rank.get(name, len(rank)), name))
