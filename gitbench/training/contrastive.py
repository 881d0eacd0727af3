"""Contrastive pre-training of the image encoder: stage i of the paper (p. 4), as CLIP does it.

The run's own image encoder and a small causal text encoder learn to find the caption of an image among those of the
batch and the other way round (`models.pair_encoder`). Then all but the image encoder is thrown away.

The result is a pure function of recipe, encoder, images, captions and seed. It lies in the cache under a hash of these:
the first run makes it, the others wait for it or find it. A note beside the file keeps the seconds it took, which enter
the costs of all these runs.
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
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir
from gitbench.models.pair_encoder import HOTTEST, PairEncoder, contrastive_loss, set_initial_values
from gitbench.spec import ContrastiveSpec
from gitbench.training.data import CaptionData
from gitbench.training.optimizer import warmup_cosine
from gitbench.variants.encoder import EncoderSpec

CONTRASTIVE_VERSION = 1  # raise when the same recipe would give other weights
FORMAT = "gitbench-encoder"

Normalise = Callable[[Tensor], Tensor]  # uint8 pixels (N,3,H,W) -> what the encoder reads, on its device
Progress = Callable[[int, int], None]  # iterations done, of how many


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """What is to be pre-trained and on what; all but the last two fields decide the result."""

    encoder: EncoderSpec
    recipe: ContrastiveSpec
    dataset: CaptionData  # of the training split; each image with one of its captions
    seed: int
    device: torch.device
    normalise: Normalise
    workers: int = 0  # data-loading processes
    progress: Progress | None = None  # called about a hundred times


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A pre-trained image encoder: its state dict, and the loss of each iteration.

    `seconds` is what it took to make.
    """

    state: dict[str, Tensor]
    losses: list[float]
    seconds: float


def pretrained_encoder(job: Pretraining) -> Pretrained:
    """Return the encoder from the cache, pre-trained first where it is missing or damaged.

    The bits are the same either way. Where the cache cannot be written, they are made for this run alone.
    """
    path = pretrained_path(job)
    if job.progress is not None and not path.exists():
        job.progress(0, job.recipe.iterations)  # also where another run is making it and this one waits

    made: list[Pretrained] = []

    def save(temporary: Path) -> None:
        made.append(pretrain(job))
        torch.save({"format": FORMAT, **vars(made[0])}, temporary)

    try:
        return cached(path, save, _load)
    except CacheUnwritable:  # minutes of training are not thrown away for want of a cache
        return made[0] if made else pretrain(job)


def pretrained_path(job: Pretraining) -> Path:
    """Return the cache file of a pre-trained encoder, named after everything that decides its bits."""
    dataset, device = job.dataset, job.device
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    sizes = [dataset.crop_scale, dataset.store_size, dataset.data_spec.image_size, dataset.text_spec.max_tokens]
    decisive = [
        json.dumps([dataclasses.asdict(job.encoder), dataclasses.asdict(job.recipe)], sort_keys=True),
        json.dumps(sizes),
        dataset.source.fingerprint(),
        dataset.tokenizer.fingerprint(),
        f"{job.seed} {processor} {torch.__version__} {CONTRASTIVE_VERSION}",
    ]
    return cache_dir() / "encoders" / f"contrastive-{content_hash(decisive)[:20]}.pth"


def _load(path: Path) -> Pretrained:
    try:
        payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged") from error  # made again
    if payload.pop("format", None) != FORMAT:
        raise ValueError(f"{path} holds something else")
    return Pretrained(state=payload["state"], losses=payload["losses"], seconds=payload["seconds"])


def pretrain(job: Pretraining) -> Pretrained:
    """Train a `PairEncoder` on the images of a training split, one caption each, and return its image encoder.

    One thread does it, since the order of float sums depends on their number.
    Errors: fewer than two images, which leave nothing to tell apart.
    """
    recipe, dataset, began = job.recipe, job.dataset, time.monotonic()
    print_log(f"contrastive pre-training: {recipe.iterations} x {recipe.batch_images} images", "current")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):  # torch draws values that are replaced at once
            positions = dataset.text_spec.max_tokens + 2
            model = PairEncoder(job.encoder, recipe, dataset.tokenizer.vocab_size, positions, dataset.eos_id)
        set_initial_values(model, job.seed)
        losses = _train(job, model.to(job.device).train())
    finally:
        torch.set_num_threads(threads)
    state = {name: tensor.detach().cpu() for name, tensor in model.encoder.state_dict().items()}
    tail, seconds = max(1, recipe.iterations // 10), time.monotonic() - began
    loss = sum(losses[-tail:]) / tail
    print_log(f"contrastive pre-training: final loss {loss:.3f}, {seconds:.0f} s", "current")
    return Pretrained(state=state, losses=losses, seconds=seconds)


def _train(job: Pretraining, model: PairEncoder) -> list[float]:
    """Train in place; return each iteration's loss."""
    recipe, losses = job.recipe, []
    groups = [  # norms, biases and the temperature are not decayed
        {"params": [p for p in model.parameters() if (p.ndim > 1) == decayed], "weight_decay": decay}
        for decayed, decay in ((True, recipe.weight_decay), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)
    every = max(1, recipe.iterations // 100)
    for step, batch in enumerate(_loader(job)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * warmup_cosine(step, recipe.warmup, recipe.iterations)
        tokens = batch["tokens"][:, 0].to(job.device)
        with torch.autocast(job.device.type, torch.bfloat16, enabled=job.device.type == "cuda"):
            image, text = model.embed(job.normalise(batch["images"]), tokens)
        # of image i with caption j, in float32: the temperature multiplies rounding a hundredfold
        loss = contrastive_loss(model.scale.exp() * image @ text.T)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad)
        optimizer.step()
        with torch.no_grad():
            model.scale.clamp_(max=HOTTEST)
        losses.append(loss.detach())
        if job.progress is not None and ((step + 1) % every == 0 or step + 1 == recipe.iterations):
            job.progress(step + 1, recipe.iterations)
    return torch.stack(losses).tolist()


def _loader(job: Pretraining) -> DataLoader:
    """Batches of images with one caption each, in an order of its own that the seed decides."""
    pairs = copy.copy(job.dataset)
    pairs.seed, pairs.captions_per_image = job.seed, 1
    return DataLoader(
        pairs,
        batch_sampler=list(_batches(len(pairs), job.recipe)),
        num_workers=job.workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )


def _batches(count: int, recipe: ContrastiveSpec) -> Iterator[list[int]]:
    """Yield the sample numbers of each iteration; no batch spans two epochs, where an image could be its own negative."""
    if count < 2:
        raise GitbenchError("contrastive pre-training needs at least 2 training images: raise train_images")
    size = min(recipe.batch_images, count)
    for step in range(recipe.iterations):
        epoch, place = divmod(step, count // size)
        first = epoch * count + place * size
        yield list(range(first, first + size))
