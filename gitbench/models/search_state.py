"""The state of a running text search: what is computed at each step, and how a step chooses (see `generate.py`).

N sentences still in the batch, B beams, P longest prefix, T tokens generated so far, V vocabulary, K continuations of a
beam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gitbench.models.cache import STEPS_AHEAD, Cache, Memory
from gitbench.models.decoder import Decoder, TextEmbedding
from gitbench.models.trie import Trie

SHRINK = 0.75  # on a CPU the batch is cut to its unfinished sentences when they are at most this share of it


class TextModel(Protocol):
    """What a search asks of a model (of a `GIT`)."""

    embedding: TextEmbedding
    decoder: Decoder
    vocab_size: int
    pad_id: int
    eos_id: int

    def head(self, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """The given ids (N, P), padded at the end, and how many of them each row has (N,)."""

    ids: Tensor
    lengths: Tensor
    shortest: int
    longest: int  # P

    @property
    def ragged(self) -> bool:
        return self.shortest < self.longest


class _Best(NamedTuple):
    """The best hypothesis so far of each of N sentences."""

    text: Tensor  # (N, most tokens), filled up with [SEP]
    length: Tensor  # (N,) of the text alone
    score: Tensor  # (N,)


class _Finish:
    """Whether all sentences are finished, as a GPU says without being waited for.

    It is given its work ahead of time, and reading a number makes it empty its queue: tens of microseconds a token. So a
    copy is sent off instead and read a step or two later, when it has arrived. When that is depends on time, so it may
    decide of nothing but the end: what a finished sentence goes on to write is not recorded.
    """

    def __init__(self) -> None:
        self.sent: tuple[Tensor, Arrival] | None = None

    def reached(self, done: Tensor) -> bool:
        """Return whether all sentences (N,) were done when that was last sent off, if it has arrived."""
        if self.sent is not None:
            finished, arrival = self.sent
            if not arrival.query():
                return False
            if finished:
                return True
        self.sent = _sent(done.all())
        return False


class Arrival(Protocol):
    """What knows whether a copy has arrived (`torch.cuda.Event`)."""

    def query(self) -> bool: ...


def _sent(value: Tensor) -> tuple[Tensor, Arrival]:
    """Send a value off to the host; it may be read there once it has arrived."""
    copy, arrival = torch.empty(value.shape, dtype=value.dtype, pin_memory=True), torch.cuda.Event()
    copy.copy_(value, non_blocking=True)
    arrival.record()
    return copy, arrival


class Search:
    """The state of a running search: open beams of the unfinished sentences, and the best hypothesis of all."""

    def __init__(
        self,
        model: TextModel,
        memory: Memory,
        prefix: Prefix,
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
        room = prefix.longest + beams * min(max_length - prefix.shortest, STEPS_AHEAD)
        self.cache = Cache(memory, rows, room, image_in_slots=model.decoder.image_in_slots)
        # of the rows of the batch, the unfinished sentences
        self.origin = torch.arange(rows, device=device)  # row of the output that a row of the batch belongs to
        self.given: int | Tensor = prefix.lengths if prefix.ragged else prefix.longest  # prefix length, (N,) or of all
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        # of the open beams; one until the first choice
        self.dtype = torch.promote_types(memory[0][0].dtype, torch.float32)
        self.text = torch.empty(rows, 1, 0, dtype=torch.long, device=device)  # (N, B, T)
        self.sums = torch.zeros(rows, 1, dtype=self.dtype, device=device)  # (N, B) log-probabilities
        self.nodes = None if vocabulary is None else torch.zeros_like(self.sums, dtype=torch.long)  # (N, B) in the trie
        # the best hypotheses: of the rows of the batch, and of all sentences, where those go that leave the batch
        self.best = _Best(
            text=torch.full((rows, self.final), model.eos_id, device=device),
            length=torch.zeros(rows, dtype=torch.long, device=device),
            score=torch.full((rows,), -torch.inf, dtype=self.dtype, device=device),
        )
        self.found = self.best
        # on a GPU all sentences stay in the batch, whose size would else depend on time, and with it the last bits of sums
        self.finish = _Finish() if device.type == "cuda" else None

    def read_prefix(self) -> Tensor:
        """Run the prefix, once per sentence; return the log-probabilities of the next token (N, 1, V)."""
        tokens, lengths = self.prefix.ids, self.prefix.lengths
        rows, width = tokens.shape
        past = self.cache.visible.new_ones(1, width, self.cache.used)
        causal = past.new_ones(1, width, width).tril()
        self.cache.begin(torch.cat([past, causal], dim=2))
        hidden = self.model.decoder.run(self.model.embedding(tokens), self.cache.attend, self.cache.image)
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
        position: int | Tensor = self.given + self.text.shape[2] - 1
        if isinstance(position, Tensor):
            # only finished sentences are longer than max_length - 1
            position = position.clamp(max=self.max_length - 2).repeat_interleave(beams)[:, None]
        newest = self.model.embedding(self.text[:, :, -1].reshape(-1, 1), start=position)
        hidden = self.model.decoder.run(newest.view(rows, beams, -1), self.cache.attend, self.cache.image)
        self.cache.end(mask)
        return self._log_probs(hidden)

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
            self.done |= self.best.score >= score[:, 0] / self._norm(self.max_length - 1)
            self.text, self.cache.visible = (self._of_parent(x, parent) for x in (self.text, self.cache.visible))
        if isinstance(cut, Tensor):
            self.done |= cut
        self.sums, self.nodes = score, node
        self.text = torch.cat([self.text, token[:, :, None]], dim=2)
        return self._unfinished()

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
        better = (value > self.best.score) & ~self.done
        text = self._of_parent(self.text, parent.gather(1, first[:, None]))[:, 0]
        text = F.pad(text, (0, self.final - text.shape[1]), value=self.model.eos_id)
        self.best = _Best(
            text=torch.where(better[:, None], text, self.best.text),
            length=self.best.length.masked_fill(better, self.text.shape[2]),
            score=torch.where(better, value, self.best.score),
        )

    def _unfinished(self) -> bool:
        """Let finished sentences leave the batch, when enough are; False when none is left."""
        if self.finish is not None:
            return not self.finish.reached(self.done)
        unfinished = ~self.done
        left = int(unfinished.sum())
        if left and left <= SHRINK * len(self.done):
            self._store()
            rows = unfinished.nonzero()[:, 0]
            self.text, self.sums, self.origin, self.done = (
                x[rows] for x in (self.text, self.sums, self.origin, self.done)
            )
            self.best = _Best(*(x[rows] for x in self.best))
            if self.nodes is not None:
                self.nodes = self.nodes[rows]
            if isinstance(self.given, Tensor):
                self.given = self.given[rows]
            self.cache.keep(rows)
        return left > 0

    def _store(self) -> None:
        """Put the best hypotheses of the batch to their places among all sentences."""
        if len(self.origin) == len(self.prefix.ids):  # nobody has left so far: these are all
            self.found = self.best
            return
        for all_of_them, these in zip(self.found, self.best, strict=True):
            all_of_them.index_copy_(0, self.origin, these)

    def sequences(self) -> tuple[Tensor, Tensor]:
        """Put prefixes and best texts together, without pads, filled up with [SEP], (N, L); and their scores (N,)."""
        self._store()
        best, lengths, width = self.found, self.prefix.lengths[:, None], self.prefix.longest
        longest = int((self.prefix.lengths + best.length).max())
        joined = F.pad(torch.cat([self.prefix.ids, best.text], dim=1), (0, 1), value=self.model.eos_id)
        column = torch.arange(longest + 1, device=joined.device).expand(len(joined), -1)
        column = column + (column >= lengths) * (width - lengths)  # texts start behind the pads
        return joined.gather(1, column.clamp(max=joined.shape[1] - 1)), best.score
