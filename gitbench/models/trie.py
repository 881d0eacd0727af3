"""A closed vocabulary as a trie: which tokens may follow what is written so far, so that only its entries can be said.

Log-probabilities stay the model's own, over all its tokens: the official `TrieAutoRegressiveBeamSearch` lifts the
allowed ones by (max logit - min logit + 1), so that its scores mean nothing, and takes one image at a time.

The trie is three tensors (compressed rows), as large as the entries together, whatever the tokenizer's size. Edges out
of node n stand at `starts[n]` to `starts[n + 1]`. Node 0 is the root, the last node the end that every entry's [SEP]
leads to; it has no edges. The last edge is a dummy, into which missing continuations are turned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gitbench.errors import GitbenchError


@dataclass(frozen=True, kw_only=True, eq=False)
class Trie:
    """Entries of a closed vocabulary, each followed by [SEP]; made by `Trie.of`."""

    starts: Tensor  # (nodes + 1,) int64
    tokens: Tensor  # (edges + 1,) int64, the token on each edge
    targets: Tensor  # (edges + 1,) int64, the node that it leads to
    widths: tuple[int, ...]  # the largest number of edges out of one node, by depth; one number per possible step
    entries: int  # distinct ones
    eos_id: int

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], eos_id: int) -> Trie:
        """Build the trie of token sequences, given without [CLS] and [SEP]; equal ones count once.

        No sequence at all, an empty one, and one that holds `eos_id` or a negative id are one-line errors.
        """
        entries = dict.fromkeys(tuple(int(token) for token in sequence) for sequence in sequences)
        if not entries:
            raise GitbenchError("the closed vocabulary is empty: pass at least one entry")
        edges: list[dict[int, int]] = [{}]  # of each node: token -> node
        depth = [0]
        end = -1  # its number is known when all others are
        for entry in entries:
            if not entry:
                raise GitbenchError("an entry of the closed vocabulary has no tokens: drop it or give it a text")
            if eos_id in entry or min(entry) < 0:
                raise GitbenchError(
                    f"an entry of the closed vocabulary holds [SEP] ({eos_id}) or a negative id: {list(entry)}; pass the "
                    "tokenizer's ids of a text"
                )
            node = 0
            for token in entry:
                if token not in edges[node]:
                    edges[node][token] = len(edges)
                    edges.append({})
                    depth.append(depth[node] + 1)
                node = edges[node][token]
            edges[node][eos_id] = end
        widths = [0] * (max(depth) + 1)
        for out, level in zip(edges, depth, strict=True):
            widths[level] = max(widths[level], len(out))
        counts = torch.tensor([0, *map(len, edges), 0])
        targets = torch.tensor([node for out in edges for node in out.values()] + [end])
        return cls(
            starts=counts.cumsum(0),
            tokens=torch.tensor([token for out in edges for token in out] + [0 if eos_id else 1]),
            targets=targets.masked_fill(targets == end, len(edges)),
            widths=tuple(widths),
            entries=len(entries),
            eos_id=eos_id,
        )

    @property
    def longest(self) -> int:
        """Tokens of the longest entry, without [SEP]."""
        return len(self.widths) - 1

    def check(self, eos_id: int, vocab_size: int, prefix_length: int, max_length: int) -> None:
        """Raise an error if the model has other ids, or if a prefix, the longest entry and [SEP] need more room."""
        largest = int(self.tokens.max())
        if self.eos_id != eos_id or largest >= vocab_size:
            raise GitbenchError(
                f"the closed vocabulary ([SEP] {self.eos_id}, ids up to {largest}) does not fit the model "
                f"([SEP] {eos_id}, {vocab_size} ids): make it with the model's tokenizer"
            )
        needed = prefix_length + self.longest + 1
        if max_length < needed:
            raise GitbenchError(
                f"max_length {max_length} is too short for a prefix of {prefix_length} ids and the closed vocabulary's "
                f"longest entry of {self.longest} tokens: use {needed} or more"
            )

    def to(self, device: torch.device) -> Trie:
        """Return the same trie on a device (itself, if it is there)."""
        if self.tokens.device == device:
            return self
        moved = {name: getattr(self, name).to(device) for name in ("starts", "tokens", "targets")}
        return dataclasses.replace(self, **moved)

    def continuations(self, nodes: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """List what may follow at nodes (...): tokens, their nodes, and which of them exist, (..., width) each.

        `width` is at least the nodes' number of edges. A missing one has a token that is not [SEP], and leads to the
        end.
        """
        first = self.starts[nodes][..., None]
        edge = first + torch.arange(width, device=nodes.device)
        exists = edge < self.starts[nodes + 1][..., None]
        edge = edge.masked_fill(~exists, len(self.tokens) - 1)
        return self.tokens[edge], self.targets[edge], exists
