"""Contrastive pre-training of the image encoder: stage i of the paper (p. 4), as CLIP does it.

The run's own image encoder and a small causal text encoder, each with a linear projection into a common space, learn to
find the caption of an image among those of the batch and the other way round: symmetric InfoNCE with a learned
temperature. As in CLIP an image is its class token, a caption its [SEP]. Then all but the image encoder is thrown away.

The result is a pure function of recipe, encoder, images, captions and seed. It lies in the cache under a hash of these,
so every run that starts from it shares one file: the first one makes it, the others wait for it or find it. Killed
half-way it is made again, which takes a fraction of a run.

N images and captions, T tokens, W text width, E dimensions of the common space.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gitbench.data.base import content_hash
from gitbench.data.cache import CacheUnwritable, cached
from gitbench.data.dataset import collate
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir
from gitbench.models.encoder import ImageEncoder
from gitbench.models.init import initial_value
from gitbench.seeding import derive_seed
from gitbench.spec import ContrastiveSpec, EncoderSpec
from gitbench.training.data import CaptionData
from gitbench.training.schedule import warmup_cosine

CONTRASTIVE_VERSION = 1  # raise when the same recipe would give other weights
HOTTEST = math.log(100)  # CLIP's limit of the logarithm of the inverse temperature

Normalise = Callable[[Tensor], Tensor]  # uint8 pixels (N,3,H,W) -> what the encoder reads, on its device


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A pre-trained image encoder: its state dict, and per iteration the loss and the share of captions found."""

    state: dict[str, Tensor]
    losses: list[float]
    accuracies: list[float]


class TextBlock(nn.Module):
    """A pre-norm transformer block over earlier and own positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, h, T, d)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class TextEncoder(nn.Module):
    """Captions (N, T), right-padded, to vectors (N, W): the state at [SEP], which sees no padding."""

    def __init__(self, spec: ContrastiveSpec, vocab_size: int, positions: int, eos_id: int) -> None:
        super().__init__()
        self.eos_id = eos_id
        self.words, self.positions = nn.Embedding(vocab_size, spec.width), nn.Embedding(positions, spec.width)
        heads = max(1, spec.width // 64)
        self.blocks = nn.Sequential(*(TextBlock(spec.width, heads) for _ in range(spec.layers)))
        self.norm = nn.LayerNorm(spec.width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks(self.words(tokens) + self.positions.weight[: tokens.shape[1]])
        ends = (tokens == self.eos_id).int().argmax(1)
        return self.norm(x[torch.arange(len(x), device=x.device), ends])


class PairEncoder(nn.Module):
    """Image and text encoder with their projections into the common space."""

    def __init__(
        self, encoder: EncoderSpec, recipe: ContrastiveSpec, vocab_size: int, positions: int, eos_id: int
    ) -> None:
        super().__init__()
        self.encoder = ImageEncoder(encoder)
        self.text = TextEncoder(recipe, vocab_size, positions, eos_id)
        self.image_projection = nn.Linear(encoder.width, recipe.embedding, bias=False)
        self.text_projection = nn.Linear(recipe.width, recipe.embedding, bias=False)
        self.scale = nn.Parameter(torch.tensor(-math.log(recipe.temperature)))

    def embed(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of normalised images (N,3,H,W) and captions (N,T): each (N, E) float32."""
        image = self.image_projection(self.encoder(images)[:, 0])
        text = self.text_projection(self.text(tokens))
        return F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)

    def similarities(self, image: Tensor, text: Tensor) -> Tensor:
        """Compare unit vectors, each (N, E): row i of (N, N) holds image i with all captions, over the temperature."""
        return self.scale.exp() * image @ text.T


def contrastive_loss(similarities: Tensor) -> Tensor:
    """Symmetric InfoNCE of similarities (N, N) whose pairs stand on the diagonal: a scalar in nats."""
    targets = torch.arange(len(similarities), device=similarities.device)
    return (F.cross_entropy(similarities, targets) + F.cross_entropy(similarities.T, targets)) / 2


def set_initial_values(model: PairEncoder, seed: int) -> None:
    """Set every parameter from (seed, name, shape): the image encoder's as a captioner's, the text's as CLIP's."""
    residual = (2 * max(1, len(model.text.blocks))) ** -0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(derive_seed("init", seed, name, *parameter.shape))
            if name.startswith("encoder."):
                parameter.copy_(initial_value(name, tuple(parameter.shape), generator))
            elif parameter.ndim > 1:
                deviation = {"words": 0.02, "positions": 0.01}.get(name.split(".")[-2], parameter.shape[-1] ** -0.5)
                deviation *= residual if name.endswith(("out.weight", "down.weight")) else 1
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
            elif name.endswith("bias"):
                parameter.zero_()  # the norms' weights and the temperature keep what they were made with


def pretrain(
    encoder: EncoderSpec,
    recipe: ContrastiveSpec,
    dataset: CaptionData,
    seed: int,
    device: torch.device,
    normalise: Normalise,
    workers: int = 0,
) -> Pretrained:
    """Train a `PairEncoder` on the images of a training split, one caption each, and return its image encoder.

    Errors: fewer than two images, which leave nothing to tell apart.
    """
    pairs = copy.copy(dataset)
    pairs.seed, pairs.captions_per_image, pairs._order = seed, 1, None
    batches = list(_batches(len(pairs), recipe))
    loader: DataLoader = DataLoader(
        pairs,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )
    positions = dataset.text_spec.max_tokens + 2
    with torch.random.fork_rng(devices=[]):  # torch draws values that are replaced at once
        model = PairEncoder(encoder, recipe, dataset.tokenizer.vocab_size, positions, dataset.eos_id)
    set_initial_values(model, seed)
    model.to(device).train()
    optimizer = _optimizer(model, recipe)
    losses, accuracies = [], []
    for step, batch in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * warmup_cosine(step, recipe.warmup, recipe.iterations)
        tokens = batch["tokens"][:, 0].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            vectors = model.embed(normalise(batch["images"]), tokens)
        similarities = model.similarities(*vectors)  # in float32: the temperature multiplies rounding a hundredfold
        loss = contrastive_loss(similarities)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad)
        optimizer.step()
        with torch.no_grad():
            model.scale.clamp_(max=HOTTEST)
            found = similarities.argmax(1) == torch.arange(len(similarities), device=device)
        losses.append(loss.detach())
        accuracies.append(found.float().mean())
    state = {name: tensor.detach().cpu() for name, tensor in model.encoder.state_dict().items()}
    return Pretrained(state=state, losses=torch.stack(losses).tolist(), accuracies=torch.stack(accuracies).tolist())


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


def pretrained_path(
    encoder: EncoderSpec, recipe: ContrastiveSpec, dataset: CaptionData, seed: int, device: torch.device
) -> Path:
    """Return the cache file of a pre-trained encoder, named after everything that decides its bits."""
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    decisive = [
        json.dumps([dataclasses.asdict(encoder), dataclasses.asdict(recipe)], sort_keys=True),
        json.dumps(
            [dataset.crop_scale, dataset.store_size, dataset.data_spec.image_size, dataset.text_spec.max_tokens]
        ),
        dataset.source.fingerprint(),
        dataset.tokenizer.fingerprint(),
        f"{seed} {processor} {torch.__version__} {CONTRASTIVE_VERSION}",
    ]
    return cache_dir() / "encoders" / f"contrastive-{content_hash(decisive)[:20]}.pth"


def pretrained_encoder(
    encoder: EncoderSpec,
    recipe: ContrastiveSpec,
    dataset: CaptionData,
    seed: int,
    device: torch.device,
    normalise: Normalise,
    workers: int = 0,
) -> Pretrained:
    """Return the encoder from the cache, pre-trained first where it is missing or damaged; the bits are the same."""

    def make() -> Pretrained:
        print_log(f"contrastive pre-training: {recipe.iterations} x {recipe.batch_images} images", "current")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the order of float sums depends on it
        try:
            made = pretrain(encoder, recipe, dataset, seed, device, normalise, workers)
        finally:
            torch.set_num_threads(threads)
        tail = max(1, recipe.iterations // 10)
        loss, share = sum(made.losses[-tail:]) / tail, sum(made.accuracies[-tail:]) / tail
        print_log(f"contrastive pre-training: final loss {loss:.3f}, {share:.1%} of captions found", "current")
        return made

    path = pretrained_path(encoder, recipe, dataset, seed, device)
    try:
        return cached(path, lambda temporary: _save(make(), temporary), _load)
    except CacheUnwritable as error:
        print_log(f"{error}; the pre-trained encoder is not kept", "current")
        return make()


def _save(made: Pretrained, path: Path) -> None:
    torch.save({"format": "gitbench-encoder", **dataclasses.asdict(made)}, path)


def _load(path: Path) -> Pretrained:
    try:
        payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged") from error  # made again
    if payload.pop("format", None) != "gitbench-encoder":
        raise ValueError(f"{path} holds something else")
    return Pretrained(**payload)
