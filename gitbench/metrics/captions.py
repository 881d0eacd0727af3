"""BLEU, ROUGE-L and CIDEr-D, computed by pycocoevalcap's scorers one by one, with their per-image parts.

One by one, because `COCOEvalCap.evaluate` builds all scorers first and SPICE's constructor wants to download 384 MB:
offline, no metric at all would come back. Inputs are tokenized captions (`metrics.tokenize`), one prediction and a
list of references an image, in the same order. Values here are fractions; scaling is the caller's.

Sources: BLEU, Papineni et al. 2002, with the closest reference length; ROUGE-L, Lin 2004, beta 1.2; CIDEr-D, Vedantam
et al. 2015, whose document frequencies come from the references passed in. So CIDEr depends on the set: one image
alone scores 0, two perfect images 10, and a subset is not comparable with the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

ORDERS = 4  # BLEU-1 to BLEU-4

# The per-image sufficient statistics of BLEU, in the order of `bleu_statistics`' columns.
BLEU_COLUMNS = (
    *(f"bleu_guess_{order}" for order in range(1, ORDERS + 1)),  # n-grams of the prediction
    *(f"bleu_match_{order}" for order in range(1, ORDERS + 1)),  # of those, how many are in a reference (clipped)
    "bleu_guess_len",  # words of the prediction
    "bleu_ref_len",  # words of the reference whose length is closest
)


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[float], np.ndarray]:
    """Return corpus BLEU-1..4 and the integer matrix (images, len(BLEU_COLUMNS)) that they are a function of."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=ORDERS)
    for prediction, refs in zip(predictions, references, strict=True):
        scorer += (prediction, list(refs))
    values, _ = scorer.compute_score(option="closest", verbose=0)
    rows = [
        [
            *part["guess"],
            *part["correct"],
            part["testlen"],
            min(part["reflen"], key=lambda length: (abs(length - part["testlen"]), length)),
        ]
        for part in scorer.ctest
    ]
    return [float(value) for value in values], np.array(rows, dtype=np.int64).reshape(-1, len(BLEU_COLUMNS))


def bleu_from_totals(totals: Sequence[float], order: int) -> float:
    """Return corpus BLEU of an order (1..4) from the sums over images of the BLEU columns.

    The tiny and small constants are those of the COCO evaluation, which keep a corpus without any match defined.
    """
    guess, match = totals[:ORDERS], totals[ORDERS : 2 * ORDERS]
    length, reference_length = totals[2 * ORDERS], totals[2 * ORDERS + 1]
    tiny, small = 1e-15, 1e-9
    product = math.prod((match[k] + tiny) / (guess[k] + small) for k in range(order))
    ratio = (length + tiny) / (reference_length + small)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return product ** (1 / order) * brevity


def bleu_from_many_totals(totals: np.ndarray, order: int) -> np.ndarray:
    """Return `bleu_from_totals` of every vector along the last axis: (..., len(BLEU_COLUMNS)) -> (...)."""
    guess, match = totals[..., :order], totals[..., ORDERS : ORDERS + order]
    tiny, small = 1e-15, 1e-9
    product = ((match + tiny) / (guess + small)).prod(axis=-1)
    ratio = (totals[..., 2 * ORDERS] + tiny) / (totals[..., 2 * ORDERS + 1] + small)
    return product ** (1 / order) * np.exp(np.minimum(0.0, 1 - 1 / ratio))


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return ROUGE-L an image, (images,). An empty prediction scores 0, also against an empty reference."""
    from pycocoevalcap.rouge.rouge import Rouge

    scorer = Rouge()
    pairs = zip(predictions, references, strict=True)
    return np.array([scorer.calc_score([text], list(refs)) if text else 0.0 for text, refs in pairs], dtype=float)


def cider_d(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return CIDEr-D an image, (images,), document frequencies from these references; a perfect score is near 10."""
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    scorer = CiderScorer(n=ORDERS, sigma=6.0)
    for prediction, refs in zip(predictions, references, strict=True):
        scorer += (prediction, list(refs))
    _, values = scorer.compute_score()
    return np.asarray(values, dtype=float)
