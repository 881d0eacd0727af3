"""Tiny models with weights large enough that every part of them shows in the output."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gitbench.models.encoder import ImageEncoder
from gitbench.models.git import GIT
from gitbench.models.packed import pack
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec

BOS, EOS, VOCAB = 101, 102, 128
ENCODER = EncoderSpec(width=32, layers=2, heads=4, patch=8, image_size=32)
DECODER = DecoderSpec(layers=3, width=48, heads=4, ffn=96, max_positions=96)
both_attentions = pytest.mark.parametrize("attention", ["self", "cross"])


def tiny(seed: int = 0, scale: float = 0.15, attention: str = "self", **options: Any) -> GIT:
    """A GIT of 0.1 M parameters in eval mode; all its values, norms included, are random."""
    decoder = dataclasses.replace(DECODER, attention=attention)
    model = GIT(**{"encoder": ENCODER, "decoder": decoder, "vocab_size": VOCAB, **options})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * scale)
            if "norm" in name and name.endswith("weight"):
                value.add_(1)
    return model.eval()


def pictures(*shape: int, seed: int = 1) -> Tensor:
    """Random images."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def texts(count: int, length: int, seed: int = 2) -> Tensor:
    """Random texts that start with [CLS] and hold no special token."""
    tokens = torch.randint(1, 100, (count, length), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = BOS
    return tokens


def ragged(count: int, length: int, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Right-padded texts of different lengths, and what of them is to be predicted (all but [CLS], and [SEP])."""
    tokens, need = texts(count, length, seed), torch.zeros(count, length, dtype=torch.bool)
    for i in range(count):
        end = 2 + (i * 3) % (length - 2)
        tokens[i, end], tokens[i, end + 1 :] = EOS, 0
        need[i, 1 : end + 1] = True
    return tokens, need


def causal(length: int) -> Tensor:
    """What the tokens of a text see of it: (1, T, T)."""
    return torch.ones(1, length, length, dtype=torch.bool).tril()


def gradients(model: GIT) -> dict[str, Tensor]:
    """Gradients by name; a parameter that got none counts as zero."""
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def nll_of(model: GIT, images: Tensor, tokens: Tensor, need: Tensor) -> tuple[Tensor, Tensor]:
    """Each text's negative log-likelihood (M,) over its predicted tokens, and how many these are (M,)."""
    packed = pack(tokens, need, len(images), model.pad_id)
    return model.packed_nll(model.image_memory(images), packed, len(tokens))


def hf_config(transformers: Any, **options: Any) -> Any:
    """The config of a `GitForCausalLM` with the sizes of `tiny`."""
    vision = {
        "hidden_size": ENCODER.width,
        "intermediate_size": int(ENCODER.width * ENCODER.mlp_ratio),
        "num_hidden_layers": ENCODER.layers,
        "num_attention_heads": ENCODER.heads,
        "image_size": ENCODER.image_size,
        "patch_size": ENCODER.patch,
    }
    text = {
        "vocab_size": VOCAB,
        "hidden_size": DECODER.width,
        "num_hidden_layers": DECODER.layers,
        "num_attention_heads": DECODER.heads,
        "intermediate_size": DECODER.ffn,
        "max_position_embeddings": DECODER.max_positions,
    }
    ids = {"pad_token_id": 0, "bos_token_id": BOS}
    return transformers.GitConfig(vision_config=vision, **text, **{**ids, **options})


def encoder_file(path: Path, spec: EncoderSpec) -> str:
    """Write weights of an encoder of that size, all of one value, and return the path."""
    shapes = ImageEncoder(spec).state_dict()
    torch.save({name: torch.full(tensor.shape, 0.01) for name, tensor in shapes.items()}, path)
    return str(path)
