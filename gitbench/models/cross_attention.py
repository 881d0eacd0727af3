"""The paper's second decoder (p. 36): text attends to earlier text, and then, in an attention of its own, to the image.

Per layer: causal self-attention over the text, cross-attention from the text to the projected image tokens,
feed-forward; after each of the three its dropout, residual sum and LayerNorm (eps 1e-12), as in `decoder.py`. Image
tokens never attend to each other and no layer changes them, so `image_memory` is one projection per layer: keys and
values of an image are made once, however many captions or beams look at it.

What is the same in both decoders (qkv, out, norm1, up, down, norm2) has the same name and shape, so arms of a
replicate start with the same values there. qkv serves the text alone here; the image has `cross_kv`. A layer has
4 D^2 + 6 D parameters more than a self-attention layer.

N images (rows), S image tokens, Q text tokens a row, h heads, d head width, D = h*d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.models.cache import Cache, Memory
from gitbench.models.decoder import Attend, Decoder, DecoderLayer
from gitbench.variants.decoder import DecoderSpec

Look = Callable[[int, Tensor], Tensor]  # layer number, q (N, h, Q, d) -> what the image answers (N, h, Q, d)


class CrossAttentionLayer(DecoderLayer):
    """A post-norm layer of three parts: text, image, feed-forward."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__(spec)
        self.cross_q = nn.Linear(spec.width, spec.width)
        self.cross_kv = nn.Linear(spec.width, 2 * spec.width)
        self.cross_out = nn.Linear(spec.width, spec.width)
        self.norm_cross = nn.LayerNorm(spec.width, eps=1e-12)

    def cross_queries(self, x: Tensor) -> Tensor:
        """Text (N, Q, D) to the queries it puts to the image (N, h, Q, d)."""
        return self._split(self.cross_q(x), 1)[0]

    def cross_keys_values(self, image: Tensor) -> tuple[Tensor, ...]:
        """Projected image tokens (N, S, D) to this layer's keys and values of them, (N, h, S, d) each."""
        return self._split(self.cross_kv(image), 2)

    def add_seen(self, x: Tensor, mixed: Tensor) -> Tensor:
        """From the cross-attention's output (N, h, Q, d) to the feed-forward part's input (N, Q, D)."""
        return self.norm_cross(x + self.dropout(self.cross_out(mixed.transpose(1, 2).flatten(2))))


class CrossAttentionDecoder(Decoder):
    """Layers in which text attends to text in one softmax and to the image in another."""

    layer_type: ClassVar[type[DecoderLayer]] = CrossAttentionLayer
    layers: Sequence[CrossAttentionLayer]

    def image_memory(self, image: Tensor) -> Memory:
        """Project image tokens (N, S, D) to every layer's keys and values; nothing else happens to an image."""
        return [(k, v) for k, v in (layer.cross_keys_values(image) for layer in self.layers)]

    def text(self, x: Tensor, memory: Memory, visible: Tensor) -> Tensor:
        """Run text tokens; see `Decoder.text`."""
        mask = visible[:, None]

        def attend(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.attention_dropout)

        return self.run(x, attend, self._look_at(memory))

    def cache(self, memory: Memory, rows: int, room: int) -> Cache:
        """Start a cache of text slots, with the image beside them."""
        return Cache(memory, rows, room, image_in_slots=False)

    def continue_text(self, x: Tensor, cache: Cache) -> Tensor:
        """Run new text tokens; see `Decoder.continue_text`."""
        return self.run(x, cache.attend, self._look_at(cache.image))

    def run(self, x: Tensor, attend: Attend, look: Look) -> Tensor:
        """Run all layers over text tokens (N, Q, D): `attend` supplies the text that they see, `look` the image."""
        for i, layer in enumerate(self.layers):
            x = layer.add_attended(x, attend(i, *layer.project(x)))
            x = layer.add_seen(x, look(i, layer.cross_queries(x)))
            x = layer.feed_forward(x)
        return x

    def _look_at(self, memory: Memory) -> Look:
        def look(i: int, q: Tensor) -> Tensor:
            k, v = (m.expand(len(q), -1, -1, -1) for m in memory[i])
            return F.scaled_dot_product_attention(q, k, v, dropout_p=self.attention_dropout)

        return look
