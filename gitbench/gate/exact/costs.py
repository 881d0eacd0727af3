"""Costs that can be counted exactly: what a host waits for, and the matrix products, of a training step and of a search.

Both at two lengths, so that what grows with the square of the length shows where it grew with the length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
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
from gitbench.training.hooks import CurveHook, LazyInfoHook
from gitbench.training.loop import CountedTrainLoop

SELDOM = 10**6  # iterations after which something is read that is not read in each
ROOM = 0.01  # of flops
LENGTHS = (8, 16)
NEVER = -1000.0  # bias of [SEP] with which no text ends before its time, which on a GPU would depend on time
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


def spent(work: Callable[[], Any]) -> tuple[int, int, int]:
    """Return how often the host would wait for a GPU in some work, and the operations of its matrix products: all, and those
    in an image encoder.
    """
    with Reads() as reads, FlopCounterMode(display=False) as counted, Waits() as waits:
        work()
    parts = counted.get_flop_counts().items()  # by a module's place in the one that was called, or by its class
    within = [sum(each.values()) for name, each in parts if name.rpartition(".")[2] in ("encoder", "ImageEncoder")]
    return reads.count + waits.count, counted.get_total_flops(), sum(within)


def add(values: Values, place: Place) -> None:
    """Add the costs of tiny models, and of a training step of a small run."""
    for attention in ATTENTIONS:
        _model(values, tiny(attention, place.device), f"{attention}-attention", place.device)
    add_run(values, place.small(), "caption")


def add_run(values: Values, small: Small, name: str) -> None:
    """Add the costs of a training step as the loop takes it, with its hooks, and of the test of a batch, of a small run."""
    model = small.model()
    wrapper = small.optimizer(model)
    batch, test = small.batches("train", 1)[0], small.batches("test", 1)[0]
    info, curve = LazyInfoHook(), CurveHook(SELDOM)
    info._interval = SELDOM

    def call(name: str, **given: Any) -> None:
        for hook in (curve, info) if name == "after_train_iter" else (curve,):
            getattr(hook, name)(runner, **given)

    runner: Any = SimpleNamespace(
        model=model, cfg=small.config, optim_wrapper=wrapper, max_iters=SELDOM, call_hook=call
    )
    loop = CountedTrainLoop(runner, small.loaders["train"], max_iters=SELDOM, val_interval=SELDOM, dropout_seed=0)
    loop.run_iter(batch)
    with values.of("optimizer"):
        add_work(values, f"{name}: a training step", lambda: loop.run_iter(batch), apart=True)
    with values.of("search"), torch.no_grad():
        model.git.head_bias[model.git.eos_id] = NEVER
        add_work(values, f"{name}: the test of a batch", lambda: model.test_step(test), apart=True)


def _model(values: Values, model: GIT, name: str, device: str) -> None:
    images = pictures(3, 3, 24, 24).to(device)
    with values.of("encoder"):
        add_work(values, f"{name}: image tokens", lambda: model.encode(images))
    with values.of("decoder"):
        for length in LENGTHS:
            tokens, predicted = (each.to(device) for each in texts(6, length, VOCABULARY, BOS, EOS))
            loss = partial(model.loss, images, tokens, predicted)
            add_work(values, f"{name}: training on texts of {length} ids", lambda loss=loss: loss().backward())  # type: ignore[misc]
    with values.of("search"), torch.no_grad():
        model.head_bias[EOS] = NEVER
        for way, greedy in (("greedy", True), ("4 beams", False)):
            for length in LENGTHS:
                write = partial(model.generate, images, max_length=length, greedy=greedy)
                add_work(values, f"{name}: writing texts of {length} ids, {way}", write)


def add_work(values: Values, name: str, work: Callable[[], Any], apart: bool = False) -> None:
    """Add how often the host waits in some work, and the operations of its matrix products; `apart`: the encoder's, too."""
    waits, flops, in_encoder = spent(work)
    if apart:
        with values.of("encoder"):
            values.most(f"{name}: flops of the image encoder", in_encoder, ROOM)
    values.most(f"{name}: host synchronisations", waits)
    values.most(f"{name}: flops", flops, ROOM)
