"""CIDEr-D (Vedantam et al. 2015): n-grams weighted by how few images' references hold them.

Document frequencies come from the references passed in. So CIDEr depends on the set: one image alone scores 0, two
perfect images 10, and a subset is not comparable with the whole.

Equal to pycocoevalcap's CIDEr, which is CIDEr-D, within rounding (tested): the count of an n-gram is clipped at the
reference's, lengths are counted in bigrams and compared by a Gaussian of width 6, and n-grams that no reference holds
weigh as those that one image holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from gitbench.metrics.base import Scores
from gitbench.metrics.compare import Comparison, References
from gitbench.metrics.ngrams import ORDERS, Order, changes, count, find

SIGMA = 6.0


@dataclass(frozen=True, kw_only=True)
class _Known:
    """Of the references' n-grams of one length: codes and rarity (G,), rarity at each word (T,), norms (C,)."""

    codes: np.ndarray
    rarity: np.ndarray
    at: np.ndarray
    norms: np.ndarray


def add_cider(scores: Scores, comparison: Comparison, known: CiderD) -> None:
    """Add CIDEr, with the document frequencies of `known`, whose references the comparison is with."""
    scores.add_mean("CIDEr", known.score(comparison), "CIDEr-D")
    if known.weightless and len(scores.ids) > 1:  # of one image `guards` says so
        scores.warnings.append(
            "CIDEr is 0.0 whatever the captions say: every n-gram of the references is in those of all images, and weighs "
            "log(images / images whose references hold it), which is log(1) = 0"
        )


class CiderD:
    """CIDEr-D against one set of references, whose document frequencies are computed once and kept.

    `references`: tokenized strings, one list an image. Raises GitbenchError for an image without any.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        self.references = References(references)
        self._highest = np.log(float(len(references)))  # rarity of what no image holds, or a single one
        self._known = [self._weigh(order) for order in islice(count(self.references.words), ORDERS)]

    @property
    def weightless(self) -> bool:
        """Whether no n-gram of the references is rarer than any other: all captions score 0."""
        return not any(known.rarity.any() for known in self._known)

    def score(self, comparison: Comparison) -> np.ndarray:
        """Return CIDEr-D of each caption of a comparison with these references, (captions,), in 0..10 (10 is perfect)."""
        image, sizes = self.references.image, self.references.sizes
        bigrams = np.maximum(0, comparison.words.lengths - 1)  # lengths are compared by them
        distance = bigrams[image] - np.maximum(0, self.references.words.lengths - 1)
        likeness = np.exp(-(distance**2) / (2 * SIGMA**2))
        total = np.zeros(len(image))
        for n, (known, rarity) in enumerate(zip(self._known, self._rarities(comparison), strict=True), start=1):
            order, shared = comparison.order(n), comparison.shared(n)
            weights = order.count * rarity
            norms = np.sqrt(_sums(order.caption, weights**2, len(sizes)))
            weight = shared.count * known.at[shared.place]
            product = _sums(shared.pair, np.minimum(weights[shared.row], weight) * weight, len(total))
            norm = norms[image] * known.norms
            total += np.divide(product, norm, out=np.zeros_like(product), where=norm != 0)
        return 10.0 * comparison.over_references(np.add, total * likeness) / ORDERS / sizes

    def _weigh(self, order: Order) -> _Known:
        image = self.references.image[order.caption]
        images = np.bincount(order.gram[changes(order.gram) | changes(image)], minlength=len(order.codes))
        rarity = self._highest - np.log(images)
        norms = np.sqrt(_sums(order.caption, (order.count * rarity[order.gram]) ** 2, len(self.references.image)))
        at = rarity[order.at] if len(rarity) else np.zeros(len(order.at))
        return _Known(codes=order.codes, rarity=rarity, at=at, norms=norms)

    def _rarities(self, comparison: Comparison) -> Iterator[np.ndarray]:
        """Yield, for each length, the rarity of every n-gram of the captions, (G,)."""
        limit, known_limit = comparison.words.limit, self.references.words.limit
        table = np.zeros(0, dtype=np.int64)  # the references' number of each n-gram, -1 where they do not hold it
        for n, known in enumerate(self._known, start=1):
            head, last = np.divmod(comparison.order(n).codes, limit)
            head = np.zeros_like(head) if n == 1 else table[head]
            table = np.full(len(last), -1)
            likely = np.flatnonzero((head >= 0) & (last < known_limit))
            place, found = find(known.codes, head[likely] * known_limit + last[likely])
            table[likely[found]] = place[found]
            rarity = np.full(len(table), self._highest)
            rarity[table >= 0] = known.rarity[table[table >= 0]]
            yield rarity


def _sums(places: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    """Add up the values of each place; `bincount`, which makes integers of no values at all, as floats."""
    return np.bincount(places, values, length).astype(float, copy=False)
