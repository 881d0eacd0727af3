"""Pre-training of an image encoder, once, by a recipe: stage i of the paper (p. 4).

An objective (`objectives`) trains the encoder together with what is thrown away afterwards. The images are those of a
split of its own where the data set has one. The result is a pure function of recipe, encoder and data on one kind of
machine: every draw depends on the recipe's seed and the number of the step. It lies in the cache under a hash of these;
the first who needs it makes it, the others wait for it or find it. Hours of training survive a stop: every few minutes a
checkpoint is left beside the file, from which the same command goes on to the same bits.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gitbench.data import pretrain_data
from gitbench.data.base import content_hash
from gitbench.data.cache import CacheUnwritable, cached
from gitbench.data.dataset import collate
from gitbench.data.scenes.world import VERSION
from gitbench.data.tasks import open_task
from gitbench.encoders.quality import is_measured
from gitbench.encoders.store import StoredEncoder, content_of, quantised, read_encoder, restored, write_encoder
from gitbench.errors import GitbenchError
from gitbench.files import atomic_path, cache_dir
from gitbench.run_key import PRETRAIN_VERSION
from gitbench.spec import PretrainSpec, TaskSpec
from gitbench.training.caption_model import ImagePreprocessor
from gitbench.training.device import autocast, deterministic, pretraining_precision, processor_name, scaler
from gitbench.training.objectives import Objective, objective_for, training_images
from gitbench.training.optimizer import warmup_cosine
from gitbench.training.probes import Quality
from gitbench.variants.encoder import EncoderSpec

CHECKPOINT_SECONDS = 180.0
POINTS = 8  # equally spaced, at which quality is measured, beside the start
CURVE = 200  # losses that are kept, each a mean

Progress = Callable[[int, int, float], None]  # iterations done, of how many, loss (NaN before the first)


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """What is to be pre-trained and on what; encoder, recipe and data decide the result."""

    encoder: EncoderSpec
    recipe: PretrainSpec
    data: str = "scenes"
    device: torch.device = torch.device("cpu")
    workers: int = 0  # data-loading processes
    progress: Progress | None = None  # called about a hundred times
    measured: bool = False  # whether quality is measured on the way, of encoders of scenes alone (`probes`)


def pretrained_encoder(job: Pretraining) -> StoredEncoder:
    """Return the encoder from the cache, pre-trained first where it is missing or damaged, as stored either way.

    Where the cache cannot be written, it is made for the caller alone.
    """
    path = pretrained_path(job)
    if job.progress is not None and not path.exists():
        job.progress(0, job.recipe.iterations, math.nan)  # also where another process is making it and this one waits

    made: list[tuple[dict[str, Tensor], dict[str, Any]]] = []

    def save(temporary: Path) -> None:
        made.append(pretrain(job, path.with_suffix(".checkpoint")))
        write_encoder(temporary, _arrays(made[0][0]), made[0][1])

    def load(path: Path) -> StoredEncoder:
        found = read_encoder(path)
        if json.dumps([found.notes.get("encoder"), found.notes.get("recipe")], sort_keys=True) != _identity(job):
            raise ValueError("another encoder")  # made again
        if job.measured and not is_measured(found.notes):
            raise ValueError("its quality was not measured, or not from the start")  # made again
        return found

    try:
        found = cached(path, save, load)
        path.with_suffix(".checkpoint").unlink(missing_ok=True)
        return found
    except CacheUnwritable:  # minutes of training are not thrown away for want of a cache
        state, notes = made[0] if made else pretrain(job)
        packed = quantised(_arrays(state))
        return StoredEncoder(state=restored(packed), notes=notes, content=content_of(packed))


def pretrained_path(job: Pretraining) -> Path:
    """Return the cache file of a pre-trained encoder, named after everything that decides its bits."""
    data, split = pretrain_data(job.data)
    source = open_task(data, split, job.recipe.images, TaskSpec())
    decisive = [
        _identity(job),
        source.fingerprint(),
        f"{processor_name(job.device)} {pretraining_precision(job.device)} {torch.__version__} {PRETRAIN_VERSION}",
    ]
    return cache_dir() / "encoders" / f"{job.recipe.objective}-{content_hash(decisive)[:20]}.safetensors"


def _identity(job: Pretraining) -> str:
    """Return the size and recipe of an encoder as one line of JSON."""
    return json.dumps([dataclasses.asdict(job.encoder), dataclasses.asdict(job.recipe)], sort_keys=True)


def pretrain(job: Pretraining, checkpoint: Path | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train an encoder by its recipe; return its state dict and notes on how it was made (see `_Training.notes`).

    One thread does it, since the order of float sums depends on their number; on a GPU deterministic algorithms do.
    Errors: fewer than two images, which leave nothing to tell apart.
    """
    recipe = job.recipe
    if job.device.type == "cuda":
        deterministic()
    print_log(f"{recipe.objective} pre-training: {recipe.iterations} x {recipe.batch_images} images", "current")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        training = _Training(job)
        training.run(checkpoint)
    finally:
        torch.set_num_threads(threads)
    state = {name: tensor.detach().cpu() for name, tensor in training.module.encoder.state_dict().items()}
    notes = training.notes()
    print_log(f"pre-training: final loss {notes['curve'][-1][1]:.3f}, {notes['seconds']:.0f} s", "current")
    return state, notes


class _Training:
    """A pre-training under way: what a checkpoint holds of it, and what goes on from there."""

    def __init__(self, job: Pretraining) -> None:
        self.job = job
        with torch.random.fork_rng(devices=[]):  # torch draws values that are replaced at once
            self.images = training_images(job.recipe, job.data, job.encoder.image_size)
            self.objective: Objective = objective_for(job.encoder, job.recipe, self.images)
        self.module = self.objective.module.to(job.device).train()
        for part in self.module.modules():  # the gradient of fused attention is slow on CPUs, above all in bfloat16
            if hasattr(part, "fused_attn"):
                part.fused_attn = job.device.type != "cpu"
        groups = [  # norms, biases and the temperature are not decayed
            {"params": [p for p in self.module.parameters() if (p.ndim > 1) == decayed], "weight_decay": decay}
            for decayed, decay in ((True, job.recipe.weight_decay), (False, 0.0))
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=job.recipe.lr, betas=job.recipe.betas, fused=True)
        self.preprocess = ImagePreprocessor().to(job.device)
        self.precision = pretraining_precision(job.device)
        self.scaler = scaler(job.device.type, self.precision)
        self.done = 0  # iterations
        # one tensor: small ones kept from every step lie between large ones that are freed, and the heap grows by 15 MB a step
        self.losses = torch.zeros(job.recipe.iterations, device=job.device)
        self.points: list[dict[str, Any]] = []  # iteration, seconds, and what `probes` measures
        self.quality: Quality | None = None
        if job.measured:
            self.quality = Quality(job.encoder.image_size, self.images.tokenizer, job.recipe.max_tokens)
        self.seconds = 0.0  # of training, measuring left out

    def run(self, checkpoint: Path | None) -> None:
        """Train from where the checkpoint left off, or from the start, to the last iteration."""
        if checkpoint is not None:
            self._restore(checkpoint)
        recipe, progress = self.job.recipe, self.job.progress
        total, every = recipe.iterations, max(1, recipe.iterations // 100)
        at = {total * point // POINTS for point in range(1, POINTS + 1)}
        if not self.done:
            self._measure()
        began = kept = time.monotonic()
        for batch in _loader(self.job, self.images, self.done):
            self._step(batch)
            done = self.done
            if progress is not None and (done % every == 0 or done == total):
                progress(done, total, self.losses[done - 1].item())
            if done in at:
                self.seconds += time.monotonic() - began
                self._measure()
                began = time.monotonic()
            if checkpoint is not None and time.monotonic() - kept > CHECKPOINT_SECONDS and done < total:
                self.seconds += time.monotonic() - began
                self._save(checkpoint)
                began = kept = time.monotonic()
        self.seconds += time.monotonic() - began

    def _step(self, batch: dict[str, Any]) -> None:
        recipe, device, step = self.job.recipe, self.job.device, self.done
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * warmup_cosine(step, recipe.warmup, recipe.iterations)
        images = self.preprocess.normalised(batch["images"])
        targets = self.objective.targets(batch, step).to(device, non_blocking=True)
        with autocast(device.type, self.precision):
            loss = self.module(images, targets)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.module.parameters(), recipe.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.losses[step] = loss.detach()
        self.done += 1

    def _measure(self) -> None:
        """Measure quality with the encoder as it would be stored."""
        if self.quality is None:
            return
        with torch.random.fork_rng(devices=[]):
            quality = self.quality.of(self.objective.module_as_stored(), self.preprocess.normalised)
        self.points.append({"iteration": self.done, "seconds": round(self.seconds, 1), **quality})

    def notes(self) -> dict[str, Any]:
        """Return how the encoder was made, as JSON; `curve` holds (iteration, mean loss since the one before)."""
        data, split = pretrain_data(self.job.data)
        job, losses = self.job, self.losses.tolist()
        ends = sorted({len(losses) * part // CURVE for part in range(1, CURVE + 1)} - {0})
        starts = [0, *ends[:-1]]
        curve = [[end, round(sum(losses[a:end]) / (end - a), 5)] for a, end in zip(starts, ends, strict=True)]
        return {
            "encoder": dataclasses.asdict(job.encoder),
            "recipe": dataclasses.asdict(job.recipe),
            "scenes": VERSION if data == "scenes" else None,
            "version": PRETRAIN_VERSION,
            "data": f"{data}, {split}, {self.images.source.fingerprint()}",
            "precision": self.precision,
            "machine": processor_name(job.device),
            "torch": torch.__version__,
            "seconds": round(self.seconds, 1),
            "curve": curve,
            "points": self.points if self.quality else [],  # of a part alone, where one that measures began it
            "tested": self.quality.tested if self.quality else {},
        }

    def _save(self, path: Path) -> None:
        payload = {
            "job": _identity(self.job),
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "losses": self.losses[: self.done],
            "points": json.dumps(self.points),
            "seconds": self.seconds,
        }
        with atomic_path(path) as temporary:
            torch.save(payload, temporary)

    def _restore(self, path: Path) -> None:
        try:
            payload = torch.load(path, map_location=self.job.device, weights_only=True)
            points = json.loads(payload["points"])
            if payload["job"] != _identity(self.job):
                raise ValueError("another pre-training")
        except FileNotFoundError:
            return
        except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, ValueError):
            print_log(f"{path} is damaged, or of another pre-training: it starts again", "current")
            return
        if self.quality is not None and not (points and points[0]["iteration"] == 0):
            self._measure()  # begun by one that did not: the floor is measured now, of the same random values
            points = [*self.points, *points]
        self.module.load_state_dict(payload["module"])
        self.optimizer.load_state_dict(payload["optimizer"])
        self.scaler.load_state_dict(payload.get("scaler", {}))
        self.done = len(payload["losses"])
        self.losses[: self.done] = payload["losses"]
        self.points, self.seconds = points, payload["seconds"]


def _arrays(state: dict[str, Tensor]) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in state.items()}


def _loader(job: Pretraining, images: Any, start: int) -> DataLoader:
    """Batches of images with one caption each from the step `start` on, in an order that the seed decides."""
    batches: Any = list(_batches(len(images), job.recipe, start))  # ranges, which torch's types do not know
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=job.workers,
        pin_memory=job.device.type == "cuda",
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )


def _batches(count: int, recipe: PretrainSpec, start: int = 0) -> Iterator[range]:
    """Yield the sample numbers of each iteration; no batch spans two epochs, where an image could be its own negative."""
    if count < 2:
        raise GitbenchError("pre-training needs at least 2 images: raise train_images")
    size = min(recipe.batch_images, count)
    for step in range(start, recipe.iterations):
        epoch, place = divmod(step, count // size)
        first = epoch * count + place * size
        yield range(first, first + size)
