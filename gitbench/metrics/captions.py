"""BLEU, ROUGE-L and CIDEr-D of tokenized captions (`metrics.tokenize`): one prediction and a list of references an
image, in the same order. Values here are fractions; scaling is the caller's.

pycocoevalcap defines these scores, and each of them equals its value: integers exactly, the others within 1e-9
(tested on real captions). They are computed here on arrays, several times as fast (`gitbench bench`), from one
preparation: whoever wants more than one score makes `References` and a `Comparison` and passes them to
`bleu_statistics`, `rouge_l` and `CiderD`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gitbench.metrics import rouge
from gitbench.metrics.bleu import (
    BLEU_COLUMNS,
    bleu_from_many_totals,
    bleu_from_totals,
    bleu_statistics,
)
from gitbench.metrics.cider import CiderD
from gitbench.metrics.compare import Comparison, References
from gitbench.metrics.ngrams import ORDERS

__all__ = [
    "BLEU_COLUMNS",
    "ORDERS",
    "CiderD",
    "Comparison",
    "References",
    "bleu",
    "bleu_from_many_totals",
    "bleu_from_totals",
    "bleu_of",
    "bleu_statistics",
    "cider_d",
    "rouge_l",
]


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[float], np.ndarray]:
    """Return corpus BLEU-1..4 and the integer matrix (images, len(BLEU_COLUMNS)) that they are a function of."""
    return bleu_of(Comparison(predictions, References(references)))


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return ROUGE-L an image, (images,). An empty prediction scores 0, also against an empty reference."""
    return rouge.rouge_l(Comparison(predictions, References(references)))


def cider_d(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return CIDEr-D an image, (images,), document frequencies from these references; a perfect score is near 10."""
    known = CiderD(references)
    return known.of(Comparison(predictions, known.references))


def bleu_of(comparison: Comparison) -> tuple[list[float], np.ndarray]:
    """Return what `bleu` returns, of captions that are prepared."""
    table = bleu_statistics(comparison)
    totals = table.sum(axis=0).tolist()
    return [bleu_from_totals(totals, order) for order in range(1, ORDERS + 1)], table
