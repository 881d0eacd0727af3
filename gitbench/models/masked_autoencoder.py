"""Masked autoencoding (He et al. 2022): the encoder sees a quarter of the patches, a light decoder paints the others.

N images, P patches of p x p pixels of which K are shown, D image width, W width of the decoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.models.encoder import ImageEncoder
from gitbench.models.pair_encoder import Block
from gitbench.spec import PretrainSpec
from gitbench.variants.encoder import EncoderSpec


class MaskedAutoencoder(nn.Module):
    """Image encoder, and the decoder that paints hidden patches from its tokens."""

    def __init__(self, encoder: EncoderSpec, recipe: PretrainSpec) -> None:
        super().__init__()
        self.encoder = ImageEncoder(encoder)
        self.patch = encoder.patch
        self.patches = (encoder.image_size // encoder.patch) ** 2
        self.shown = max(1, round(self.patches * (1 - recipe.hidden)))
        width = recipe.width
        self.embed = nn.Linear(encoder.width, width)
        self.blank = nn.Parameter(torch.zeros(1, width))  # stands for a hidden patch
        self.positions = nn.Embedding(1 + self.patches, width)
        heads = max(1, width // 32)
        self.blocks = nn.Sequential(*(Block(width, heads, causal=False) for _ in range(recipe.layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3 * encoder.patch**2)

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return the mean squared error of the hidden patches' pixels, each patch at mean 0 and variance 1.

        images (N, 3, H, W) of the encoder's own size; noise (N, P): the patches with the least are shown.
        """
        order = noise.argsort(1)
        shown, hidden = order[:, : self.shown], order[:, self.shown :]
        seen = self.embed(self.encoder(images, shown))  # (N, 1 + K, W)
        blanks = self.blank.to(seen.dtype).expand(len(images), hidden.shape[1], -1)
        places = torch.cat([torch.zeros_like(order[:, :1]), 1 + order], 1)  # the decoder does not mind their order
        painted = self.norm(self.blocks(torch.cat([seen, blanks], 1) + self.positions(places)))
        painted = self.head(painted[:, 1 + self.shown :]).float()
        return F.mse_loss(painted, self._pixels(images, hidden))

    def _pixels(self, images: Tensor, patches: Tensor) -> Tensor:
        """Return the pixels of some patches, normalised in each: (N, patches, 3 p p) float32."""
        pixels = F.unfold(images.float(), self.patch, stride=self.patch).transpose(1, 2)  # (N, P, 3 p p)
        pixels = pixels.gather(1, patches[..., None].expand(-1, -1, pixels.shape[-1]))
        return (pixels - pixels.mean(-1, keepdim=True)) / (pixels.var(-1, keepdim=True) + 1e-6).sqrt()
