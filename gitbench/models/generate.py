"""Text generation: greedy and beam search with a cache, free ("official") or along the trie of a closed vocabulary.

**official**, the default. The official search (`GeneratorWithBeamSearch` in `layers/decoder.py`) differs from the usual
one, and scores depend on it:

* A hypothesis is worth sum(log p) / ((5 + len) / 6) ** length_penalty; len counts [CLS] and the prefix, not [SEP],
  while the sum holds the generated tokens and [SEP].
* Of the 2 * B best continuations, taken in order, [SEP] closes its beam into a hypothesis at any rank until B others
  have been taken. Only the best hypothesis is kept.
* `max_length` (official `max_steps`) counts [CLS], prefix, text and [SEP], so a hypothesis holds at most max_length -
  1 ids. One that is cut there is worth what it would be with its next best token, which it does not hold.
* A sentence is done when no open beam can still win. The bound: a beam's sum can only fall, and dividing it by the norm
  of the longest length makes the most of it.

With one beam it is not greedy search: after [SEP] it goes on with the second-best token, and may return that longer
text. `greedy` is: the best token until [SEP].

**trie**, with a `vocabulary`. The same search, but a beam goes on only with tokens that lead to an entry, and every
result is one. The sum is the model's own log p(entry and [SEP] | image, prefix), not renormalised over the entries: use
length_penalty 0 to get it as the score. The official trie search alters the logits instead (see `trie.py`). With as
many beams as entries the result is the best entry of all. Where fewer continuations exist than beams, the beams left
over are dead (-inf) and never returned.

Prefixes of different lengths share a batch: each sentence has its own positions, its own length in the norm and its own
end at max_length, pads are hidden, and the result is that of each sentence alone.

N sentences, P longest prefix, L longest text.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gitbench.errors import GitbenchError
from gitbench.models.cache import Memory
from gitbench.models.search_state import Prefix, Search, TextModel
from gitbench.models.trie import Trie

LENGTH_PENALTY = 0.6  # the official value


def search(
    model: TextModel,
    memory: Memory,
    prefix: Tensor,
    *,
    beam_size: int = 4,
    length_penalty: float = LENGTH_PENALTY,
    max_length: int = 20,
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
    given = _read(prefix, model.pad_id)
    if max_length <= given.longest:
        raise GitbenchError(f"max_length {max_length} leaves no room after a prefix of {given.longest} ids: raise it")
    if given.ragged:
        model.embedding.check_length(max_length - 1)
    if beam_size < 1 or (vocabulary is None and 2 * beam_size > model.vocab_size):
        raise GitbenchError(
            f"beam_size {beam_size} is out of range: use 1 to {model.vocab_size // 2} (half the vocabulary)"
        )
    if vocabulary is not None:
        vocabulary.check(model.eos_id, model.vocab_size, given.longest, max_length)
        beam_size = min(beam_size, vocabulary.entries)  # that many find the best entry; more would all be dead
        vocabulary = vocabulary.to(prefix.device)
    state = Search(model, memory, given, beam_size, length_penalty, max_length, vocabulary, greedy)
    log_probs = state.read_prefix()
    while state.choose(log_probs):
        log_probs = state.step()
    return state.sequences()


def _read(prefix: Tensor, pad_id: int) -> Prefix:
    """Measure prefixes (N, P), with one look at the device (none for a single column); pads must be at the end."""
    rows, width = prefix.shape
    if width == 1:
        return Prefix(ids=prefix, lengths=prefix.new_ones(rows, dtype=torch.long), shortest=1, longest=1)
    given = prefix != pad_id
    lengths = given.sum(1)
    dense = (given == (torch.arange(width, device=prefix.device) < lengths[:, None])).all()
    shortest, longest, whole = torch.stack([lengths.min(), lengths.max(), dense.long()]).tolist()
    if not whole or not shortest:
        raise GitbenchError("a prefix holds [PAD] before its last id: each starts with [CLS] and is padded at its end")
    return Prefix(ids=prefix[:, :longest], lengths=lengths, shortest=shortest, longest=longest)
