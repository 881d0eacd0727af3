"""The floating-point operations that a forward pass of GIT needs, by formula.

Counted: matrix products (two operations per multiply-add), those of attention included, with causal attention at the
half that is needed. Not counted: norms, activations, softmax, embeddings, position resizing. An image passes each
self-attention layer once, however many captions it has, and the last one makes only keys and values; with
cross-attention every layer does only that. A backward pass costs twice the forward pass.

s tokens an image, k captions of T tokens, V vocabulary.
"""

from __future__ import annotations

from gitbench.models.git import GIT


def flops_by_part(model: GIT, *, captions: int = 1, tokens: int = 20) -> dict[str, float]:
    """Operations of one image's forward pass: encoder, projection, image_stream, text_stream, head (all k*T positions)."""
    vit, text = model.encoder.spec, model.decoder.spec
    patches = (vit.image_size // vit.patch) ** 2
    s, w, d = 1 + patches, vit.width, text.width
    block = 2 * s * (4 * w**2 + 2 * w * int(w * vit.mlp_ratio)) + 4 * s**2 * w
    layer_per_token = 2 * (4 * d**2 + 2 * d * text.ffn)
    keys_values = s * 4 * d**2
    seen = s + (tokens + 1) / 2
    if text.attention == "cross":
        layer_per_text_token = layer_per_token + 4 * d**2  # the queries to the image, and what is made of the answer
        image_stream = text.layers * keys_values
    else:
        layer_per_text_token = layer_per_token
        image_layer = s * (layer_per_token + 4 * s * d)
        image_stream = (text.layers - 1) * image_layer + keys_values
    return {
        "encoder": 2 * patches * 3 * vit.patch**2 * w + vit.layers * block,
        "projection": 2 * s * w * d,
        "image_stream": image_stream,
        "text_stream": text.layers * captions * tokens * (layer_per_text_token + 4 * seen * d),
        "head": 2 * captions * tokens * d * model.vocab_size,
    }
