"""Contrastive pre-training of the image encoder: stage i of the paper (p. 4), as CLIP does it.

The run's own image encoder and a small causal text encoder, each with a linear projection into a common space, learn to
find the caption of an image among those of the batch and the other way round: symmetric InfoNCE with a learned
temperature (`models.pair_encoder`). Then all but the image encoder is thrown away.

The result is a pure function of recipe, encoder, images, captions and seed. It lies in the cache under a hash of these,
so every run that starts from it shares one file: the first one makes it, the others wait for it or find it. Killed
half-way it is made again. A note beside the file keeps the seconds it took, which enter the costs of all these runs.
"""

from __future__ import annotations

import copy
import dataclasses
import json
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

from gitbench.data.base import content_hash
from gitbench.data.cache import CacheUnwritable, cached
from gitbench.data.dataset import collate
from gitbench.data.pretrained import description, noted_seconds, write_note
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir
from gitbench.models.pair_encoder import HOTTEST, PairEncoder, contrastive_loss, set_initial_values
from gitbench.spec import ContrastiveSpec
from gitbench.training.data import CaptionData
from gitbench.training.schedule import warmup_cosine
from gitbench.variants.encoder import EncoderSpec

CONTRASTIVE_VERSION = 1  # raise when the same recipe would give other weights

Normalise = Callable[[Tensor], Tensor]  # uint8 pixels (N,3,H,W) -> what the encoder reads, on its device
Progress = Callable[[int, int], None]  # iterations done, of how many


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """What is to be pre-trained and on what: everything that decides the result, and below the line what does not."""

    encoder: EncoderSpec
    recipe: ContrastiveSpec
    dataset: CaptionData  # of the training split; each image with one of its captions
    seed: int
    device: torch.device
    normalise: Normalise
    # ---
    workers: int = 0  # data-loading processes
    progress: Progress | None = None  # called about a hundred times


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A pre-trained image encoder: its state dict, and per iteration the loss and the share of captions found.

    `seconds` is what it took to make; None for a file that is older than the notes.
    """

    state: dict[str, Tensor]
    losses: list[float]
    accuracies: list[float]
    seconds: float | None = None


def pretrain(job: Pretraining) -> Pretrained:
    """Train a `PairEncoder` on the images of a training split, one caption each, and return its image encoder.

    Errors: fewer than two images, which leave nothing to tell apart.
    """
    recipe, began = job.recipe, time.monotonic()
    model = _model(job)
    optimizer = _optimizer(model, recipe)
    every = max(1, recipe.iterations // 100)
    losses, accuracies = [], []
    for step, batch in enumerate(_loader(job)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * warmup_cosine(step, recipe.warmup, recipe.iterations)
        loss, found = _step(job, model, optimizer, batch)
        losses.append(loss)
        accuracies.append(found)
        if job.progress is not None and ((step + 1) % every == 0 or step + 1 == recipe.iterations):
            job.progress(step + 1, recipe.iterations)
    state = {name: tensor.detach().cpu() for name, tensor in model.encoder.state_dict().items()}
    return Pretrained(
        state=state,
        losses=torch.stack(losses).tolist(),
        accuracies=torch.stack(accuracies).tolist(),
        seconds=time.monotonic() - began,
    )


def _step(
    job: Pretraining, model: PairEncoder, optimizer: torch.optim.Optimizer, batch: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Take one step; return its loss and the share of captions that their images found, as scalars on the device."""
    tokens = batch["tokens"][:, 0].to(job.device)
    with torch.autocast(job.device.type, torch.bfloat16, enabled=job.device.type == "cuda"):
        vectors = model.embed(job.normalise(batch["images"]), tokens)
    similarities = model.similarities(*vectors)  # in float32: the temperature multiplies rounding a hundredfold
    loss = contrastive_loss(similarities)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), job.recipe.clip_grad)
    optimizer.step()
    with torch.no_grad():
        model.scale.clamp_(max=HOTTEST)
        found = similarities.argmax(1) == torch.arange(len(similarities), device=job.device)
    return loss.detach(), found.float().mean()


def _loader(job: Pretraining) -> DataLoader:
    """Batches of images with one caption each, in an order of its own that the seed decides."""
    pairs = copy.copy(job.dataset)
    pairs.seed, pairs.captions_per_image, pairs._order = job.seed, 1, None
    return DataLoader(
        pairs,
        batch_sampler=list(_batches(len(pairs), job.recipe)),
        num_workers=job.workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )


def _model(job: Pretraining) -> PairEncoder:
    """The pair of encoders with their initial values, on the device, in training mode."""
    dataset = job.dataset
    positions = dataset.text_spec.max_tokens + 2
    with torch.random.fork_rng(devices=[]):  # torch draws values that are replaced at once
        model = PairEncoder(job.encoder, job.recipe, dataset.tokenizer.vocab_size, positions, dataset.eos_id)
    set_initial_values(model, job.seed)
    return model.to(job.device).train()


def _batches(count: int, recipe: ContrastiveSpec) -> Iterator[list[int]]:
    """Yield the sample numbers of each iteration; no batch spans two epochs, where an image could be its own negative."""
    if count < 2:
        raise GitbenchError("contrastive pre-training needs at least 2 training images: raise train_images")
    size = min(recipe.batch_images, count)
    for step in range(recipe.iterations):
        epoch, place = divmod(step, count // size)
        first = epoch * count + place * size
        yield list(range(first, first + size))


def _optimizer(model: PairEncoder, recipe: ContrastiveSpec) -> torch.optim.AdamW:
    """AdamW; norms, biases and the temperature are not decayed."""
    groups = [
        {"params": [p for p in model.parameters() if (p.ndim > 1) == decayed], "weight_decay": decay}
        for decayed, decay in ((True, recipe.weight_decay), (False, 0.0))
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def pretrained_path(job: Pretraining) -> Path:
    """Return the cache file of a pre-trained encoder, named after everything that decides its bits."""
    dataset, device = job.dataset, job.device
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    decisive = [
        json.dumps([dataclasses.asdict(job.encoder), dataclasses.asdict(job.recipe)], sort_keys=True),
        json.dumps(
            [dataset.crop_scale, dataset.store_size, dataset.data_spec.image_size, dataset.text_spec.max_tokens]
        ),
        dataset.source.fingerprint(),
        dataset.tokenizer.fingerprint(),
        f"{job.seed} {processor} {torch.__version__} {CONTRASTIVE_VERSION}",
    ]
    return cache_dir() / "encoders" / f"contrastive-{content_hash(decisive)[:20]}.pth"


def pretrained_encoder(job: Pretraining) -> Pretrained:
    """Return the encoder from the cache, pre-trained first where it is missing or damaged; the bits are the same."""
    path = pretrained_path(job)
    if job.progress is not None and not path.exists():
        job.progress(0, job.recipe.iterations)  # also where another run is making it and this one waits
    made: list[Pretrained] = []

    def save(temporary: Path) -> None:
        made.append(_make(job))
        _save(made[0], temporary)
        write_note(path, made[0].seconds, _description(job))

    try:
        return cached(path, save, _load)
    except CacheUnwritable as error:
        print_log(f"{error}; the pre-trained encoder is not kept", "current")
        return made[0] if made else _make(job)


def _make(job: Pretraining) -> Pretrained:
    """Pre-train with one thread, on which the order of float sums depends, and say how it went."""
    recipe = job.recipe
    print_log(f"contrastive pre-training: {recipe.iterations} x {recipe.batch_images} images", "current")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made = pretrain(job)
    finally:
        torch.set_num_threads(threads)
    tail = max(1, recipe.iterations // 10)
    loss, share = sum(made.losses[-tail:]) / tail, sum(made.accuracies[-tail:]) / tail
    print_log(
        f"contrastive pre-training: final loss {loss:.3f}, {share:.1%} of captions found, {made.seconds:.0f} s",
        "current",
    )
    return made


def _description(job: Pretraining) -> dict[str, Any]:
    return description(
        job.encoder,
        job.recipe,
        job.dataset.data_spec,
        job.dataset.text_spec,
        data=job.dataset.source.fingerprint(),
        seed=job.seed,
    )


def _save(made: Pretrained, path: Path) -> None:
    """Write the weights; the seconds go into a note beside them, because older versions refuse another field here."""
    payload = {name: value for name, value in vars(made).items() if name != "seconds"}
    torch.save({"format": "gitbench-encoder", **payload}, path)


def _load(path: Path) -> Pretrained:
    try:
        payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged") from error  # made again
    if payload.pop("format", None) != "gitbench-encoder":
        raise ValueError(f"{path} holds something else")
    return Pretrained(**payload, seconds=noted_seconds(path))
