"""The text decoder: text embedding, what all decoders share, and self-attention layers over [image ; text].

The paper's second decoder is in `cross_attention.py`. The official one (`layers/decoder.py`) is a BERT encoder over
image and text tokens in one sequence, with a mask: image tokens see image tokens, text tokens see the image and earlier
text. So an image token never depends on text, and this file computes two streams:

* the image stream, once per image: `image_memory` gives the keys and values of every layer;
* the text stream: `text` lets all captions of an image, laid end to end (`packed.py`), look at the same memory.

Results and gradients equal those of one sequence per caption. In training an image's captions share its dropout.
Numbers that matter: text embedding LayerNorm eps 1e-8, projection 1e-5, layers 1e-12; erf GELU; dropout on hidden
states and on attention probabilities.

N images (rows), S image tokens, Q text tokens a row, h heads, d head width, D = h*d.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.errors import GitbenchError
from gitbench.models.cache import Memory, additive
from gitbench.models.fast_linear import linear
from gitbench.models.recompute import Recomputed
from gitbench.variants.decoder import DecoderSpec

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer number, q, k, v (N, h, Q, d) -> (N, h, Q, d)


class TextEmbedding(nn.Module):
    """Word + learned position (0 for [CLS]), LayerNorm eps 1e-8, dropout; no token types, no special padding row."""

    def __init__(self, spec: DecoderSpec, vocab_size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, spec.width)
        self.positions = nn.Embedding(spec.max_positions, spec.width)
        self.norm = nn.LayerNorm(spec.width, eps=1e-8)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, tokens: Tensor, start: int | Tensor = 0) -> Tensor:
        """Embed ids (M, T) to (M, T, D); their first column stands at position `start`, or each id at `start` (M, T).

        Positions given as a tensor are not checked: that would wait for the device.
        """
        if isinstance(start, Tensor):
            positions = self.positions(start)
        else:
            end = start + tokens.shape[1]
            self.check_length(end)
            positions = self.positions.weight[start:end]
        return self.dropout(self.norm(self.words(tokens) + positions))

    def check_length(self, length: int) -> None:
        """Raise an error if a text of so many ids has no positions here."""
        limit = self.positions.num_embeddings
        if length > limit:
            raise GitbenchError(
                f"a text of {length} tokens exceeds the decoder's {limit} positions: shorten it or raise max_positions"
            )


class DecoderLayer(nn.Module):
    """One post-norm BERT layer, in two halves between which the caller decides what is attended to."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.qkv = nn.Linear(spec.width, 3 * spec.width)
        self.out = nn.Linear(spec.width, spec.width)
        self.norm1 = nn.LayerNorm(spec.width, eps=1e-12)
        self.up = nn.Linear(spec.width, spec.ffn)
        self.down = nn.Linear(spec.ffn, spec.width)
        self.norm2 = nn.LayerNorm(spec.width, eps=1e-12)
        self.dropout = nn.Dropout(spec.dropout)

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys, values of (N, Q, D), each (N, h, Q, d)."""
        return self.split(self.qkv(x), 3)

    def keys_values(self, x: Tensor) -> tuple[Tensor, ...]:
        """Keys and values only: all that the last layer needs from the image."""
        if not isinstance(self.qkv, nn.Linear):  # an adapter stands beside it, of which a part is not to be had
            return self.split(self.qkv(x), 3)[1:]
        width = x.shape[-1]
        return self.split(linear(x, self.qkv.weight[width:], self.qkv.bias[width:]), 2)

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """From (N, Q, parts * D) to that many (N, h, Q, d)."""
        return x.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def add_attended(self, x: Tensor, mixed: Tensor) -> Tensor:
        """From the attention's output (N, h, Q, d) to the feed-forward part's input (N, Q, D)."""
        return self.norm1(x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.norm2(x + self.dropout(self.down(F.gelu(self.up(x)))))

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """From the attention's output (N, h, Q, d) to the layer's output (N, Q, D)."""
        return self.feed_forward(self.add_attended(x, mixed))


class Decoder(Recomputed, ABC):
    """What `GIT` and the search ask of a decoder, however its text comes to see the image."""

    layer_type: ClassVar[type[DecoderLayer]] = DecoderLayer
    image_in_slots: ClassVar[bool] = True  # of a cache; otherwise the image stands beside them

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.layers: Sequence[DecoderLayer] = nn.ModuleList(  # type: ignore[assignment]
            self.layer_type(spec) for _ in range(spec.layers)
        )

    @property
    def attention_dropout(self) -> float:
        return self.spec.dropout if self.training else 0.0

    @abstractmethod
    def image_memory(self, image: Tensor) -> Memory:
        """Every layer's keys and values of projected image tokens (N, S, D): all that texts need of an image."""

    @abstractmethod
    def text(self, x: Tensor, memory: Memory, visible: Tensor) -> Tensor:
        """Run text tokens (N, Q, D), each seeing its image and the tokens `visible` (N or 1, Q, Q), to (N, Q, D).

        A memory of one row serves all N rows.
        """

    @abstractmethod
    def run(self, x: Tensor, attend: Attend, image: Memory) -> Tensor:
        """Run all layers over text tokens (N, Q, D): `attend` supplies what they see, `image` what is not among that."""


class SelfAttentionDecoder(Decoder):
    """Layers in which text queries attend to [image ; text] in one softmax."""

    def image_memory(self, image: Tensor) -> Memory:
        """Run the image stream over projected tokens (N, S, D); return every layer's keys and values."""

        def one(layer: DecoderLayer, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            q, k, v = layer.project(image)
            mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.attention_dropout)
            return layer.finish(image, mixed), k, v

        memory: Memory = []
        for layer in self.layers[:-1]:
            image, k, v = self.through(one, layer, image)
            memory.append((k, v))
        k, v = self.layers[-1].keys_values(image)
        memory.append((k, v))
        return memory

    def text(self, x: Tensor, memory: Memory, visible: Tensor) -> Tensor:
        """Run the text stream; see `Decoder.text`."""
        image = memory[0][0]
        mask = additive(F.pad(visible, (image.shape[2], 0), value=True), image.dtype)[:, None]

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            seen_k, seen_v = (
                torch.cat([m.expand(len(x), -1, -1, -1), t], dim=2) for m, t in zip(memory[i], (k, v), strict=True)
            )
            return F.scaled_dot_product_attention(q, seen_k, seen_v, attn_mask=mask, dropout_p=self.attention_dropout)

        return self.run(x, attend, [])

    def run(self, x: Tensor, attend: Attend, image: Memory) -> Tensor:
        """Run all layers over text tokens; see `Decoder.run`. The image is among what `attend` supplies."""

        def one(i: int, layer: DecoderLayer, x: Tensor) -> Tensor:
            return layer.finish(x, attend(i, *layer.project(x)))

        for i, layer in enumerate(self.layers):
            x = self.through(one, i, layer, x)
        return x
