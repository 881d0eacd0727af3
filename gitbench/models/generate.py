"""Text generation: greedy and beam search with a cache, free ("official") or along the trie of a closed vocabulary.

**official**, the default. The official search (`GeneratorWithBeamSearch` in `layers/decoder.py`) differs from the usual
one, and scores depend on it:

* A hypothesis is worth sum(log p) / ((5 + len) / 6) ** length_penalty; len counts [CLS] and the prefix, not [SEP],
  while the sum holds the generated tokens and [SEP].
* Of the 2 * B best continuations, taken in order, [SEP] closes its beam into a hypothesis at any rank until B others
  have been taken. Only the best hypothesis is kept.
* `max_length` (official `max_steps`) counts [CLS], prefix, text and [SEP], so a hypothesis holds at most max_length -
  1 ids. One that is cut there is worth what it would be with its next best token, which it does not hold.
* A sentence is done when no open beam can still win: its sum is the most it can reach, the longest length the kindest
  norm.

What is left out changes no result: the official code looks at that bound one step late, carries finished sentences
along until all are finished, and recomputes image and text at every step. With one beam it is not greedy search: after
[SEP] it goes on with the second-best token, and may return that longer text. `greedy` is: the best token until [SEP].

**trie**, with a `vocabulary`. The same search, but a beam goes on only with tokens that lead to an entry, and every
result is one. The sum is the model's own log p(entry and [SEP] | image, prefix), not renormalised over the entries: use
length_penalty 0 to get it as the score. The official trie search alters the logits instead (see `trie.py`). With as
many beams as entries the result is the best entry of all. Where fewer continuations exist than beams, the beams left
over are dead (-inf) and never returned.

Prefixes of different lengths share a batch: each sentence has its own positions, its own length in the norm and its own
end at max_length, pads are hidden, and the result is that of each sentence alone.

N sentences, B beams, P longest prefix, T tokens generated so far, V vocabulary, K continuations of a beam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gitbench.errors import GitbenchError
from gitbench.models.cache import STEPS_AHEAD, Memory

if TYPE_CHECKING:
    from gitbench.models.git import GIT
    from gitbench.models.trie import Trie

SHRINK = 0.75  # the batch is cut to its unfinished sentences when they are at most this share of it


def search(
    model: GIT,
    memory: Memory,
    prefix: Tensor,
    *,
    beam_size: int,
    length_penalty: float,
    max_length: int,
    greedy: bool = False,
    vocabulary: Trie | None = None,
) -> tuple[Tensor, Tensor]:
    """Generate a text per row of `prefix` (N, P): (sequences (N, L), scores (N,)); L: the longest text and one [SEP].

    Rows of `prefix` start with [CLS] and are right-padded. `memory` (N rows or 1) comes from `GIT.image_memory`.
    `length_penalty` >= 0 favours longer texts as it grows; `greedy` leaves `beam_size` aside. With a `vocabulary` every
    text is one of its entries.
    """
    if length_penalty < 0:
        raise GitbenchError(f"length_penalty {length_penalty} is negative: use 0 or more")
    beam_size = 1 if greedy else beam_size
    given = _read(prefix, model)
    if max_length <= given.longest:
        raise GitbenchError(f"max_length {max_length} leaves no room after a prefix of {given.longest} ids: raise it")
    if vocabulary is None:
        if beam_size < 1 or 2 * beam_size > model.vocab_size:
            raise GitbenchError(
                f"beam_size {beam_size} is out of range: use 1 to {model.vocab_size // 2} (half the vocabulary)"
            )
    else:
        if beam_size < 1:
            raise GitbenchError(f"beam_size {beam_size} is out of range: use 1 or more")
        vocabulary.check(model.eos_id, model.vocab_size, given.longest, max_length)
        beam_size = min(beam_size, vocabulary.entries)  # that many find the best entry; more would all be dead
        vocabulary = vocabulary.to(prefix.device)
    state = _Search(model, memory, given, beam_size, length_penalty, max_length, vocabulary, greedy)
    log_probs = state.read_prefix()
    while state.choose(log_probs):
        log_probs = state.step()
    return state.sequences(), state.best_score


@dataclass(frozen=True, kw_only=True)
class _Prefix:
    """The given ids and how many there are of them; P is the longest."""

    ids: Tensor  # (N, P)
    lengths: Tensor  # (N,)
    shortest: int
    longest: int

    @property
    def ragged(self) -> bool:
        return self.shortest < self.longest


def _read(prefix: Tensor, model: GIT) -> _Prefix:
    """Measure prefixes (N, P), with one look at the device (none for a single column); pads must be at the end."""
    rows, width = prefix.shape
    if width == 1:
        return _Prefix(ids=prefix, lengths=prefix.new_ones(rows, dtype=torch.long), shortest=1, longest=1)
    given = prefix != model.pad_id
    lengths = given.sum(1)
    dense = (given == (torch.arange(width, device=prefix.device) < lengths[:, None])).all()
    shortest, longest, whole = torch.stack([lengths.min(), lengths.max(), dense.long()]).tolist()
    if not whole or not shortest:
        raise GitbenchError("a prefix holds [PAD] before its last id: each starts with [CLS] and is padded at its end")
    return _Prefix(ids=prefix[:, :longest], lengths=lengths, shortest=shortest, longest=longest)


class _Search:
    """The state of a running search: open beams of the unfinished sentences, and the best hypothesis of all."""

    def __init__(
        self,
        model: GIT,
        memory: Memory,
        prefix: _Prefix,
        beams: int,
        penalty: float,
        max_length: int,
        vocabulary: Trie | None,
        greedy: bool,
    ) -> None:
        rows, device = len(prefix.ids), prefix.ids.device
        self.model, self.prefix, self.vocabulary, self.greedy = model, prefix, vocabulary, greedy
        self.beams, self.penalty, self.max_length = beams, penalty, max_length
        self.final = max_length - 1 - prefix.shortest  # T at which the last sentence is cut, or has run out of entry
        if vocabulary is not None:
            self.final = min(self.final, vocabulary.longest)
        self.cache = model.decoder.cache(
            memory, rows, prefix.longest + beams * min(max_length - prefix.shortest, STEPS_AHEAD)
        )
        # of the rows of the batch, the unfinished sentences
        self.origin = torch.arange(rows, device=device)  # row of the output that a row of the batch belongs to
        self.given: int | Tensor = prefix.lengths if prefix.ragged else prefix.longest  # prefix length, (N,) or of all
        self.longest = prefix.longest  # the longest prefix of an unfinished sentence
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        # of the open beams; one until the first choice
        self.dtype = torch.promote_types(memory[0][0].dtype, torch.float32)
        self.text = torch.empty(rows, 1, 0, dtype=torch.long, device=device)  # (N, B, T)
        self.sums = torch.zeros(rows, 1, dtype=self.dtype, device=device)  # (N, B) log-probabilities
        self.nodes = None if vocabulary is None else torch.zeros_like(self.sums, dtype=torch.long)  # (N, B) in the trie
        # of all sentences
        self.best_text = torch.full((rows, self.final), model.eos_id, device=device)
        self.best_length = torch.zeros(rows, dtype=torch.long, device=device)  # of the text alone
        self.best_score = torch.full((rows,), -torch.inf, dtype=self.dtype, device=device)

    def read_prefix(self) -> Tensor:
        """Run the prefix, once per sentence; return the log-probabilities of the next token (N, 1, V)."""
        tokens, lengths = self.prefix.ids, self.prefix.lengths
        rows, width = tokens.shape
        past = self.cache.visible.new_ones(1, width, self.cache.used)
        causal = past.new_ones(1, width, width).tril()
        self.cache.begin(torch.cat([past, causal], dim=2))
        hidden = self.model.decoder.continue_text(self.model.embedding(tokens), self.cache)
        seen = self.cache.visible.new_ones(rows, 1, self.cache.used + width)
        if self.prefix.ragged:  # pads come last, so no id has seen one so far; from now on they are hidden
            column = torch.arange(width, device=tokens.device)
            seen[:, 0, self.cache.used :] = column < lengths[:, None]
            newest = hidden.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, hidden.shape[2]))
        else:
            newest = hidden[:, -1:]
        self.cache.end(seen)
        return self._log_probs(newest)

    def step(self) -> Tensor:
        """Run the newest token of every open beam; return the log-probabilities of the next one (N, B, V)."""
        rows, beams, _ = self.text.shape
        own = torch.eye(beams, dtype=torch.bool, device=self.text.device).expand(rows, -1, -1)
        mask = torch.cat([self.cache.visible, own], dim=2)
        self.cache.begin(mask)
        newest = self.model.embedding(self.text[:, :, -1].reshape(-1, 1), start=self._newest_position())
        hidden = self.model.decoder.continue_text(newest.view(rows, beams, -1), self.cache)
        self.cache.end(mask)
        return self._log_probs(hidden)

    def _newest_position(self) -> int | Tensor:
        """Where the newest tokens stand: one position for all, or one per beam (N * B,)."""
        _, beams, length = self.text.shape
        if not isinstance(self.given, Tensor):
            return self.given + length - 1
        self.model.embedding.check_length(self.longest + length)
        position = (self.given + length - 1).clamp(max=self.longest + length - 1)  # finished sentences may be longer
        return position.repeat_interleave(beams)

    def _log_probs(self, hidden: Tensor) -> Tensor:
        return self.model.head(hidden).to(self.dtype).log_softmax(-1)

    def choose(self, log_probs: Tensor) -> bool:
        """Close and continue beams with the next token's log-probabilities (N, B, V); False when all are finished."""
        score, parent, token, node = self._candidates(log_probs)
        closes = token == self.model.eos_id
        others_before = (~closes).cumsum(1) - (~closes).long()
        allowed = closes & (others_before < self.beams)
        length = self.given + self.text.shape[2]
        cut = length + 1 == self.max_length  # for all, or (N,)
        if isinstance(cut, Tensor):
            allowed |= cut[:, None]
        elif cut:
            allowed = torch.ones_like(closes)
        self._record(score, parent, allowed, length)
        if self.text.shape[2] == self.final:
            return False
        if self.greedy:
            self.done |= closes[:, 0]
        else:
            following = (~closes).byte().argsort(dim=1, descending=True, stable=True)[:, : self.beams]
            score, parent, token = (x.gather(1, following) for x in (score, parent, token))
            node = None if node is None else node.gather(1, following)
            self.done |= self.best_score[self.origin] >= score[:, 0] / self._norm(self.max_length - 1)
            self.text, self.cache.visible = (self._of_parent(x, parent) for x in (self.text, self.cache.visible))
        if isinstance(cut, Tensor):
            self.done |= cut
        self.sums, self.nodes = score, node
        self.text = torch.cat([self.text, token[:, :, None]], dim=2)
        return self._shrink()

    def _candidates(self, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Find each sentence's best continuations, best first: scores, parent beams, tokens, trie nodes; (N, 2 B).

        At most B of them close a beam, since each beam has one [SEP]. Greedy search needs only the best, (N, 1).
        """
        if self.vocabulary is None or self.nodes is None:
            total, width = self.sums[:, :, None] + log_probs, log_probs.shape[2]
        else:
            # as many as there are, and enough for 2 B in all, from one beam or from B
            width = max(self.vocabulary.widths[self.text.shape[2]], 2 * self.beams // self.sums.shape[1])
            tokens, targets, exists = self.vocabulary.continuations(self.nodes, width)
            total = (self.sums[:, :, None] + log_probs.gather(2, tokens)).masked_fill(~exists, -torch.inf)
        total = total.flatten(1)
        score, place = total.max(1, keepdim=True) if self.greedy else total.topk(2 * self.beams)
        if self.nodes is None:
            return score, place // width, place % width, None
        return score, place // width, tokens.flatten(1).gather(1, place), targets.flatten(1).gather(1, place)

    def _norm(self, length: int | Tensor) -> float | Tensor:
        if isinstance(length, Tensor):
            length = length.to(self.dtype)
        return ((5 + length) / 6) ** self.penalty

    @staticmethod
    def _of_parent(x: Tensor, parent: Tensor) -> Tensor:
        return x.gather(1, parent[:, :, None].expand(-1, -1, x.shape[2]))

    def _record(self, score: Tensor, parent: Tensor, allowed: Tensor, length: int | Tensor) -> None:
        """Keep a sentence's first (in a step: best) closing candidate, if it beats the best so far."""
        value, first = score.masked_fill(~allowed, -torch.inf).max(1)
        value = value / self._norm(length)
        better = (value > self.best_score[self.origin]) & ~self.done
        rows, generated = self.origin[better], self.text.shape[2]
        beam = parent.gather(1, first[:, None])[better]
        self.best_score[rows] = value[better]
        self.best_length[rows] = generated
        self.best_text[rows] = self.model.eos_id
        self.best_text[rows, :generated] = self._of_parent(self.text[better], beam)[:, 0]

    def _shrink(self) -> bool:
        """Let finished sentences leave the batch, when enough are; False when none is left."""
        unfinished = ~self.done
        if isinstance(self.given, Tensor):
            left, self.longest = torch.stack([unfinished.sum(), (self.given * unfinished).max()]).tolist()
        else:
            left = int(unfinished.sum())
        if left and left <= SHRINK * len(self.done):
            rows = unfinished.nonzero()[:, 0]
            self.text, self.sums, self.origin, self.done = (
                x[rows] for x in (self.text, self.sums, self.origin, self.done)
            )
            if self.nodes is not None:
                self.nodes = self.nodes[rows]
            if isinstance(self.given, Tensor):
                self.given = self.given[rows]
            self.cache.keep(rows)
        return left > 0

    def sequences(self) -> Tensor:
        """Put prefixes and best texts together, without pads, filled up with [SEP], (N, L)."""
        lengths, width = self.prefix.lengths[:, None], self.prefix.longest
        longest = int((self.prefix.lengths + self.best_length).max())
        joined = torch.nn.functional.pad(
            torch.cat([self.prefix.ids, self.best_text], dim=1), (0, 1), value=self.model.eos_id
        )
        column = torch.arange(longest + 1, device=joined.device).expand(len(joined), -1)
        column = column + (column >= lengths) * (width - lengths)  # texts start behind the pads
        return joined.gather(1, column.clamp(max=joined.shape[1] - 1))
