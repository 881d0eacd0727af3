"""Image and text encoder with a common space: what contrastive pre-training trains.

As in CLIP an image is its class token and a caption its [SEP], each projected linearly; the text encoder is causal. Or an
image is what one learned query takes of all its tokens, as in CoCa (Yu et al. 2022) and SigLIP (Zhai et al. 2023).

N images and captions, T tokens, P image tokens, W text width, D image width, E dimensions of the common space.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.models.encoder import ImageEncoder
from gitbench.spec import PretrainSpec
from gitbench.variants.encoder import EncoderSpec

HOTTEST = math.log(100)  # CLIP's limit of the logarithm of the inverse temperature
SIGMOID_SCALE, SIGMOID_BIAS = math.log(10), -10.0  # where SigLIP's start


def attention(q: Tensor, k: Tensor, v: Tensor, fused: bool, causal: bool = False) -> Tensor:
    """Attention of q (N, h, T, d) to k and v (N, h, P, d), written out where torch's fused one is slow."""
    if fused:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if causal:
        scores = scores + torch.full(scores.shape[-2:], -torch.inf, dtype=scores.dtype, device=scores.device).triu(1)
    return scores.softmax(-1) @ v


class Block(nn.Module):
    """A pre-norm transformer block; a causal one sees earlier and own positions alone."""

    fused_attn = True  # as in timm's blocks

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, h, T, d)
        seen = attention(q, k, v, self.fused_attn, self.causal)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class TextEncoder(nn.Module):
    """Captions (N, T), right-padded, to vectors (N, W): the state at [SEP], which sees no padding."""

    def __init__(self, recipe: PretrainSpec, vocab_size: int, positions: int, eos_id: int) -> None:
        super().__init__()
        self.eos_id, width = eos_id, recipe.width
        self.words, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(positions, width)
        heads = max(1, width // 64)
        self.blocks = nn.Sequential(*(Block(width, heads, causal=True) for _ in range(recipe.layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks(self.words(tokens) + self.positions.weight[: tokens.shape[1]])
        ends = (tokens == self.eos_id).int().argmax(1)
        return self.norm(x[torch.arange(len(x), device=x.device), ends])


class AttentionPool(nn.Module):
    """Image tokens (N, P, D) to one vector (N, D): attention of one learned query, heads 32 wide."""

    fused_attn = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // 32)
        self.query = nn.Parameter(torch.zeros(1, width))
        self.kv, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        query = self.query.unflatten(-1, (self.heads, -1)).transpose(0, 1)  # (h, 1, d)
        k, v = self.kv(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, h, P, d)
        seen = attention(query.to(k.dtype).expand(len(k), -1, -1, -1), k, v, self.fused_attn)
        return self.norm(self.out(seen.transpose(1, 2).flatten(2)[:, 0]))


class PairEncoder(nn.Module):
    """Image and text encoder with their projections into the common space."""

    def __init__(
        self, encoder: EncoderSpec, recipe: PretrainSpec, vocab_size: int, positions: int, eos_id: int
    ) -> None:
        super().__init__()
        self.encoder = ImageEncoder(encoder)
        self.pool = AttentionPool(encoder.width) if recipe.pooling == "attention" else None
        self.text = TextEncoder(recipe, vocab_size, positions, eos_id)
        self.image_projection = nn.Linear(encoder.width, recipe.embedding, bias=False)
        self.text_projection = nn.Linear(recipe.width, recipe.embedding, bias=False)
        self.sigmoid = recipe.loss == "sigmoid"
        self.scale = nn.Parameter(torch.tensor(SIGMOID_SCALE if self.sigmoid else -math.log(recipe.temperature)))
        self.bias = nn.Parameter(torch.tensor(SIGMOID_BIAS)) if self.sigmoid else None

    def images(self, images: Tensor) -> Tensor:
        """Unit vectors (N, E) float32 of normalised images (N, 3, H, W)."""
        tokens = self.encoder(images)
        seen = self.image_projection(tokens[:, 0] if self.pool is None else self.pool(tokens))
        return F.normalize(seen.float(), dim=-1)

    def captions(self, tokens: Tensor) -> Tensor:
        """Unit vectors (N, E) float32 of captions (N, T)."""
        return F.normalize(self.text_projection(self.text(tokens)).float(), dim=-1)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Return the loss of images (N, 3, H, W) and their captions (N, T): a scalar in nats."""
        with torch.no_grad():
            self.scale.clamp_(max=HOTTEST)
        image, caption = self.images(images), self.captions(tokens)
        # in float32: the temperature multiplies rounding a hundredfold
        with torch.autocast(image.device.type, enabled=False):
            similarities = self.scale.exp() * image @ caption.T
        return infonce(similarities) if self.bias is None else sigmoid_loss(similarities + self.bias)


def infonce(similarities: Tensor) -> Tensor:
    """Symmetric InfoNCE of similarities (N, N) whose pairs stand on the diagonal: a scalar in nats."""
    targets = torch.arange(len(similarities), device=similarities.device)
    return (F.cross_entropy(similarities, targets) + F.cross_entropy(similarities.T, targets)) / 2


def sigmoid_loss(similarities: Tensor) -> Tensor:
    """SigLIP's loss of logits (N, N), each a question of its own: is this the pair? Summed over captions, a mean of images."""
    signs = 2 * torch.eye(len(similarities), device=similarities.device) - 1
    return -F.logsigmoid(signs * similarities).sum() / len(similarities)
