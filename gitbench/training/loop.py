"""The training loop: iterations counted from 0, each one's randomness set by its number.

mmengine's IterBasedTrainLoop replays all skipped batches on resume, sleeps two seconds at each epoch end, and leaves
dropout to whatever state the generator is in.
"""

from __future__ import annotations

import torch
from mmengine.dist import get_rank, is_distributed
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from gitbench.models.recompute import set_checkpointing
from gitbench.registry import LOOPS
from gitbench.seeding import derive_seed
from gitbench.training.accumulate import step_in_parts
from gitbench.training.data import Batches
from gitbench.training.device import planned
from gitbench.training.graph import GraphedSteps


@LOOPS.register_module()
class CountedTrainLoop(BaseLoop):
    """Train `max_iters` iterations; iteration i takes the samples from i * batch and the dropout seed of (seed, i, rank).

    A process that trains alone takes its steps by `GraphedSteps` where the run was planned so, to the same bits.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        max_iters: int,
        val_interval: int,
        dropout_seed: int,
        validates_first: bool = False,
    ) -> None:
        super().__init__(runner, dataloader)
        self.max_iters = max_iters
        self.val_interval = val_interval
        self.dropout_seed = dropout_seed
        self.validates_first = validates_first  # before the first iteration, too
        self.graphed: GraphedSteps | None = None  # while it trains
        self.max_epochs = 1  # mmengine's hooks ask for these
        self._epoch = 0
        self._iter = 0
        self.batches: Batches | None = None  # of the session: `run` opens them
        self.compute = planned(runner.cfg)

    @property
    def iter(self) -> int:
        """Iterations completed."""
        return self._iter

    @property
    def epoch(self) -> int:
        """Always 0: there are no epochs here."""
        return self._epoch

    def run(self) -> torch.nn.Module:
        """Train from the current iteration to the last."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        self.dataloader.sampler.start = self._iter * self.dataloader.batch_size
        self.runner.model.train()
        if self.compute.checkpointing:
            set_checkpointing(self.runner.model)
        if self.compute.cuda_graph and not is_distributed():
            self.graphed = GraphedSteps(self.runner.model, self.runner.optim_wrapper)
        with Batches(self.dataloader) as self.batches:
            if not self._iter and self.validates_first and self.runner.val_loop is not None:
                self.runner.val_loop.run()
                self.runner.model.train()
            while self._iter < self.max_iters:
                self.run_iter(next(self.batches))
                if self.runner.val_loop is not None and (
                    self._iter % self.val_interval == 0 or self._iter == self.max_iters
                ):
                    self.runner.val_loop.run()
                    self.runner.model.train()
                # with validation behind it: a checkpoint loses nothing
                self.runner.call_hook("after_step", done=self._iter)
        self.graphed = None  # with the memory of its graphs
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_iter(self, batch: dict) -> None:
        """Take one optimizer step."""
        self.runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=batch)
        seed = derive_seed(self.dropout_seed, self._iter, get_rank())
        model, wrapper, images = self.runner.model, self.runner.optim_wrapper, self.compute.micro_batch
        if self.graphed is not None:
            outputs = self.graphed(batch, seed)
        elif images:
            torch.manual_seed(seed)
            outputs = step_in_parts(model, wrapper, batch, images)
        else:
            torch.manual_seed(seed)
            outputs = model.train_step(batch, optim_wrapper=wrapper)
        self.runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=batch, outputs=outputs)
        self._iter += 1
