"""Predictions beside their references: what they share, found once for all metrics.

`References` are cut and numbered once and may be kept: every checkpoint is scored against the same ones. `Comparison`
sets captions beside them. The n-grams of each caption form a tree of its own: the word sequences that begin in it.
All words of the references are walked along the trees of their images at once; most fall off at the first word or
the second, so that what remains to be counted is short.

    P  pairs of a caption and a reference of its image, in the order of the references
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from gitbench.errors import GitbenchError
from gitbench.metrics.ngrams import Order, changes, count, cut, find, sort_stable


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Where references say an n-gram of the caption that they are compared with; sorted by pair, then by place."""

    pair: np.ndarray
    place: np.ndarray  # where it begins, among the words of all references
    row: np.ndarray  # which one it is, among the captions' rows


@dataclass(frozen=True, kw_only=True)
class Shared:
    """N-grams of one length that a caption and a reference have in common; sorted by the captions' row, then by pair."""

    row: np.ndarray
    pair: np.ndarray
    count: np.ndarray  # how often the reference says it
    place: np.ndarray  # where first, among the words of all references


class References:
    """References of a set of images: tokenized strings, one list an image.

    `sizes` (N,): references of each image; `first` (N,): its first one; `image` (C,): the image of each reference.
    Raises GitbenchError if there is no image, or an image without reference.
    """

    def __init__(self, references: Sequence[Sequence[str]], separator: str | None = None) -> None:
        self.sizes = np.array(list(map(len, references)), dtype=np.int64)
        if not len(self.sizes) or not self.sizes.all():
            raise GitbenchError("each image needs at least one reference caption: add it or leave the image out")
        self.words = cut(list(chain.from_iterable(references)), separator)
        self.image = np.repeat(np.arange(len(self.sizes)), self.sizes)
        self.first = np.cumsum(self.sizes) - self.sizes


class Comparison:
    """One caption of every image beside the references of the image.

    `captions` (N,): tokenized strings. Raises GitbenchError if there is not one caption for each image.
    """

    def __init__(self, captions: Sequence[str], references: References, separator: str | None = None) -> None:
        if len(captions) != len(references.sizes):
            raise GitbenchError(f"{len(captions)} captions of {len(references.sizes)} images: pass one for each")
        self.words = cut(captions, separator, references.words)
        self.references = references
        self._counting = count(self.words, apart=True)
        self._orders: list[Order] = []
        self._walks: dict[int, Walk] = {}
        self._shared: dict[int, Shared] = {}

    def order(self, n: int) -> Order:
        """Return the n-grams of `n` words of the captions, each caption's apart."""
        while len(self._orders) < n:
            self._orders.append(next(self._counting))
        return self._orders[n - 1]

    def walk(self, n: int) -> Walk:
        """Return where references say an n-gram of `n` words of the caption that they are compared with.

        Those are, of the places where the first n - 1 words are the caption's, those where the next word is, too.
        """
        if n in self._walks:
            return self._walks[n]
        words = self.references.words
        if n == 1:
            place, pair = np.arange(len(words.ids)), words.owner
            row = self.references.image[pair]  # a tree's root: its caption
        else:
            before = self.walk(n - 1)
            on = np.flatnonzero(words.left[before.place] >= n)
            place, pair, row = before.place[on], before.pair[on], before.row[on]
        row, found = find(self.order(n).codes, row * self.words.limit + words.ids[place + n - 1])
        on = np.flatnonzero(found)
        self._walks[n] = Walk(pair=pair[on], place=place[on], row=row[on])
        return self._walks[n]

    def shared(self, n: int) -> Shared:
        """Return which n-grams of `n` words captions and references have in common, and how often."""
        if n not in self._shared:
            walk, rows = self.walk(n), len(self.order(n).codes)
            pairs = len(self.references.image)
            codes, steps = sort_stable(walk.row * pairs + walk.pair, rows * pairs)
            firsts = np.flatnonzero(changes(codes))
            row, pair = np.divmod(codes[firsts], pairs)
            times = np.diff(firsts, append=len(codes))
            self._shared[n] = Shared(row=row, pair=pair, count=times, place=walk.place[steps[firsts]])
        return self._shared[n]

    def over_references(self, reduce: np.ufunc, values: np.ndarray) -> np.ndarray:
        """Reduce values of pairs, (P,), to one a caption: the minimum, maximum or sum over its references."""
        return reduce.reduceat(values, self.references.first)

    def cut_at(self, separator: str) -> Comparison:
        """Return the same comparison with all captions cut into words at `separator`."""
        texts = iter(self.references.words.texts)
        references = [[next(texts) for _ in range(size)] for size in self.references.sizes]
        return Comparison(self.words.texts, References(references, separator), separator)
