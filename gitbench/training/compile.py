"""`--cfg-options compile_layers=True`: `torch.compile` of what a training step spends its time in, where that pays.

Compiled are an encoder block, and of a decoder layer the parts before and after attention, each once for all layers and,
in the decoder, for texts of any length. Only training uses them: validation and captions run as they do without, so that
a score never depends on the compiler. Dropout is drawn as without, and losses differ by rounding alone.

Off by default. On CPUs the gain is a few per cent (docs/speed.md); for GPUs it has not been measured here.
A run too short to earn back the compilation goes on without, as does one that compilation would make slower. Whether a
run was compiled depends on these timings; it stands in its checkpoints, which a resumed run follows, and in trained.json.
(mmengine's own option `compile` is another: it compiles the whole step, validation and captions as well.)
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log

from gitbench.models.git import GIT
from gitbench.registry import HOOKS

HOT = ("project", "keys_values", "add_attended", "feed_forward")  # of a decoder layer
LEAST_SECONDS = 20.0  # that the compilation takes at least: 25 to 40 s with g++ on one core
MOST_GAIN = 0.5  # share of a step that compilation may be hoped to save
REPEATS = 3


def compile_hot(git: GIT) -> Callable[[], None]:
    """Compile the hot parts in place, for training alone; returns what undoes it. They are made at their first use."""
    places: list[tuple[Any, str]] = [(block, "forward") for block in git.encoder.blocks]
    places += [(layer, name) for layer in git.decoder.layers for name in HOT if hasattr(layer, name)]
    for owner, name in places:
        setattr(owner, name, _when_training(getattr(owner, name)))

    def undo() -> None:
        for owner, name in places:
            delattr(owner, name)  # the class's own shows again

    return undo


def _when_training(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(function, dynamic=True, options={"fallback_random": True})  # dropout as without

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else function)(*args)

    return call


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the model before the session's first step, and take it back where it does not pay; times both ways.

    used: whether the run trains compiled; seconds: what compiling took, in all sessions; step_seconds: forward and
    backward pass of the first batch, (without, with).
    """

    priority = "VERY_HIGH"  # before `CurveHook` starts its clock: compiling is no part of the throughput

    def __init__(self) -> None:
        self.used: bool | None = None  # None: not decided yet
        self.seconds = 0.0
        self.step_seconds: tuple[float, float | None] | None = None
        self._ready = False

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:  # type: ignore[no-untyped-def]
        if self._ready:
            return
        self._ready = True
        if self.used is False:  # an earlier session found that it does not pay
            return
        step = functools.partial(_pass, runner, data_batch)
        plain = self.step_seconds[0] if self.step_seconds else _median(step)
        left = runner.max_iters - batch_idx
        if self.used is None and left * plain * MOST_GAIN < LEAST_SECONDS:
            self._decide(False, (plain, None), f"{left} steps of {plain:.3f} s are too few to earn it back")
            return
        undo = compile_hot(runner.model.git)
        started = time.monotonic()
        step()
        first = time.monotonic() - started
        compiled = _median(step)
        self.seconds += max(0.0, first - compiled)
        gain = left * (plain - compiled)
        if self.used is None and gain <= 0:
            undo()
            self._decide(False, (plain, compiled), f"a step takes {compiled:.3f} s with it and {plain:.3f} s without")
            return
        self._decide(True, (plain, compiled), f"it took {self.seconds:.1f} s and saves {gain:.1f} s of {left} steps")

    def _decide(self, used: bool, step_seconds: tuple[float, float | None], reason: str) -> None:
        self.used, self.step_seconds = used, step_seconds
        print_log(f"compile: {'on' if used else 'off'}, {reason}", "current")

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        checkpoint["meta"]["compile"] = {"used": self.used, "seconds": self.seconds, "step_seconds": self.step_seconds}

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        kept = checkpoint["meta"].get("compile", {})
        self.used, self.seconds = kept.get("used"), kept.get("seconds", 0.0)
        self.step_seconds = kept.get("step_seconds")


def _pass(runner: Any, batch: dict[str, Any]) -> None:
    """Go forward and backward once and forget the gradients; weights stay, and every step seeds its own dropout."""
    model, wrapper = runner.model, runner.optim_wrapper
    with wrapper.optim_context(model):
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
    losses["loss"].backward()
    wrapper.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _median(step: Callable[[], None]) -> float:
    """Seconds of a step, after one that warms up."""
    step()
    taken = []
    for _ in range(REPEATS):
        started = time.monotonic()
        step()
        taken.append(time.monotonic() - started)
    return statistics.median(taken)
