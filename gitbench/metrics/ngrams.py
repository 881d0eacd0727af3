"""Captions as numbers: each word an integer, each n-gram an integer, and how often every caption holds which.

BLEU, ROUGE-L and CIDEr-D all ask which n-grams a prediction shares with its references. Asked with Python
dictionaries of word tuples, that is most of the time of scoring; here it is asked of sorted integer arrays.

    T  words of all captions        G  different n-grams of one length
    C  captions                     R  rows: pairs of an n-gram and a caption that holds it
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

ORDERS = 4  # n-grams of one to four words


@dataclass(frozen=True, kw_only=True)
class Words:
    """A set of captions, cut into words. `regular`: no caption holds other white space than single spaces in it."""

    texts: Sequence[str]  # (C,)
    ids: np.ndarray  # (T,) int64, the number of each word
    starts: np.ndarray  # (C,) where each caption begins
    lengths: np.ndarray  # (C,) words of each caption
    numbers: Mapping[str, int]  # the number of each word that occurs
    limit: int  # all numbers are below
    regular: bool

    @cached_property
    def owner(self) -> np.ndarray:
        """Return the caption of each word, (T,)."""
        return np.repeat(np.arange(len(self.texts)), self.lengths)

    @cached_property
    def left(self) -> np.ndarray:
        """Return how many words follow in the caption from each word on, itself included, (T,)."""
        return np.repeat(self.starts + self.lengths, self.lengths) - np.arange(len(self.ids))


@dataclass(frozen=True, kw_only=True)
class Order:
    """The n-grams of one length in a set of captions. Rows are sorted by n-gram, then by caption.

    An n-gram's number is its place in `codes`. Its code is made of its first n - 1 words and its last one: the number
    of the former as an n-gram of that length, times `Words.limit`, plus the number of the latter.
    """

    codes: np.ndarray  # (G,) int64, increasing
    gram: np.ndarray  # (R,) number of the n-gram
    caption: np.ndarray  # (R,) number of the caption
    count: np.ndarray  # (R,) how often it is there
    at: np.ndarray  # (T,) number of the n-gram that begins at a word; 0 where none does


def cut(texts: Sequence[str], separator: str | None = None, known: Words | None = None) -> Words:
    """Cut captions into words at white space, or at `separator`.

    Words of `known` keep the numbers that they have there, and others get higher ones; `known` is left as it is.
    Regular captions, which is what the tokenizer makes, are cut as one string; that takes half the time.
    """
    whole = " ".join(filter(None, texts))
    words = whole.split()
    regular = separator is None and " ".join(words) == whole
    if regular:
        lengths = np.array([text.count(" ") + 1 if text else 0 for text in texts], dtype=np.int64)
    else:
        parts = [text.split(separator) for text in texts]
        words, lengths = list(chain.from_iterable(parts)), np.array(list(map(len, parts)), dtype=np.int64)
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__  # a new word gets the next number
    ids = np.fromiter(map(numbers.__getitem__, words), dtype=np.int64, count=len(words))
    starts, limit, found = np.cumsum(lengths) - lengths, max(1, len(numbers)), dict(numbers)
    if known is not None:
        table = np.fromiter((known.numbers.get(word, -1) for word in found), dtype=np.int64, count=len(found))
        new = np.flatnonzero(table < 0)
        table[new] = known.limit + np.arange(len(new))
        ids, limit, found = table[ids], known.limit + len(new), dict(zip(found, table.tolist(), strict=True))
    return Words(texts=texts, ids=ids, starts=starts, lengths=lengths, numbers=found, limit=limit, regular=regular)


def count(words: Words, apart: bool = False) -> Iterator[Order]:
    """Yield the n-grams of one word, of two, and so on; each length is counted when it is asked for.

    `apart`: count each caption's n-grams as its own, so that captions share no number and a row is an n-gram. The
    codes of single words are then the caption's number times `Words.limit` plus the word's.
    """
    owner, left = words.owner, words.left
    codes = owner * words.limit + words.ids if apart else words.ids
    highest = words.limit * (len(words.texts) if apart else 1)
    begins = np.arange(len(codes))
    length = 1
    while True:
        codes, places = sort_stable(codes, highest)
        begins = begins[places]
        caption = owner[begins]
        new = changes(codes)
        rows = np.flatnonzero(new | changes(caption))
        gram = np.cumsum(new) - 1
        at = np.zeros(len(words.ids), dtype=np.int64)
        at[begins] = gram
        yield Order(
            codes=codes[new],
            gram=gram[rows],
            caption=caption[rows],
            count=np.diff(rows, append=len(codes)),
            at=at,
        )
        length += 1
        highest = (int(gram[-1]) + 1 if len(gram) else 1) * words.limit
        begins = np.flatnonzero(left >= length)
        codes = at[begins] * words.limit + words.ids[begins + length - 1]


def find(values: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Look `wanted` up in increasing `values`: (place, whether it is there), each of the length of `wanted`."""
    if not len(values):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    places = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return places, values[places] == wanted


def changes(values: np.ndarray) -> np.ndarray:
    """Tell where a value differs from the one before it; the first one does."""
    changed = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed


def sort_stable(codes: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort non-negative integers below `limit`: (sorted, their places before), equal ones in the order they had.

    Code and place are sorted as one integer where they fit into 63 bits, which is faster than sorting places by code.
    """
    bits = len(codes).bit_length()
    if limit.bit_length() + bits < 64:
        packed = (codes << bits) | np.arange(len(codes))
        packed.sort()
        return packed >> bits, packed & ((1 << bits) - 1)
    places = np.argsort(codes, kind="stable")
    return codes[places], places
