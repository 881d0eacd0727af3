"""The floating-point operations that a forward pass of a GIT needs, by the formula of `gitbench.flops`."""

from __future__ import annotations

from gitbench.flops import TOKENS, forward_parts
from gitbench.models.git import GIT


def flops_by_part(model: GIT, *, captions: int = 1, tokens: int = TOKENS) -> dict[str, float]:
    """Operations of one image's forward pass: encoder, projection, image_stream, text_stream, head (all k*T positions)."""
    parts = forward_parts(model.encoder.spec, model.decoder.spec, model.vocab_size, captions, tokens)
    found = {name: part.forward for name, part in parts.items()}
    return {"encoder": found.pop("patches") + found.pop("encoder"), **found}
