"""`--cfg-options compile_layers=True`: `torch.compile` of what a training step spends its time in.

Compiled are an encoder block, and of a decoder layer the parts before and after attention, each once for all layers and,
in the decoder, for texts of any length. Only training uses them: validation and captions run as they do without, so that
a score never depends on the compiler. Dropout is drawn as without, and losses differ by rounding alone.

Off by default: on CPUs compiling takes 25 to 45 s and saves a few per cent (docs/speed.md); GPUs are not measured yet.
(mmengine's own option `compile` is another: it compiles the whole step, validation and captions as well.)
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.hooks import Hook

from gitbench.models.git import GIT
from gitbench.registry import HOOKS

HOT = ("project", "keys_values", "add_attended", "feed_forward")  # of a decoder layer


def compile_hot(git: GIT) -> None:
    """Compile the parts that training spends its time in, in place and for training alone; at their first use."""
    for block in git.encoder.blocks:
        block.forward = _when_training(block.forward)
    for layer in git.decoder.layers:
        for name in HOT:
            setattr(layer, name, _when_training(getattr(layer, name)))


def _when_training(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(function, dynamic=True, options={"fallback_random": True})  # dropout as without

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else function)(*args)

    return call


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the model before the session's first step.

    `seconds`, over all sessions of the run, is what the first forward and backward pass took, compilation included.
    """

    priority = "VERY_HIGH"  # before `CurveHook` starts its clock: compiling is no part of the throughput

    def __init__(self) -> None:
        self.seconds = 0.0
        self._compiled = False

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:  # type: ignore[no-untyped-def]
        if self._compiled:
            return
        self._compiled = True
        compile_hot(runner.model.git)
        started = time.monotonic()
        _forward_and_backward(runner, data_batch)
        self.seconds += time.monotonic() - started

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        checkpoint["meta"]["compile_seconds"] = self.seconds

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        self.seconds = checkpoint["meta"].get("compile_seconds", 0.0)


def _forward_and_backward(runner: Any, batch: dict[str, Any]) -> None:
    """Go forward and backward once and forget the gradients; weights stay, and every step seeds its own dropout."""
    model, wrapper = runner.model, runner.optim_wrapper
    with wrapper.optim_context(model):
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
    losses["loss"].backward()
    wrapper.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
