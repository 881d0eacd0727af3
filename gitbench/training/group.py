"""Train several run folders of one arm together in this process; each is left as its run alone would leave it.

Every folder has its own runner with its own data, hooks, validation and checkpoints; only the optimizer step is made for
all at once (`stacked.py`). At the end each folder holds its last checkpoint and its curve, from which the ordinary
`execute` goes on, with nothing left to train: it captions the test split. So a group that was killed, or one that
failed, may be finished one by one, and a group takes up runs that were begun alone, if they stand at one iteration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from gitbench.errors import GitbenchError
from gitbench.files import write_json
from gitbench.registry import LOOPS
from gitbench.runs.grouping import GROUP_FILE
from gitbench.seeding import derive_seed
from gitbench.training.data import Batches
from gitbench.training.hooks import AtomicCheckpointHook, CurveHook, checkpoints, latest_checkpoint
from gitbench.training.loop import CountedTrainLoop
from gitbench.training.run import PlainRunner, clear_leftovers, peak_memory, prepare_torch, session_config
from gitbench.training.stacked import Stack

GroupProgress = Callable[[int, int, int, float], None]  # which of the runs, iterations done, of how many, loss


@LOOPS.register_module()
class SharedTrainLoop(CountedTrainLoop):
    """A training loop that a group drives from outside: a runner that "trains" is made ready, and no more."""

    def run(self) -> torch.nn.Module:
        """Return the model as it is."""
        return self.runner.model

    def begin(self) -> None:
        """Do what comes before the first iteration."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        self.dataloader.sampler.start = self._iter * self.dataloader.batch_size
        for scheduler in self.runner.param_schedulers:
            scheduler.optimizer._global_step = 0  # mmengine warns where an optimizer makes no steps: the stack does

    @property
    def seed(self) -> int:
        """The dropout seed of the coming iteration."""
        return derive_seed(self.dropout_seed, self._iter, get_rank())

    def end_iter(self, batch: dict, loss: torch.Tensor) -> None:
        """Do what comes after an optimizer step: hooks, validation, checkpoint."""
        self.runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=batch, outputs={"loss": loss})
        self._iter += 1
        if self.runner.val_loop is not None and (self._iter % self.val_interval == 0 or self._iter == self.max_iters):
            self.runner.val_loop.run()
            self.runner.model.train()
        self.runner.call_hook("after_step", done=self._iter)


class OwnTensorsHook(Hook):
    """Put copies of one replicate's tensors into its checkpoint: with a view, torch saves the whole stack behind it."""

    priority = "VERY_LOW"

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        for part in ("state_dict", "optimizer"):
            checkpoint[part] = _copied(checkpoint[part])


def _copied(value: Any) -> Any:
    """Copy the tensors in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def train_group(folders: Sequence[Path], progress: GroupProgress | None = None) -> None:
    """Train the runs of `folders`, replicates of one arm, to their last iteration and checkpoint.

    Errors: GitbenchError where they cannot be trained together (other sizes, a frozen encoder, different iterations).
    """
    for folder in folders:
        clear_leftovers(folder)
    prepare_torch()
    start = common_iteration(folders)
    loops = [_ready(folder, start, place, progress) for place, folder in enumerate(folders)]
    if len({(loop.max_iters, loop.val_interval) for loop in loops}) > 1:
        raise GitbenchError("runs of different lengths cannot be trained together: train them one by one")
    for loop in loops:
        loop.begin()  # before the stack copies the models: hooks may set their first values
    stack = Stack([loop.runner.model for loop in loops], [loop.runner.optim_wrapper for loop in loops])
    with contextlib.ExitStack() as opened:
        for loop in loops:
            loop.batches = opened.enter_context(Batches(loop.dataloader))
        while loops[0].iter < loops[0].max_iters:
            _step(stack, loops)
            if checkpoints_at(loops[0]):
                _note(folders, loops)
        for loop in loops:
            loop.runner.call_hook("after_train_epoch")
            loop.runner.call_hook("after_train")


def _step(stack: Stack, loops: Sequence[SharedTrainLoop]) -> None:
    """Take one step of all runs."""
    batches = [next(loop.batches) for loop in loops if loop.batches is not None]
    for loop, batch in zip(loops, batches, strict=True):
        loop.runner.call_hook("before_train_iter", batch_idx=loop.iter, data_batch=batch)
    losses = stack.step(batches, [loop.seed for loop in loops])
    for loop, batch, loss in zip(loops, batches, losses, strict=True):
        loop.end_iter(batch, loss)


def checkpoints_at(loop: SharedTrainLoop) -> bool:
    """Return whether the iteration just done was saved."""
    interval = next(hook.interval for hook in loop.runner.hooks if isinstance(hook, AtomicCheckpointHook))
    return loop.iter % interval == 0 or loop.iter == loop.max_iters


def _note(folders: Sequence[Path], loops: Sequence[SharedTrainLoop]) -> None:
    """Leave in every folder with whom it was trained so far, and the costs that no later process can know."""
    for folder, loop in zip(folders, loops, strict=True):
        curve = next(hook for hook in loop.runner.hooks if isinstance(hook, CurveHook))
        rate = curve.images / curve.image_seconds if curve.image_seconds else None
        write_json(
            folder / GROUP_FILE,
            {
                "trained_with": [other.name for other in folders if other != folder],
                "train_images_per_second": rate,
                "peak_memory_bytes": peak_memory() // len(folders),
            },
        )


def _ready(folder: Path, start: int, place: int, progress: GroupProgress | None) -> SharedTrainLoop:
    """Build the runner of a folder, resumed at iteration `start`; return its loop."""
    config = session_config(folder, folder / f"iter_{start}.pth" if start else None)
    config.train_cfg.type = "SharedTrainLoop"
    for newer in checkpoints(folder):  # of a group that was killed while it saved: they are made again
        if int(newer.stem.removeprefix("iter_")) > start:
            newer.unlink()
    runner = PlainRunner.from_cfg(config)
    runner.register_hook(OwnTensorsHook())
    for hook in runner.hooks:
        if isinstance(hook, CurveHook) and progress is not None:
            hook.progress = lambda done, total, loss: progress(place, done, total, loss)
    runner.train()
    assert isinstance(runner.train_loop, SharedTrainLoop)
    return runner.train_loop


def common_iteration(folders: Sequence[Path]) -> int:
    """Return the newest iteration of which every folder has a checkpoint.

    It is 0 where none has any, and where some have their first one and others none: a kill came between the first saves.
    Errors: GitbenchError where they have none in common.
    """
    for folder in folders:
        latest_checkpoint(folder)  # removes a damaged one
    there = [{int(path.stem.removeprefix("iter_")) for path in checkpoints(folder)} for folder in folders]
    if not any(there) or (not all(there) and max(map(len, there)) == 1):
        return 0
    common = set.intersection(*there)
    if not common:
        raise GitbenchError("these runs stand at different iterations: train them one by one")
    return max(common)
