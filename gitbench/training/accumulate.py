"""Gradient accumulation: a step in parts, where the whole batch does not fit into memory.

The loss of a batch is the mean over its predicted tokens, so each part counts by its share of them. The gradient is the whole
batch's up to rounding; dropout is drawn part by part, so its masks are others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from gitbench.training.caption_model import CaptionModel
from gitbench.training.optimizer import DeviceOptimWrapper


def step_in_parts(
    model: CaptionModel, wrapper: DeviceOptimWrapper, batch: dict[str, Any], images: int
) -> dict[str, torch.Tensor]:
    """Do what `model.train_step` does, with so many images of the batch at a time; return the loss of the whole batch."""
    tokens, losses = int(batch["texts"].predicted), []
    for part in parts_of(batch, images):
        share = int(part["texts"].predicted) / tokens  # batches come from the host: no GPU is waited for
        data = model.data_preprocessor(part, True)
        with wrapper.optim_context(model):
            loss = model(**data, mode="loss")["loss"] * share
        wrapper.backward(loss)
        losses.append(loss.detach())
    wrapper.step()
    wrapper.zero_grad()
    return {"loss": torch.stack(losses).sum()}


def parts_of(batch: dict[str, Any], images: int) -> Iterator[dict[str, Any]]:
    """Yield a batch of `caption_collate`, so many images at a time."""
    for start in range(0, len(batch["image_ids"]), images):
        stop = start + images
        part = {name: each[start:stop] for name, each in batch.items() if name not in ("texts", "image_set")}
        yield {**part, "texts": batch["texts"].rows(start, stop), "image_set": batch["image_set"]}
