"""Image encoder and a linear head that names the facts of an image: what supervised pre-training trains.

The head reads the class token alone, as ViT's does (Dosovitskiy et al. 2021), so that the other tokens of the last layer are
trained by nothing; a recipe's `pooling` concerns the contrastive objective.

N images, F facts, D image width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.models.encoder import ImageEncoder
from gitbench.variants.encoder import EncoderSpec


class FactClassifier(nn.Module):
    """Is each of `facts` facts true of an image? Answered from its class token, each by itself."""

    def __init__(self, encoder: EncoderSpec, facts: int) -> None:
        super().__init__()
        self.encoder = ImageEncoder(encoder)
        self.head = nn.Linear(encoder.width, facts)

    def forward(self, images: Tensor, truth: Tensor) -> Tensor:
        """Return the binary cross-entropy of images (N, 3, H, W) with their facts (N, F), 0 or 1: nats a fact."""
        logits = self.head(self.encoder(images)[:, 0])
        return F.binary_cross_entropy_with_logits(logits.float(), truth.float())
