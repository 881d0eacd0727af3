"""The paper's second decoder (p. 36): text attends to earlier text, and then, in an attention of its own, to the image.

Per layer: causal self-attention over the text, cross-attention from the text to the projected image tokens,
feed-forward; after each of the three its dropout, residual sum and LayerNorm (eps 1e-12), as in `decoder.py`. Image
tokens never attend to each other and no layer changes them, so `image_memory` is one projection per layer: keys and
values of an image are made once, however many captions or beams look at it.

What is the same in both decoders (qkv, out, norm1, up, down, norm2) has the same name, shape and initial values. A layer
has 4 D^2 + 6 D parameters more than a self-attention layer.

N images (rows), S image tokens, Q text tokens a row, h heads, d head width, D = h*d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.models.cache import Memory, additive
from gitbench.models.decoder import Attend, Decoder, DecoderLayer
from gitbench.variants.decoder import DecoderSpec


class CrossAttentionLayer(DecoderLayer):
    """A post-norm layer of three parts: text, image, feed-forward."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__(spec)
        self.cross_q = nn.Linear(spec.width, spec.width)
        self.cross_kv = nn.Linear(spec.width, 2 * spec.width)
        self.cross_out = nn.Linear(spec.width, spec.width)
        self.norm_cross = nn.LayerNorm(spec.width, eps=1e-12)

    def see(self, x: Tensor, image: tuple[Tensor, Tensor], dropout: float) -> Tensor:
        """Let text (N, Q, D) attend to an image's keys and values, (N or 1, h, S, d) each: (N, Q, D), normalised."""
        (q,) = self.split(self.cross_q(x), 1)
        k, v = (m.expand(len(x), -1, -1, -1) for m in image)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.norm_cross(x + self.dropout(self.cross_out(mixed.transpose(1, 2).flatten(2))))


class CrossAttentionDecoder(Decoder):
    """Layers in which text attends to text in one softmax and to the image in another."""

    layer_type: ClassVar[type[DecoderLayer]] = CrossAttentionLayer
    layers: Sequence[CrossAttentionLayer]
    image_in_slots: ClassVar[bool] = False

    def image_memory(self, image: Tensor) -> Memory:
        """Project image tokens (N, S, D) to every layer's keys and values; nothing else happens to an image."""
        return [(k, v) for k, v in (layer.split(layer.cross_kv(image), 2) for layer in self.layers)]

    def text(self, x: Tensor, memory: Memory, visible: Tensor) -> Tensor:
        """Run text tokens; see `Decoder.text`."""
        mask = additive(visible, memory[0][0].dtype)[:, None]

        def attend(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.attention_dropout)

        return self.run(x, attend, memory)

    def run(self, x: Tensor, attend: Attend, image: Memory) -> Tensor:
        """Run all layers over text tokens; see `Decoder.run`."""

        def one(i: int, layer: CrossAttentionLayer, x: Tensor) -> Tensor:
            x = layer.add_attended(x, attend(i, *layer.project(x)))
            x = layer.see(x, image[i], self.attention_dropout)
            return layer.feed_forward(x)

        for i, layer in enumerate(self.layers):
            x = self.through(one, i, layer, x)
        return x
