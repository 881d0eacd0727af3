"""BLEU-1 to BLEU-4 of the COCO evaluation (Papineni et al. 2002, with the closest reference length).

BLEU is a function of sums over images: n-grams of the predictions, how many of them are found (clipped by the highest
count in one reference), and lengths. `bleu` gives these integers for each image, `bleu_from_totals` the score of any
sum of them. Both equal pycocoevalcap's (tested).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gitbench.formats import plural
from gitbench.metrics.base import Scores
from gitbench.metrics.compare import Comparison
from gitbench.metrics.ngrams import ORDERS, changes

BLEUS = tuple(f"BLEU-{order}" for order in range(1, ORDERS + 1))

# The per-image sufficient statistics of BLEU, in the order of the columns of its table.
BLEU_COLUMNS = (
    *(f"bleu_guess_{order}" for order in range(1, ORDERS + 1)),  # n-grams of the prediction
    *(f"bleu_match_{order}" for order in range(1, ORDERS + 1)),  # of those, how many are in a reference (clipped)
    "bleu_guess_len",  # words of the prediction
    "bleu_ref_len",  # words of the reference whose length is closest; of two, the shorter
)
_TINY, _SMALL = 1e-15, 1e-9  # of the COCO evaluation: they keep a corpus without any match defined


def add_bleu(scores: Scores, comparison: Comparison) -> None:
    """Add BLEU-1 to BLEU-4 and the columns that they are a function of."""
    corpus, table = bleu(comparison)
    for name, value in zip(BLEUS, corpus, strict=True):
        scores.add(name, value, name, eff="closest")
    scores.columns.update({name: table[:, place] for place, name in enumerate(BLEU_COLUMNS)})
    longest, of_references = comparison.words.lengths.max(), comparison.references.words.lengths.max()
    if 0 < (words := min(longest, of_references)) < ORDERS:
        what, names = "caption" if longest == words else "reference", BLEUS[words:]
        scores.warnings.append(
            f"{' and '.join(names)}: next to 0 whatever the words are, since the longest {what} has "
            f"{plural(int(words), 'word')}"
        )


def bleu(comparison: Comparison) -> tuple[list[float], np.ndarray]:
    """Return corpus BLEU-1..4 and the integer matrix (captions, len(BLEU_COLUMNS)) that they are a function of."""
    lengths, orders = comparison.words.lengths, range(1, ORDERS + 1)
    guess = [np.maximum(0, lengths - n + 1) for n in orders]
    match = [_matches(comparison, n) for n in orders]
    table = np.stack([*guess, *match, lengths, _closest(comparison)], axis=1)
    totals = table.sum(axis=0).tolist()
    return [bleu_from_totals(totals, n) for n in orders], table


def bleu_from_totals(totals: Sequence[float], order: int) -> float:
    """Return corpus BLEU of an order (1..4) from the sums over images of the BLEU columns."""
    guess, match = totals[:ORDERS], totals[ORDERS : 2 * ORDERS]
    length, reference_length = totals[2 * ORDERS], totals[2 * ORDERS + 1]
    product = math.prod((match[k] + _TINY) / (guess[k] + _SMALL) for k in range(order))
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return product ** (1 / order) * brevity


def bleu_from_many_totals(totals: np.ndarray, order: int) -> np.ndarray:
    """Return `bleu_from_totals` of every vector along the last axis: (..., len(BLEU_COLUMNS)) -> (...)."""
    guess, match = totals[..., :order], totals[..., ORDERS : ORDERS + order]
    product = ((match + _TINY) / (guess + _SMALL)).prod(axis=-1)
    ratio = (totals[..., 2 * ORDERS] + _TINY) / (totals[..., 2 * ORDERS + 1] + _SMALL)
    return product ** (1 / order) * np.exp(np.minimum(0.0, 1 - 1 / ratio))


def _matches(comparison: Comparison, n: int) -> np.ndarray:
    """Return how many n-grams of each caption are in a reference, each counted at most as often as in one reference."""
    order, shared = comparison.order(n), comparison.shared(n)
    total = np.zeros(len(comparison.words.texts), dtype=np.int64)
    if len(shared.row):
        firsts = np.flatnonzero(changes(shared.row))
        rows = shared.row[firsts]
        clipped = np.minimum(order.count[rows], np.maximum.reduceat(shared.count, firsts))
        np.add.at(total, order.caption[rows], clipped)
    return total


def _closest(comparison: Comparison) -> np.ndarray:
    """Return, for each caption, the length of the reference that is closest in length."""
    lengths = comparison.references.words.lengths
    distance = np.abs(lengths - comparison.words.lengths[comparison.references.image])
    scale = int(lengths.max()) + 1  # distance and length as one number: the smallest has both smallest
    return comparison.over_references(np.minimum, distance * scale + lengths) % scale
