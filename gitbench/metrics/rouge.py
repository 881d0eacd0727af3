"""ROUGE-L of the COCO evaluation (Lin 2004, beta 1.2): the longest common subsequence, best precision and best recall.

The length of the longest common subsequence comes from the bit-parallel recurrence of Crochemore et al. 2001: the
words of a caption are the bits of one integer, and each word of the reference is one addition. All pairs of caption
and reference advance together, by one word of the reference that the caption has; the others change nothing.
"""

from __future__ import annotations

import numpy as np

from gitbench.metrics.base import Scores
from gitbench.metrics.compare import Comparison
from gitbench.metrics.ngrams import Words

BETA = 1.2
_BITS = 64  # longer captions, which hardly anybody writes, are done one by one


def add_rouge(scores: Scores, comparison: Comparison) -> None:
    """Add ROUGE-L."""
    scores.add_mean("ROUGE-L", rouge_l(comparison), "ROUGE-L", beta=BETA)


def rouge_l(comparison: Comparison) -> np.ndarray:
    """Return ROUGE-L a caption, (captions,), in 0..1. An empty caption scores 0, also against an empty reference.

    Words are cut at single spaces, as upstream does here and nowhere else: two spaces have an empty word between them.
    """
    if not (comparison.words.regular and comparison.references.words.regular):
        comparison = comparison.cut_at(" ")
    common = _common(comparison).astype(float)
    lengths = np.maximum(1, comparison.references.words.lengths)
    recall = comparison.over_references(np.maximum, common / lengths)
    precision = comparison.over_references(np.maximum, common) / np.maximum(1, comparison.words.lengths)
    some = (recall > 0) & np.array([text != "" for text in comparison.words.texts])
    score = (1 + BETA**2) * precision * recall / np.where(some, recall + BETA**2 * precision, 1.0)
    return np.where(some, score, 0.0)


def _common(comparison: Comparison) -> np.ndarray:
    """Return the length of the longest common subsequence of each pair of a caption and a reference, (P,)."""
    words, walk, image = comparison.words, comparison.walk(1), comparison.references.image
    bits = np.left_shift(
        np.uint64(1), ((np.arange(len(words.ids)) - words.starts[words.owner]) % _BITS).astype(np.uint64)
    )
    masks = np.zeros(len(comparison.order(1).codes), dtype=np.uint64)  # where in its caption each word stands
    np.bitwise_or.at(masks, comparison.order(1).at, bits)
    masks = masks[walk.row]
    steps = np.bincount(walk.pair, minlength=len(image))
    begins = np.cumsum(steps) - steps
    unmatched = np.full(len(steps), ~np.uint64(0))  # a bit is cleared where the subsequence grows
    for step in range(steps.max()):
        active = np.flatnonzero(steps > step)
        mask, now = masks[begins[active] + step], unmatched[active]
        unmatched[active] = (now + (now & mask)) | (now & ~mask)
    common = np.bitwise_count(~unmatched).astype(np.int64)
    for reference in np.flatnonzero(words.lengths[image] > _BITS).tolist():
        common[reference] = _common_of_long(
            _ids(words, int(image[reference])), _ids(comparison.references.words, reference)
        )
    return common


def _common_of_long(caption: list[int], reference: list[int]) -> int:
    """Return the length of the longest common subsequence of two lists of words, of any lengths."""
    masks: dict[int, int] = {}
    for place, word in enumerate(caption):
        masks[word] = masks.get(word, 0) | 1 << place
    full = unmatched = (1 << len(caption)) - 1
    for word in reference:
        mask = masks.get(word, 0)
        unmatched = ((unmatched + (unmatched & mask)) | (unmatched & ~mask)) & full
    return (full ^ unmatched).bit_count()


def _ids(words: Words, caption: int) -> list[int]:
    return words.ids[words.starts[caption] :][: words.lengths[caption]].tolist()
