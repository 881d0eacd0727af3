"""Image and text encoder with a common space: what contrastive pre-training trains, as CLIP has it.

As in CLIP an image is its class token, a caption its [SEP], each projected linearly; the text encoder is causal.

N images and captions, T tokens, W text width, E dimensions of the common space.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.models.encoder import ImageEncoder
from gitbench.models.init import initial_value, initialise
from gitbench.spec import ContrastiveSpec
from gitbench.variants.encoder import EncoderSpec

HOTTEST = math.log(100)  # CLIP's limit of the logarithm of the inverse temperature


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
        """Unit vectors of normalised images (N,3,H,W) and captions (N,T): each (N, E) float32.

        A film (N,F,3,H,W) is the mean of its frames' class tokens.
        """
        if images.ndim == 5:
            seen = self.encoder(images.flatten(0, 1))[:, 0].unflatten(0, images.shape[:2]).mean(1)
        else:
            seen = self.encoder(images)[:, 0]
        image = self.image_projection(seen)
        text = self.text_projection(self.text(tokens))
        return F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)


def contrastive_loss(similarities: Tensor) -> Tensor:
    """Symmetric InfoNCE of similarities (N, N) whose pairs stand on the diagonal: a scalar in nats."""
    targets = torch.arange(len(similarities), device=similarities.device)
    return (F.cross_entropy(similarities, targets) + F.cross_entropy(similarities.T, targets)) / 2


def set_initial_values(model: PairEncoder, seed: int) -> None:
    """Set every parameter from (seed, name, shape): the image encoder's as a captioner's, the text's as CLIP's."""
    residual = (2 * max(1, len(model.text.blocks))) ** -0.5

    def draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        if name.startswith("encoder."):
            return initial_value(name, shape, generator)
        if len(shape) > 1:
            deviation = {"words": 0.02, "positions": 0.01}.get(name.split(".")[-2], shape[-1] ** -0.5)
            deviation *= residual if name.endswith(("out.weight", "down.weight")) else 1
            return torch.randn(shape, generator=generator) * deviation
        return torch.zeros(shape) if name.endswith("bias") else None  # norms' weights and temperature stay

    initialise(model, seed, draw)
