"""The tiny model of constant weights that most topics ask: sizes, and what it is given.

Two layers each, so that image tokens pass one whole layer of the decoder; a grid of 3 x 3 patches.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from gitbench.gate.exact.constant import fill, pictures, texts
from gitbench.models.git import GIT
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec

BOS, EOS, VOCABULARY = 1, 2, 40
ENCODER = EncoderSpec(width=16, layers=2, heads=2, patch=8, image_size=24)
DECODER = DecoderSpec(layers=2, width=24, heads=3, ffn=40, dropout=0.1, max_positions=32)
ATTENTIONS = ("self", "cross")


def tiny(attention: str = "self", device: str = "cpu", size: float = 0.5, **options: Any) -> GIT:
    """Return a model in eval mode and float64."""
    decoder = dataclasses.replace(DECODER, attention=attention)  # type: ignore[arg-type]
    ids = {"vocab_size": VOCABULARY, "bos_id": BOS, "eos_id": EOS}
    model = GIT(**{"encoder": ENCODER, "decoder": decoder, **ids, **options}).double().eval()
    fill(model, size)
    return model.to(device)


def batch(device: str, images: int = 2, each: int = 2, frames: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return images (N, 3, H, W), or films, with so many texts each: tokens (M, T), and what is predicted of them (M, T)."""
    shape = (images, frames, 3, 24, 24) if frames else (images, 3, 24, 24)
    tokens, predicted = texts(images * each, 9, VOCABULARY, BOS, EOS)
    return pictures(*shape).to(device), tokens.to(device), predicted.to(device)
