"""Costs that can be counted exactly: what a host waits for, and the matrix products, of a training step and of a search.

Both at two lengths, so that what grows with the square of the length shows where it grew with the length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from gitbench.gate.exact.constant import pictures, texts
from gitbench.gate.exact.subject import Place, Small
from gitbench.gate.exact.tiny import ATTENTIONS, BOS, EOS, VOCABULARY, tiny
from gitbench.gate.exact.values import Values
from gitbench.models.git import GIT

ROOM = 0.01  # of flops
LENGTHS = (8, 16)
# What reads a number of the device, or makes a tensor whose shape depends on one.
WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2", "unique_dim")
READING = ("tolist", "numpy", "cpu")  # methods of tensors that do so without an operation of their own


class Waits(TorchDispatchMode):
    """Counts the operations for which a host waits for a GPU, on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in WAITING
        return func(*args, **(kwargs or {}))


class Reads(TorchFunctionMode):
    """Counts the calls of methods by which a host reads a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += getattr(func, "__name__", "") in READING
        return func(*args, **(kwargs or {}))


def spent(work: Callable[[], Any]) -> tuple[int, int]:
    """Return how often the host would wait for a GPU in some work, and the operations of its matrix products."""
    with Reads() as reads, FlopCounterMode(display=False) as counted, Waits() as waits:
        work()
    return reads.count + waits.count, counted.get_total_flops()


def add(values: Values, place: Place) -> None:
    """Add the costs of tiny models, and of a training step of a small run."""
    for attention in ATTENTIONS:
        _model(values, tiny(attention, place.device), f"{attention}-attention", place.device)
    add_run(values, place.small(), "caption")


def add_run(values: Values, small: Small, name: str) -> None:
    """Add the costs of a training step, and of the test of a batch, of a small run."""
    model = small.model()
    wrapper = small.optimizer(model)
    batch, test = small.batches("train", 1)[0], small.batches("test", 1)[0]
    model.train_step(batch, wrapper)
    with values.of("optimizer"):
        _add(values, f"{name}: a training step", lambda: model.train_step(batch, wrapper))
    with values.of("search"), torch.no_grad():
        _add(values, f"{name}: the test of a batch", lambda: model.test_step(test))


def _model(values: Values, model: GIT, name: str, device: str) -> None:
    images = pictures(3, 3, 24, 24).to(device)
    with values.of("encoder"):
        _add(values, f"{name}: image tokens", lambda: model.encode(images))
    with values.of("decoder"):
        for length in LENGTHS:
            tokens, predicted = (each.to(device) for each in texts(6, length, VOCABULARY, BOS, EOS))
            loss = partial(model.loss, images, tokens, predicted)
            _add(values, f"{name}: training on texts of {length} ids", lambda loss=loss: loss().backward())  # type: ignore[misc]
    with values.of("search"), torch.no_grad():
        model.head_bias[EOS] = -1000.0  # nothing ends before its time
        for way, greedy in (("greedy", True), ("4 beams", False)):
            for length in LENGTHS:
                write = partial(model.generate, images, max_length=length, greedy=greedy)
                _add(values, f"{name}: writing texts of {length} ids, {way}", write)


def _add(values: Values, name: str, work: Callable[[], Any]) -> None:
    waits, flops = spent(work)
    values.most(f"{name}: host synchronisations", waits)
    values.most(f"{name}: flops", flops, ROOM)
