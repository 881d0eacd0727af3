"""Activation checkpointing: a block keeps its input alone, and computes the rest again when the backward pass comes to it.

The gradients have the same bits: the block is computed by the same operations, under the same autocast, with the state of the
random numbers that its dropout had. It costs a second forward pass of the blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputed(nn.Module):
    """A module whose blocks are checkpointed where `checkpointing` is set and gradients are wanted."""

    checkpointing = False

    def through(self, block: Callable[..., Any], *tensors: Any) -> Any:
        """Return `block(*tensors)`."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *tensors, use_reentrant=False)
        return block(*tensors)


def set_checkpointing(module: nn.Module) -> None:
    """Let every part of a module that can checkpoint its blocks do so from now on."""
    for part in module.modules():
        if isinstance(part, Recomputed):
            part.checkpointing = True
