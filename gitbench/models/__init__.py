"""The models: `build_model("git_base")`, and how many parameters a model has and where."""

from __future__ import annotations

import dataclasses
from typing import Any

from gitbench.errors import lookup, unknown_name
from gitbench.models.git import GIT
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec

__all__ = ["GIT", "build_model", "parameter_counts"]

_DECODER = DecoderSpec(layers=6, width=768, heads=12, ffn=3072)  # the same in both official models
_MODELS = {
    "git_base": (EncoderSpec(width=768, layers=12, heads=12, patch=16, image_size=224), _DECODER),
    "git_large": (EncoderSpec(width=1024, layers=24, heads=16, patch=14, image_size=224), _DECODER),
}
_OPTIONS = ("vocab_size", "vision", "num_frames", "pad_id", "bos_id", "eos_id", "label_smoothing", "tied")


def build_model(name: str, **overrides: Any) -> GIT:
    """Build "git_base" or "git_large" (official shapes, BERT vocabulary of 30,522) with random weights, in eval mode.

    An override replaces one value: an argument of `GIT` (`vocab_size=512`, `num_frames=6`, ...), or a field of the
    encoder's or decoder's spec by its name and side (`encoder_image_size=480`, `decoder_layers=12`).
    """
    specs: dict[str, Any] = dict(zip(("encoder", "decoder"), lookup("model", name, _MODELS), strict=True))
    options: dict[str, Any] = {"vocab_size": 30522}
    known = [*_OPTIONS, *(f"{side}_{f.name}" for side, spec in specs.items() for f in dataclasses.fields(spec))]
    for key, value in overrides.items():
        side, _, field = key.partition("_")
        if key in _OPTIONS:
            options[key] = value
        elif key in known:
            specs[side] = dataclasses.replace(specs[side], **{field: value})
        else:
            raise unknown_name("model option", key, known)
    return GIT(**specs, **options).eval()


def parameter_counts(model: GIT) -> dict[str, int]:
    """Count a model's parameters: total, encoder, decoder (layers), embedding, projection, head, temporal.

    A tied head's weight is the word embedding and counts there.
    """
    parts = dict.fromkeys(("encoder", "decoder", "embedding", "projection", "head", "temporal"), 0)
    for name, parameter in model.named_parameters():
        parts[name.partition(".")[0].removesuffix("_bias").removesuffix("_weight")] += parameter.numel()
    return {"total": sum(parts.values()), **parts}
