"""Caption generation: greedy and beam search with a cache, the official search's results without its wasted steps.

The official search (`GeneratorWithBeamSearch` in `layers/decoder.py`) differs from the usual one, and scores depend
on it:

* A hypothesis is worth sum(log p) / ((5 + len) / 6) ** length_penalty; len counts [CLS] and the prefix, not [SEP],
  while the sum holds the generated tokens and [SEP].
* Of the 2 * B best continuations, taken in order, [SEP] closes its beam into a hypothesis at any rank until B others
  have been taken. Only the best hypothesis is kept.
* `max_length` (official `max_steps`) counts [CLS], prefix, text and [SEP], so a hypothesis holds at most max_length -
  1 ids. One that is cut there is worth what it would be with its next best token, which it does not hold.
* A sentence is done when no open beam can still win: its sum is the most it can reach, the longest length the kindest
  norm.

What is left out changes no result: the official code looks at that bound one step late, carries finished sentences
along until all are finished, and recomputes image and text at every step. `beam_size` 1 is plain greedy search: the
best token at each step until [SEP]. The official search with one beam is not: after [SEP] it goes on with the
second-best token, and may return that longer text.

N sentences, B beams, P prefix length, V vocabulary, L ids so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gitbench.errors import GitbenchError
from gitbench.models.cache import STEPS_AHEAD, Memory

if TYPE_CHECKING:
    from gitbench.models.git import GIT

SHRINK = 0.75  # the batch is cut to its unfinished sentences when they are at most this share of it


def search(
    model: GIT, memory: Memory, prefix: Tensor, *, beam_size: int, length_penalty: float, max_length: int
) -> tuple[Tensor, Tensor]:
    """Generate a text per row of `prefix` (N, P): (sequences (N, L), scores (N,)); L: the longest text and one [SEP].

    `memory` (N rows or 1) comes from `GIT.image_memory`. `length_penalty` >= 0 favours longer texts as it grows.
    """
    if beam_size < 1 or 2 * beam_size > model.vocab_size:
        raise GitbenchError(
            f"beam_size {beam_size} is out of range: use 1 to {model.vocab_size // 2} (half the vocabulary)"
        )
    if length_penalty < 0:
        raise GitbenchError(f"length_penalty {length_penalty} is negative: use 0 or more")
    if max_length <= prefix.shape[1]:
        raise GitbenchError(f"max_length {max_length} leaves no room after a prefix of {prefix.shape[1]} ids: raise it")
    state = _Search(model, memory, prefix, beam_size, length_penalty, max_length)
    log_probs = state.read_prefix()
    while state.choose(log_probs):
        log_probs = state.step()
    return state.best_ids[:, : int(state.best_length.max()) + 1], state.best_score


class _Search:
    """The state of a running search: open beams of the unfinished sentences, and the best hypothesis of all."""

    def __init__(self, model: GIT, memory: Memory, prefix: Tensor, beams: int, penalty: float, max_length: int) -> None:
        rows, length = prefix.shape
        self.model, self.beams, self.penalty, self.max_length = model, beams, penalty, max_length
        room = length + beams * min(max_length - length, STEPS_AHEAD)
        self.cache = model.decoder.cache(memory, rows, room)
        self.ids = prefix[:, None]  # (N, B, L) open beams; one beam until the first choice
        device = prefix.device
        self.dtype = torch.promote_types(memory[0][0].dtype, torch.float32)
        self.sums = torch.zeros(rows, 1, dtype=self.dtype, device=device)  # (N, B) log-probabilities of the open beams
        self.origin = torch.arange(rows, device=device)  # row of the output that a row of the batch belongs to
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.best_ids = torch.full((rows, max_length), model.eos_id, device=device)
        self.best_length = torch.zeros(rows, dtype=torch.long, device=device)
        self.best_score = torch.full((rows,), -torch.inf, dtype=self.dtype, device=device)

    def read_prefix(self) -> Tensor:
        """Run the prefix, once per sentence; return the log-probabilities of the next token (N, 1, V)."""
        tokens = self.ids[:, 0]
        past = self.cache.visible.new_ones(1, tokens.shape[1], self.cache.used)
        causal = past.new_ones(1, tokens.shape[1], tokens.shape[1]).tril()
        self.cache.begin(torch.cat([past, causal], dim=2))
        hidden = self.model.decoder.continue_text(self.model.embedding(tokens), self.cache)
        seen = self.cache.visible.new_ones(tokens.shape[0], 1, self.cache.used + tokens.shape[1])
        self.cache.end(seen)
        return self._log_probs(hidden[:, -1:])

    def step(self) -> Tensor:
        """Run the newest token of every open beam; return the log-probabilities of the next one (N, B, V)."""
        rows, beams, length = self.ids.shape
        own = torch.eye(beams, dtype=torch.bool, device=self.ids.device).expand(rows, -1, -1)
        mask = torch.cat([self.cache.visible, own], dim=2)
        self.cache.begin(mask)
        newest = self.model.embedding(self.ids[:, :, -1].reshape(-1, 1), start=length - 1)
        hidden = self.model.decoder.continue_text(newest.view(rows, beams, -1), self.cache)
        self.cache.end(mask)
        return self._log_probs(hidden)

    def _log_probs(self, hidden: Tensor) -> Tensor:
        return self.model.head(hidden).to(self.dtype).log_softmax(-1)

    def choose(self, log_probs: Tensor) -> bool:
        """Close and continue beams with the next token's log-probabilities (N, B, V); False when all are finished."""
        length, beams, vocab = self.ids.shape[2], self.beams, log_probs.shape[2]
        greedy = beams == 1
        total = (self.sums[:, :, None] + log_probs).flatten(1)
        score, place = total.max(1, keepdim=True) if greedy else total.topk(2 * beams)  # best first
        parent, token = place // vocab, place % vocab
        closes = token == self.model.eos_id
        last = length + 1 == self.max_length
        if last:
            allowed = torch.ones_like(closes)
        else:
            taken_before = (~closes).long().cumsum(1) - (~closes).long()
            allowed = closes & (taken_before < beams)
        self._record(score, parent, allowed)
        if last:
            return False
        if greedy:
            self.done |= closes[:, 0]
            following = torch.zeros_like(place)
        else:
            following = (~closes).byte().argsort(dim=1, descending=True, stable=True)[:, :beams]
        score, parent, token = (x.gather(1, following) for x in (score, parent, token))
        self.sums = score
        self.ids = torch.cat([self._of_parent(self.ids, parent), token[:, :, None]], dim=2)
        self.cache.visible = self._of_parent(self.cache.visible, parent)
        if not greedy:
            reachable = score[:, 0] / self._norm(self.max_length - 1)
            self.done |= self.best_score[self.origin] >= reachable
        return self._shrink()

    def _norm(self, length: int) -> float:
        return ((5 + length) / 6) ** self.penalty

    @staticmethod
    def _of_parent(x: Tensor, parent: Tensor) -> Tensor:
        return x.gather(1, parent[:, :, None].expand(-1, -1, x.shape[2]))

    def _record(self, score: Tensor, parent: Tensor, allowed: Tensor) -> None:
        """Keep a sentence's first (in a step: best) closing candidate, if it beats the best so far."""
        length = self.ids.shape[2]
        value, first = score.masked_fill(~allowed, -torch.inf).max(1)
        value = value / self._norm(length)
        better = (value > self.best_score[self.origin]) & ~self.done
        rows = self.origin[better]
        beam = parent.gather(1, first[:, None])[better]
        self.best_score[rows] = value[better]
        self.best_length[rows] = length
        self.best_ids[rows] = self.model.eos_id
        self.best_ids[rows, :length] = self._of_parent(self.ids[better], beam)[:, 0]

    def _shrink(self) -> bool:
        """Let finished sentences leave the batch, when enough are; False when none is left."""
        left = int((~self.done).sum())
        if left and left <= SHRINK * len(self.done):
            rows = (~self.done).nonzero()[:, 0]
            self.ids, self.sums, self.origin, self.done = (
                x[rows] for x in (self.ids, self.sums, self.origin, self.done)
            )
            self.cache.keep(rows)
        return left > 0
