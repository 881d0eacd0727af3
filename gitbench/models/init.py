"""Initial values: every tensor a pure function of (seed, its name, its shape).

So two models share the initial value of every tensor that they have in common, whatever else differs between them,
and an ablation's arms start equal wherever they can. Nothing is read from or written to torch's global random state.

* Text side, as the official `layers/decoder.py` does it (measured, not as its docstring says): Linear and Embedding
  weights N(0, 0.02); Linear biases keep torch's default U(+-1/sqrt(inputs)); LayerNorm 1 and 0; temporal embedding 0.
  Decoders narrower than the official 768 take 0.02 * sqrt(768 / width), which keeps the size of what a layer puts out:
  with 0.02 attention in a decoder of width 96 starts all but uniform, and each layer's output is a fifth of its input.
* Image encoder, as OpenAI's `CLIP/model.py` builds it before training: class and position embedding N(0, width^-0.5),
  attention input weights Xavier-uniform with zero bias, zero bias after attention, all else torch's default.

A bias's own shape does not tell its layer's number of inputs, so that number is inferred: the feed-forward part is
four times the width, and the projection and the output head have the 768 inputs of GIT-base. At the official base sizes
this is exactly the official scheme. In the `cross_*_matched` variants (feed-forward twice the width) up.bias starts
sqrt(2) wider and down.bias sqrt(2) narrower than torch's default would be.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gitbench.seeding import derive_seed

STD = 0.02
BASE_WIDTH = 768
FFN_RATIO = 4
Draw = Callable[[str, tuple[int, ...], torch.Generator], Tensor | None]


def initial_value(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw the initial value of the parameter `name` of a `GIT`, float32."""
    layer, _, kind = name.rpartition(".")
    if name == "temporal":
        return torch.zeros(shape)
    if "norm" in layer.rpartition(".")[2] or layer == "projection.1":
        return torch.ones(shape) if kind == "weight" else torch.zeros(shape)
    if name.startswith("encoder."):
        return _encoder_value(layer, kind, shape, generator)
    if len(shape) > 1:
        width = shape[0] if layer.endswith("down") else shape[-1]
        return torch.randn(shape, generator=generator).mul_(STD * max(1.0, BASE_WIDTH / width) ** 0.5)
    return _uniform(shape, _bias_inputs(layer, shape[0]) ** -0.5, generator)


def initialise(model: nn.Module, seed: int, draw: Draw = initial_value) -> None:
    """Set every parameter in place; values are drawn on the CPU in float32 and so equal on every device.

    Where `draw` (name, shape, generator) gives None, the parameter keeps its value.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(derive_seed("init", seed, name, *parameter.shape))
            value = draw(name, tuple(parameter.shape), generator)
            if value is not None:
                parameter.copy_(value)


def initialise_pretraining(model: nn.Module, seed: int, layers: int) -> None:
    """Set the values of what trains an image encoder: the `encoder` as a captioner's, the rest as CLIP's text encoder.

    layers: of the rest, whose residual branches are scaled by their number. Norms keep 1 and 0, single numbers their value.
    """
    residual = (2 * max(1, layers)) ** -0.5

    def draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        if name.startswith("encoder."):
            return initial_value(name, shape, generator)
        if len(shape) > 1:
            deviation = {"words": 0.02, "positions": 0.01}.get(name.split(".")[-2:][0], shape[-1] ** -0.5)
            deviation *= residual if name.endswith(("out.weight", "down.weight")) else 1
            return torch.randn(shape, generator=generator) * deviation
        return torch.zeros(shape) if name.endswith("bias") and shape else None

    initialise(model, seed, draw)


def _encoder_value(layer: str, kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if kind in ("cls_token", "pos_embed"):
        return torch.randn(shape, generator=generator).mul_(shape[-1] ** -0.5)
    if kind == "bias":
        if ".attn." in layer:
            return torch.zeros(shape)
        return _uniform(shape, _bias_inputs(layer, shape[0]) ** -0.5, generator)
    if layer.endswith("attn.qkv"):
        return _uniform(shape, math.sqrt(6 / sum(shape)), generator)
    return _uniform(shape, math.prod(shape[1:]) ** -0.5, generator)


def _bias_inputs(layer: str, outputs: int) -> float:
    """Return the number of inputs of a Linear whose bias has `outputs` values."""
    part = layer.rpartition(".")[2]
    ratio = {"qkv": 1 / 3, "cross_kv": 1 / 2} | dict.fromkeys(("out", "cross_q", "cross_out"), 1.0)
    ratio |= dict.fromkeys(("up", "fc1"), 1 / FFN_RATIO) | dict.fromkeys(("down", "fc2"), float(FFN_RATIO))
    return outputs * ratio[part] if part in ratio else BASE_WIDTH


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator).mul_(2 * bound).sub_(bound)
