"""The image encoder: a CLIP-shaped Vision Transformer that keeps all its tokens.

timm's `VisionTransformer` with the shape of the official `CLIP/model.py`: patch convolution without bias, class
token, position embedding, a norm before the blocks, pre-norm blocks with QuickGELU, LayerNorm eps 1e-5, and the final
norm over every token (the official `grid_after_ln`), so an image becomes 1 + h * w tokens. CLIP's output projection
is left out: GIT never applies it.

The position embedding is resized at run time to whatever grid the image has, as the official code does: bicubic,
corners not aligned, no antialias, the class token's row untouched. Pixels beyond a multiple of the patch are dropped.

N images, H x W pixels, h x w patches, D width.
"""

from __future__ import annotations

import math
from functools import cache, partial

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from gitbench.errors import GitbenchError
from gitbench.models.fast_linear import speed_up
from gitbench.models.recompute import Recomputed
from gitbench.variants.encoder import EncoderSpec


class QuickGELU(nn.Module):
    """CLIP's x * sigmoid(1.702 x), written with SiLU: two passes over memory fewer forward, and three backward."""

    def __init__(self, inplace: bool = False) -> None:  # timm says which; never in place
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x * 1.702).mul_(1 / 1.702)


class ImageEncoder(Recomputed, VisionTransformer):
    """Images to tokens: (N, 3, H, W) normalised pixels -> (N, 1 + h*w, D)."""

    cls_token: nn.Parameter
    pos_embed: nn.Parameter

    def __init__(self, spec: EncoderSpec) -> None:
        if spec.width % spec.heads:
            raise GitbenchError(
                f"encoder width {spec.width} is not a multiple of its {spec.heads} heads: change one of them"
            )
        if spec.image_size < spec.patch:
            raise GitbenchError(
                f"encoder image_size {spec.image_size} is below its patch {spec.patch}: raise image_size"
            )
        super().__init__(
            img_size=spec.image_size,
            patch_size=spec.patch,
            embed_dim=spec.width,
            depth=spec.layers,
            num_heads=spec.heads,
            mlp_ratio=spec.mlp_ratio,
            num_classes=0,
            global_pool="",
            pre_norm=True,
            norm_layer=partial(LayerNorm, eps=1e-5),
            act_layer=QuickGELU,
            weight_init="skip",  # `gitbench.models.init` sets every value
        )
        self.spec = spec
        speed_up(self)

    def forward(self, images: Tensor, shown: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Encode (N, 3, H, W) to (N, 1 + h*w, D); an image smaller than a patch is an error.

        shown (N, K): the patches, counted by rows, of which alone an image consists, for tokens (N, 1 + K, D).
        """
        if min(images.shape[-2:]) < self.spec.patch:
            height, width = images.shape[-2:]
            raise GitbenchError(
                f"an image of {height} x {width} pixels is below the patch size {self.spec.patch}: enlarge it"
            )
        patches = self.patch_embed.proj(images)  # (N, D, h, w); the convolution drops incomplete patches
        grid = patches.shape[-2:]
        patches = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.positions(grid)
        if shown is not None:
            kept = tokens[:, 1:].gather(1, shown[..., None].expand(-1, -1, tokens.shape[-1]))
            tokens = torch.cat([tokens[:, :1], kept], dim=1)
        tokens = self.norm_pre(tokens)
        for block in self.blocks:
            tokens = self.through(block, tokens)
        return self.norm(tokens)

    def positions(self, grid: tuple[int, int] | torch.Size) -> Tensor:
        """Return the position embedding for a grid of h x w patches, (1, 1 + h*w, D), differentiable."""
        own = self.patch_embed.grid_size
        if tuple(grid) == tuple(own):
            return self.pos_embed
        first, rest = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if rest.device.type == "cuda":  # where the gradient of torch's own resizing adds in any order
            with torch.autocast("cuda", enabled=False):
                rest = resizing(tuple(own), tuple(grid)).to(rest) @ rest
        else:
            rest = resized(rest.transpose(1, 2).reshape(1, -1, *own), tuple(grid)).flatten(2).transpose(1, 2)
        return torch.cat([first, rest], dim=1)


def resized(tables: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Return tables (N, D, h, w) at another grid."""
    return F.interpolate(tables, size=grid, mode="bicubic", align_corners=False, antialias=False)


@cache
def resizing(own: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    """Return `resized` as the matrix that it is: (positions of `grid`, positions of `own`) float32."""
    count = math.prod(own)
    return resized(torch.eye(count).reshape(1, count, *own), grid).flatten(2)[0].T
