"""Hooks of a training that is watched: what every step did, a checkpoint to go on from, and weights changed by a rounding.

They read and change nothing of the training, except `NudgeHook`, which is there where references are recorded.
"""

from __future__ import annotations

import ctypes
import hashlib
import resource
import shutil
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from gitbench.files import write_json
from gitbench.registry import HOOKS
from gitbench.training.distributed import captioner
from gitbench.training.frozen import FrozenEncoder
from gitbench.training.hooks import AtomicCheckpointHook

STATM = Path("/proc/self/statm")  # of Linux
STEPS = "steps.json"  # in the run's folder: quantity -> its value in every step


@HOOKS.register_module()
class StepWatchHook(Hook):
    """Write `steps.json`, lists by step: `exact` (digests of the batch's images, texts, pixels), `numbers`, `bytes` alive.

    `numbers`: learning rates, loss, norm of the gradients before they are clipped; and of the first batch the `input`
    of the encoder (mean and deviation of each channel) and the encoder's features (mean size, deviation, a weighted sum).
    Of evaluation there are digests of its batches.
    """

    priority = "HIGHEST"  # before the norm is taken from where it lies, and the rates are set for the next step

    def __init__(self) -> None:
        self.exact: dict[str, list[Any]] = {}
        self.numbers: dict[str, list[Any]] = {}
        self.bytes: list[int] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:  # type: ignore[no-untyped-def]
        if not self.numbers:
            model = captioner(runner)
            encoder = model.git.encoder
            training = encoder.training
            encoder.eval()
            with torch.no_grad():
                images = model.data_preprocessor(data_batch)["images"].flatten(0, -4)  # of films the frames
                features = encoder(images).double()
            encoder.train(training)
            weights = torch.arange(features[0].numel(), device=features.device).double().cos().view(features.shape[1:])
            self.numbers["input"] = [
                *images.double().mean((0, 2, 3)).tolist(),
                *images.double().std((0, 2, 3)).tolist(),
            ]
            described = (features.abs().mean(), features.std(), (features * weights).mean())
            self.numbers["features"] = [float(each) for each in described]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # type: ignore[no-untyped-def]
        exact = {"images": digest(data_batch["indices"])}
        exact["texts"] = digest(data_batch["tokens"].tolist(), data_batch["need_predict"].tolist())
        if "images" in data_batch:
            exact["pixels"] = digest(data_batch["images"].cpu().numpy().tobytes())
        wrapper = runner.optim_wrapper
        groups = {str(group.get("name", "")).partition("_")[0]: group["lr"] for group in wrapper.param_groups}
        numbers = {f"lr_{side}": groups[side] for side in ("encoder", "decoder") if side in groups}
        numbers["loss"] = outputs["loss"].item()
        numbers["grad_norm"] = float(wrapper.norms[0]) if wrapper.norms else 0.0
        self.bytes.append(live_bytes())
        _append(self.exact, exact)
        _append(self.numbers, numbers)

    def before_val_iter(self, runner, batch_idx, data_batch=None) -> None:  # type: ignore[no-untyped-def]
        _append(self.exact, {"val_batches": _evaluated(data_batch)})

    def before_test_iter(self, runner, batch_idx, data_batch=None) -> None:  # type: ignore[no-untyped-def]
        _append(self.exact, {"test_batches": _evaluated(data_batch)})

    def after_test(self, runner) -> None:  # type: ignore[no-untyped-def]
        write_json(Path(runner.work_dir) / STEPS, {"exact": self.exact, "numbers": self.numbers, "bytes": self.bytes})


@HOOKS.register_module()
class ForkHook(Hook):
    """Copy the run as it is on disk after step `at`, with a checkpoint of it, into a folder with its config."""

    priority = "HIGHEST"  # so before the checkpoints'

    def __init__(self, at: int, folder: str) -> None:
        self.at, self.folder = at, folder
        self._usual = 0.0

    def after_step(self, runner, done: int) -> None:  # type: ignore[no-untyped-def]
        saver = next(hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook))
        if done == self.at:
            self._usual, saver.seconds = saver.seconds, 0.0
        if done == self.at + 1:
            saver.seconds = self._usual
            for name in (f"iter_{self.at}.pth", "curve.csv"):
                shutil.copy(Path(runner.work_dir) / name, Path(self.folder) / name)


@HOOKS.register_module()
class NudgeHook(Hook):
    """Before the first step, move every weight to the next float32 above or below it, by a coin of `seed`."""

    priority = "VERY_HIGH"  # as those that give the weights their values, and after them

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        git, coin = captioner(runner).git, torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for each in git.parameters():
                up = torch.rand(each.shape, generator=coin) < 0.5
                target = torch.where(up, float("inf"), float("-inf")).to(each.device)
                each.copy_(torch.nextafter(each, target))
        if isinstance(git.encoder, FrozenEncoder):
            git.encoder.features.clear()  # of the weights before


def _evaluated(batch: dict[str, Any]) -> str:
    """Return the digest of a batch of evaluation."""
    texts = [batch[name].tolist() for name in ("tokens", "need_predict")]
    return digest(batch["indices"], batch["request_prefixes"], *texts, batch["images"].cpu().numpy().tobytes())


def _append(rows: dict[str, list[Any]], row: dict[str, Any]) -> None:
    for name, value in row.items():
        rows.setdefault(name, []).append(value)


def digest(*values: Any) -> str:
    """Return a short name of values: equal where they are."""
    made = hashlib.sha256()
    for value in values:
        made.update(value if isinstance(value, bytes) else repr(value).encode())
    return made.hexdigest()[:8]


class _Mallinfo2(ctypes.Structure):
    """What glibc's `mallinfo2` returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def live_bytes() -> int:
    """Return how many bytes this process holds: of GPU memory if it computes there, else what malloc has given out.

    glibc counts the latter to the byte, in all its arenas and mappings; without it, it is the resident memory, of which macOS
    says the most so far.
    """
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.memory_allocated()
    asked = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if asked is None:
        if STATM.is_file():
            return int(STATM.read_text().split()[1]) * resource.getpagesize()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asked.restype = _Mallinfo2
    found = asked()
    return int(found.uordblks + found.hblkhd)
