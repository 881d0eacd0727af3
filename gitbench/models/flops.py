"""The floating-point operations that a forward pass of GIT needs, by formula.

Counted: matrix products (two operations per multiply-add), those of attention included, with causal attention at the
half that is needed. Not counted: norms, activations, softmax, embeddings, position resizing. Each image passes each
layer once, however many captions it has; the last decoder layer makes only keys and values of it. A backward pass
costs twice the forward pass. Divided by a device's rate this is the limit on speed; what a kernel really executes can
be more.

s tokens an image and frame, S = F*s image tokens, k captions of T tokens, V vocabulary.
"""

from __future__ import annotations

from gitbench.models.git import GIT


def flops_by_part(
    model: GIT, *, captions: int = 1, tokens: int = 20, image_size: int | None = None, frames: int = 1
) -> dict[str, float]:
    """Operations of one image's forward pass: encoder, projection, image_stream, text_stream, head (all k*T positions).

    `image_size` in pixels (square), by default the encoder's own.
    """
    vit, text = model.encoder.spec, model.decoder.spec
    patches = ((image_size or vit.image_size) // vit.patch) ** 2
    s, w, d = 1 + patches, vit.width, text.width
    image_tokens, queries = frames * s, captions * tokens
    block = 2 * s * (4 * w**2 + 2 * w * int(w * vit.mlp_ratio)) + 4 * s**2 * w
    layer_per_token = 2 * (4 * d**2 + 2 * d * text.ffn)
    image_layer = image_tokens * (layer_per_token + 4 * image_tokens * d)
    seen = image_tokens + (tokens + 1) / 2
    return {
        "encoder": frames * (2 * patches * 3 * vit.patch**2 * w + vit.layers * block),
        "projection": 2 * image_tokens * w * d,
        "image_stream": (text.layers - 1) * image_layer + image_tokens * 4 * d**2,
        "text_stream": text.layers * queries * (layer_per_token + 4 * seen * d),
        "head": 2 * queries * d * model.vocab_size,
    }


def forward_flops(
    model: GIT, *, captions: int = 1, tokens: int = 20, image_size: int | None = None, frames: int = 1
) -> int:
    """Operations of one image's forward pass with `captions` texts of `tokens` tokens: the sum of `flops_by_part`."""
    return round(
        sum(flops_by_part(model, captions=captions, tokens=tokens, image_size=image_size, frames=frames).values())
    )
