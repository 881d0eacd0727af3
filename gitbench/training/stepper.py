"""Training steps of one or several replicates without a run around them: what is timed when runs are packed.

Batches are the first ones of each replicate, made beforehand: how fast data come is no question of packing.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

import gitbench.training  # noqa: F401 (registers what configs name)
from gitbench.registry import DATASETS, MODELS
from gitbench.training.data import caption_collate
from gitbench.training.model import CaptionModel
from gitbench.training.optimizer import DeviceOptimWrapper
from gitbench.training.run import prepare_torch
from gitbench.training.stacked import Stack

BATCHES = 4  # different ones, taken in turns
WARM_UP = 4  # steps
CHUNK = 4  # steps between two looks at the clock


class Stepper:
    """Replicates with their models (in training mode, on their device), optimizers and batches, `BATCHES` of each.

    One is trained as a run is, several as a stack. They are warmed up here.
    """

    def __init__(
        self,
        models: Sequence[CaptionModel],
        wrappers: Sequence[DeviceOptimWrapper],
        batches: Sequence[Sequence[dict[str, Any]]],
    ) -> None:
        self.cuda = torch.cuda.is_available()
        self.models, self.wrappers, self.batches = models, wrappers, batches
        self.stack = Stack(models, wrappers) if len(models) > 1 else None
        self.done = 0
        for _ in range(WARM_UP):
            self.step()
        self._settle()

    def step(self) -> None:
        """Train every replicate for one step."""
        batches = [of_one[self.done % BATCHES] for of_one in self.batches]
        self.done += 1
        if self.stack is not None:
            self.stack.step(batches, [self.done + 1000 * r for r in range(len(batches))])
            return
        for model, wrapper, batch in zip(self.models, self.wrappers, batches, strict=True):
            torch.manual_seed(self.done)
            model.train_step(batch, optim_wrapper=wrapper)

    def steps_per_second(self, seconds: float) -> float:
        """Train for at least so many seconds; return the steps (of all replicates at once) a second."""
        began, count = time.perf_counter(), 0
        while True:
            for _ in range(CHUNK):
                self.step()
            self._settle()
            count += CHUNK
            spent = time.perf_counter() - began
            if spent >= seconds:
                return count / spent

    def steps(self, count: int) -> None:
        """Train every replicate for so many steps, to the end of the last."""
        for _ in range(count):
            self.step()
        self._settle()

    def _settle(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def free_memory() -> None:
    """Give back what models that are gone have held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def from_configs(configs: Sequence[dict[str, Any]], count: int) -> Stepper:
    """Return the stepper of the first `count` replicates that `configs` (of `make_config`, as plain values) describe."""
    prepare_torch()
    DefaultScope.get_instance("gitbench", scope_name="gitbench")
    read = [Config(config) for config in configs[:count]]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = [MODELS.build(config.model).to(device).train() for config in read]
    wrappers = [build_optim_wrapper(model, config.optim_wrapper) for model, config in zip(models, read, strict=True)]
    return Stepper(models, wrappers, [_batches(config) for config in read])


def _batches(config: Config) -> list[dict[str, Any]]:
    """Return the first training batches of a replicate."""
    loader = config.train_dataloader
    dataset, size = DATASETS.build(loader.dataset), loader.batch_size
    return [caption_collate([dataset[n] for n in range(b * size, (b + 1) * size)]) for b in range(BATCHES)]
