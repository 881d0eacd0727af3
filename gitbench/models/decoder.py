"""The text decoder: text embedding and self-attention layers over [image ; text].

The official decoder (`layers/decoder.py`) is a BERT encoder over image and text tokens in one sequence, with a mask:
image tokens see image tokens, text tokens see the image and earlier text. So an image token never depends on text,
and this file computes two streams:

* the image stream, once per image: `image_memory` gives the keys and values of every layer (the last layer's image
  hidden states, which nothing reads, are skipped);
* the text stream: `text` lets all captions of an image look at the same memory, without copying it per caption. The
  captions of an image are laid end to end as one row of queries; a block-causal mask keeps them apart.

Results and gradients equal those of one sequence per caption. In training an image's captions share its dropout.
Numbers that matter: text embedding LayerNorm eps 1e-8, projection 1e-5, layers 1e-12; erf GELU; dropout on hidden
states and on attention probabilities.

N images (rows), S image tokens, k captions an image, T tokens a caption, Q = k*T queries a row, h heads, d head
width, D = h*d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.errors import GitbenchError, unknown_name
from gitbench.spec import DecoderSpec

Memory = list[tuple[Tensor, Tensor]]  # per layer: keys and values of the image tokens, (N or 1, h, S, d)
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer number, q, k, v (N, h, Q, d) -> (N, h, Q, d)


class TextEmbedding(nn.Module):
    """Word + learned position (0 for [CLS]), LayerNorm eps 1e-8, dropout; no token types, no special padding row."""

    def __init__(self, spec: DecoderSpec, vocab_size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, spec.width)
        self.positions = nn.Embedding(spec.max_positions, spec.width)
        self.norm = nn.LayerNorm(spec.width, eps=1e-8)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Embed ids (M, T), whose first column stands at position `start`, to (M, T, D)."""
        end, limit = start + tokens.shape[1], self.positions.num_embeddings
        if end > limit:
            raise GitbenchError(
                f"a text of {end} tokens exceeds the decoder's {limit} positions: shorten it or raise max_positions"
            )
        return self.dropout(self.norm(self.words(tokens) + self.positions.weight[start:end]))


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
        return self._split(self.qkv(x), 3)

    def keys_values(self, x: Tensor) -> tuple[Tensor, ...]:
        """Keys and values only: all that the last layer needs from the image."""
        width = x.shape[-1]
        return self._split(F.linear(x, self.qkv.weight[width:], self.qkv.bias[width:]), 2)

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return x.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """From the attention's output (N, h, Q, d) to the layer's output (N, Q, D)."""
        x = self.norm1(x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))
        return self.norm2(x + self.dropout(self.down(F.gelu(self.up(x)))))


class SelfAttentionDecoder(nn.Module):
    """Layers in which text queries attend to [image ; text] in one softmax."""

    def __init__(self, spec: DecoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.layers: Sequence[DecoderLayer] = nn.ModuleList(  # type: ignore[assignment]
            DecoderLayer(spec) for _ in range(spec.layers)
        )

    @property
    def attention_dropout(self) -> float:
        return self.spec.dropout if self.training else 0.0

    def image_memory(self, image: Tensor) -> Memory:
        """Run the image stream over projected tokens (N, S, D); return every layer's keys and values."""
        memory: Memory = []
        for layer in self.layers[:-1]:
            q, k, v = layer.project(image)
            memory.append((k, v))
            image = layer.finish(image, F.scaled_dot_product_attention(q, k, v, dropout_p=self.attention_dropout))
        k, v = self.layers[-1].keys_values(image)
        memory.append((k, v))
        return memory

    def text(self, x: Tensor, memory: Memory, captions: int) -> Tensor:
        """Run the text stream over (N, Q, D), each row holding `captions` captions end to end; returns (N, Q, D).

        A memory of one row serves all N rows.
        """
        rows, queries = x.shape[:2]
        mask = block_causal_mask(memory[0][0].shape[2], queries // captions, captions, x.device)

        def attend(i: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            seen_k, seen_v = (
                torch.cat([m.expand(rows, -1, -1, -1), t], dim=2) for m, t in zip(memory[i], (k, v), strict=True)
            )
            return F.scaled_dot_product_attention(q, seen_k, seen_v, attn_mask=mask, dropout_p=self.attention_dropout)

        return self.run(x, attend)

    def run(self, x: Tensor, attend: Attend) -> Tensor:
        """Run all layers over text tokens (N, Q, D); `attend` supplies what they see (a batch, or a cache)."""
        for i, layer in enumerate(self.layers):
            x = layer.finish(x, attend(i, *layer.project(x)))
        return x


def block_causal_mask(image_tokens: int, length: int, captions: int, device: torch.device) -> Tensor:
    """Who sees whom, True = seen, (k*T, S + k*T): every query the image and its own caption's past, itself included."""
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    own = torch.kron(torch.eye(captions, dtype=torch.bool, device=device), causal)
    return torch.cat([own.new_ones(len(own), image_tokens), own], dim=1)


DECODERS: dict[str, type[SelfAttentionDecoder]] = {"self": SelfAttentionDecoder}


def build_decoder(spec: DecoderSpec) -> SelfAttentionDecoder:
    """Build the decoder that `spec.attention` names; an unknown name raises an error that offers the nearest."""
    if spec.attention not in DECODERS:
        raise unknown_name("decoder attention", spec.attention, DECODERS)
    if spec.width % spec.heads:
        raise GitbenchError(
            f"decoder width {spec.width} is not a multiple of its {spec.heads} heads: change one of them"
        )
    if spec.layers < 1:
        raise GitbenchError(f"a decoder of {spec.layers} layers cannot be built: use at least 1")
    return DECODERS[spec.attention](spec)
