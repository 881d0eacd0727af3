"""Do CUDA graphs give the bits of plain steps on this machine, and how fast are both? For a proof on a card."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from gitbench.run_folder import RunFolder
from gitbench.training.device import planned, settle
from gitbench.training.graph import GraphedSteps
from gitbench.training.run import PlainRunner


class _Watch(Hook):
    """Takes the time of the last steps, and keeps hold of what took them."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.graphed: GraphedSteps | None = None
        self.began = self.seconds = 0.0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # type: ignore[no-untyped-def]
        self.graphed = runner.train_loop.graphed
        if batch_idx + 1 in (self.first, self.last):
            outputs["loss"].item()  # waits for the step
            self.seconds, self.began = time.perf_counter() - self.began, time.perf_counter()


def check_graphs(folder: Path, steps: int = 100) -> dict[str, Any]:
    """Take the first steps of a planned run twice, plainly and by graphs; the folder is only read.

    Returns `same_bits` (of all weights after them), `refused` (why there were no graphs, or None), `replayed` (steps taken by
    graphs), and steps per second of both, of the last half.
    """
    states, found = [], {}
    for graphs in (False, True):
        watch = _Watch(steps // 2, steps)
        with tempfile.TemporaryDirectory() as place:
            config = RunFolder(folder).read_config()
            config.work_dir, config.compute.cuda_graph, config.train_cfg.max_iters = place, graphs, steps
            for name in ("val", "test"):
                config[f"{name}_dataloader"] = config[f"{name}_cfg"] = config[f"{name}_evaluator"] = None
            settle(planned(config))
            runner = PlainRunner.from_cfg(config)
            runner.register_hook(watch)
            runner.train()
        states.append({name: tensor.cpu() for name, tensor in runner.model.state_dict().items()})
        found[f"{'graph' if graphs else 'plain'}_steps_per_second"] = (steps - steps // 2) / watch.seconds
    assert watch.graphed is not None
    return {
        **found,
        "same_bits": all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items()),
        "refused": watch.graphed.refused,
        "replayed": watch.graphed.replayed,
    }
