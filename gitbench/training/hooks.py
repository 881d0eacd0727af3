"""Hooks: checkpoints, loss curve, a decoder that starts from BERT, closed vocabulary."""

from __future__ import annotations

import contextlib
import csv
import errno
import math
import os
import pickle
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook, RuntimeInfoHook
from mmengine.logging import print_log
from safetensors import SafetensorError

from gitbench.data.bert_folder import bert_folder, fingerprint
from gitbench.data.dataset import CaptionDataset
from gitbench.data.tokenizer import from_bert, rows_of
from gitbench.errors import GitbenchError, unknown_name
from gitbench.files import atomic_path, explain_os_errors, write_text
from gitbench.models.bert import initialise_from_bert, load_bert
from gitbench.models.trie import Trie
from gitbench.registry import HOOKS
from gitbench.run_folder import RunFolder
from gitbench.training.device import peak_memory, planned
from gitbench.training.distributed import captioner, most

DECODER_SOURCES = ("random", "bert")


@HOOKS.register_module()
class AtomicCheckpointHook(Hook):
    """Save `iter_<n>.pth` about every so many `seconds` of training, and after its last iteration: whole or not at all.

    There is one at a time: the older one goes as soon as the newer is whole. That of the last iteration, from which
    captions can still be made, holds weights and no optimizer. Of several processes rank 0 saves. The file is mmengine's own
    layout without its log history, so it loads with `weights_only=True`.
    """

    priority = "VERY_LOW"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._saved = 0.0  # when the last one was, or training began

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        self._saved = time.monotonic()

    def after_step(self, runner, done: int) -> None:  # type: ignore[no-untyped-def]
        """Called by `CountedTrainLoop` when iteration `done` and its validation are over."""
        last = done == runner.max_iters
        if not is_main_process() or not last and time.monotonic() - self._saved < self.seconds:
            return
        folder = Path(runner.work_dir)
        path, meta = folder / f"iter_{done}.pth", {"iter": runner.iter, "epoch": 0}
        options: dict[str, Any] = {"save_optimizer": not last, "save_param_scheduler": not last}
        with atomic_path(path) as temporary, explain_os_errors(temporary), torch_write_errors():
            runner.save_checkpoint(str(temporary.parent), temporary.name, by_epoch=False, meta=meta, **options)
        write_text(folder / "last_checkpoint", str(path))  # what mmengine's `resume=True` reads
        for old in RunFolder(folder).checkpoints[1:]:
            old.unlink(missing_ok=True)
        self._saved = time.monotonic()

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}


@contextlib.contextmanager
def torch_write_errors() -> Iterator[None]:
    """Turn the reports of torch and safetensors on a short write into the OSError that a full disk is."""
    try:
        yield
    except SafetensorError as error:
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        raise
    except RuntimeError as error:
        if "PytorchStreamWriter" in str(error) or "unexpected pos" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that loads; a damaged one is removed, with a line in the log.

    There is an older one only where a run was killed between a newer one and its removal.
    """
    for path in RunFolder(folder).checkpoints:
        try:
            torch.load(path, map_location="cpu", weights_only=True)
            return path
        except (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            print_log(f"{path.name} is damaged ({type(error).__name__}) and left out", "current")
            path.unlink()
    return None


@HOOKS.register_module(name="RuntimeInfoHook")  # found before mmengine's own in this package's scope
class LazyInfoHook(RuntimeInfoHook):
    """mmengine's hook, except that losses and gradient norms stay on their device until the log wants them.

    Read in every step, as mmengine does, they make the host wait for a GPU twice a step.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[str, torch.Tensor]] = []
        self._interval = 1

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        super().before_train(runner)
        self._interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 1)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # type: ignore[no-untyped-def]
        self._pending += [(name, value.detach()) for name, value in (outputs or {}).items()]
        if runner.optim_wrapper.norms:
            self._pending.append((runner.optim_wrapper.grad_name, runner.optim_wrapper.norms.pop()))
        done = batch_idx + 1
        if done % self._interval == 0 or done == runner.max_iters:
            values = torch.stack([value.float() for _, value in self._pending]).tolist()
            for (name, _), value in zip(self._pending, values, strict=True):
                runner.message_hub.update_scalar(f"train/{name}", value)
            self._pending.clear()


class Diverged(GitbenchError):
    """A run whose loss is no finite number any more."""


@HOOKS.register_module()
class CurveHook(Hook):
    """Keep the loss curve (`curve.csv`: iteration, split, loss, lr), the seconds spent, the images seen and the most memory.

    Training rows hold the label-smoothed loss of a batch, validation rows the negative log-likelihood per token, in nats. Of
    several processes each has the same curve, and rank 0 writes it. The curve is on disk before the checkpoint of the same
    iteration is, and is cut back to it on resume. Errors: Diverged, at the first row whose loss is not finite.
    """

    progress: Callable[[int, int, float], None] | None = None  # set by the process that runs the runner

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.rows: list[tuple[int, str, float, float]] = []
        self.seconds = 0.0  # in all sessions of this run, and how many of them the training waited for data
        self.data_wait_seconds = 0.0
        self._peak = 0  # bytes, of earlier sessions and other processes
        self._cuda_graph = False  # whether graphs have memory of their own
        self.images = 0  # this session's and this process's, and the seconds they took
        self.image_seconds = 0.0
        self._mark = self._step_mark = self._waited = 0.0

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        path = RunFolder(Path(runner.work_dir)).curve
        if runner.iter and path.is_file():
            self.rows = [row for row in read_curve(path) if row[0] <= runner.iter]
        self._mark, self._cuda_graph = time.monotonic(), planned(runner.cfg).cuda_graph

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:  # type: ignore[no-untyped-def]
        self._step_mark = self._step_mark or time.monotonic()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # type: ignore[no-untyped-def]
        done = batch_idx + 1
        self.images += len(data_batch["indices"])
        if done % self.interval == 0 or done == runner.max_iters:
            loss = outputs["loss"].item()
            now = time.monotonic()
            self.image_seconds += now - self._step_mark
            self._step_mark = now
            # mmengine adds a group of its own, which trains nothing
            groups = [group for group in runner.optim_wrapper.param_groups if group.get("name")]
            groups.sort(key=lambda group: group["name"])  # the decoder's first, where it is trained
            self._add(done, "train", loss, groups[0]["lr"])
            self._peak = most(self.peak_memory)
            if self.progress is not None:
                self.progress(done, runner.max_iters, loss)

    def before_val(self, runner) -> None:  # type: ignore[no-untyped-def]
        if self._step_mark:
            self.image_seconds += time.monotonic() - self._step_mark
        self._step_mark = 0.0

    def after_val_epoch(self, runner, metrics=None) -> None:  # type: ignore[no-untyped-def]
        if metrics and (runner.train_loop.iter or runner.train_loop.validates_first):
            self._add(runner.train_loop.iter, "val", float(metrics["val_nll"]), 0.0)

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        self._tick(runner)
        spent = {"seconds": self.seconds, "data_wait_seconds": self.data_wait_seconds}
        checkpoint["meta"] |= {**spent, "peak_memory_bytes": self.peak_memory}
        self._write(runner)

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
        self.seconds = checkpoint["meta"].get("seconds", 0.0)
        self.data_wait_seconds = checkpoint["meta"].get("data_wait_seconds", 0.0)
        self._peak = checkpoint["meta"].get("peak_memory_bytes", 0)

    @property
    def peak_memory(self) -> int:
        """The most bytes that a process held so far, in any session of this run; others are asked at each row."""
        return max(self._peak, peak_memory(self._cuda_graph))

    def after_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        self._tick(runner)
        self._write(runner)

    def last(self, split: str) -> float:
        """Return the last loss of a split, "train" or "val"."""
        return next(loss for _, own, loss, _ in reversed(self.rows) if own == split)

    def _add(self, iteration: int, split: str, loss: float, lr: float) -> None:
        self.rows.append((iteration, split, loss, lr))
        if not math.isfinite(loss):
            raise Diverged(
                f"the {split} loss is {loss} in iteration {iteration}: lower the learning rates (--rates tuned chooses them)"
            )

    def _tick(self, runner) -> None:  # type: ignore[no-untyped-def]
        now, waited = time.monotonic(), runner.train_loop.batches.waited
        self.seconds += now - self._mark
        self.data_wait_seconds += waited - self._waited
        self._mark, self._waited = now, waited

    def _write(self, runner) -> None:  # type: ignore[no-untyped-def]
        if not is_main_process():
            return
        lines = [f"{i},{split},{loss!r},{lr!r}\n" for i, split, loss, lr in self.rows]
        write_text(RunFolder(Path(runner.work_dir)).curve, "iteration,split,loss,lr\n" + "".join(lines))


def read_curve(path: Path) -> list[tuple[int, str, float, float]]:
    """Return the rows of a `curve.csv`. Errors: GitbenchError for a damaged one."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [*csv.DictReader(file)]
        return [(int(row["iteration"]), row["split"], float(row["loss"]), float(row["lr"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        raise GitbenchError(f"{path} is damaged: delete the folder {path.parent} and run again") from None


@HOOKS.register_module()
class DecoderInitHook(Hook):
    """Before the first iteration, give the text decoder the values that the model's `decoder_init` asks for: random ones
    as they are, or a BERT's, of which it takes the rows of its own words.

    A resumed run has them in its checkpoint.
    Errors: one line for a BERT that is missing, is not the one that was planned with, or has another shape.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        model = captioner(runner)
        init = model.variants["decoder_init"]
        if init.source not in DECODER_SOURCES:
            raise unknown_name("decoder_init source", init.source, DECODER_SOURCES)
        if init.source == "random" or runner.iter:
            return
        if init.path is None:
            raise GitbenchError("decoder_init has no path: set model.decoder_init.path to a BERT folder or hub name")
        if init.content is not None and fingerprint(bert_folder(init.path)) != init.content:
            raise GitbenchError(
                f"the BERT in {init.path} is not the one this run was planned with: run the ablation again"
            )
        rows = rows_of(runner.train_dataloader.dataset.tokenizer, from_bert(init.path))
        initialise_from_bert(model.git, load_bert(init.path), rows)


@HOOKS.register_module()
class ClosedVocabularyHook(Hook):
    """Before the test of "classify" and "read", give the model a trie over the task's labels, within which it writes.

    Labels that the tokenizer writes alike are one entry.
    """

    def before_test(self, runner) -> None:  # type: ignore[no-untyped-def]
        captioner(runner).vocabulary = closed_vocabulary(runner.test_dataloader.dataset)


def closed_vocabulary(dataset: CaptionDataset) -> Trie:
    """Return a trie over the labels of a data set's task."""
    labels = dataset.tokenizer.encode_all(list(dataset.source.vocabulary()), dataset.max_tokens)
    return Trie.of(labels, dataset.eos_id)
