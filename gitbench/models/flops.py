"""The floating-point operations that a forward pass of GIT needs, by formula.

Counted: matrix products (two operations per multiply-add), those of attention included, with causal attention at the
half that is needed. Not counted: norms, activations, softmax, embeddings, position resizing. An image costs
the same however many captions it has: it passes each self-attention layer once, of which the last makes only keys and
values; with cross-attention every layer does only that. A backward pass
costs twice the forward pass. Divided by a device's rate this bounds the speed; kernels may execute more operations.

s tokens an image and frame, S = F*s image tokens, k captions of T tokens, V vocabulary.
"""

from __future__ import annotations

from gitbench.models.git import GIT
from gitbench.variants.decoder import DecoderSpec


def flops_by_part(
    model: GIT, *, captions: int = 1, tokens: int = 20, image_size: int | None = None, frames: int = 1
) -> dict[str, float]:
    """Operations of one image's forward pass: encoder, projection, image_stream, text_stream, head (all k*T positions).

    `image_size` in pixels (square), by default the encoder's own.
    """
    vit, text = model.encoder.spec, model.decoder.spec
    patches = ((image_size or vit.image_size) // vit.patch) ** 2
    s, w, d = 1 + patches, vit.width, text.width
    image_tokens = frames * s
    block = 2 * s * (4 * w**2 + 2 * w * int(w * vit.mlp_ratio)) + 4 * s**2 * w
    return {
        "encoder": frames * (2 * patches * 3 * vit.patch**2 * w + vit.layers * block),
        "projection": 2 * image_tokens * w * d,
        **_decoder_flops(text, image_tokens, captions, tokens),
        "head": 2 * captions * tokens * d * model.vocab_size,
    }


def _decoder_flops(text: DecoderSpec, image_tokens: int, captions: int, tokens: int) -> dict[str, float]:
    d = text.width
    layer_per_token = 2 * (4 * d**2 + 2 * d * text.ffn)
    keys_values = image_tokens * 4 * d**2
    seen = image_tokens + (tokens + 1) / 2
    if text.attention == "cross":
        layer_per_text_token = layer_per_token + 4 * d**2  # the queries to the image, and what is made of the answer
        image_stream = text.layers * keys_values
    else:
        layer_per_text_token = layer_per_token
        image_layer = image_tokens * (layer_per_token + 4 * image_tokens * d)
        image_stream = (text.layers - 1) * image_layer + keys_values
    return {
        "image_stream": image_stream,
        "text_stream": text.layers * captions * tokens * (layer_per_text_token + 4 * seen * d),
    }


def forward_flops(model: GIT, **sizes: int) -> int:
    """Operations of one image's forward pass: the sum of `flops_by_part`, which explains the `sizes`."""
    return round(sum(flops_by_part(model, **sizes).values()))
