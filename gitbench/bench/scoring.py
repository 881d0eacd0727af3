"""How fast captions are scored, beside pycocoevalcap: CIDEr-D, BLEU, ROUGE-L, and all three.

Both sides start from tokenized captions of `scenes` and give every image's value. All are compared before anything is
timed: BLEU's counts must be identical, the rest equal to 1e-9. One process, one thread. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gitbench.bench.rows import Row, paired
from gitbench.data.scenes.world import Scenes
from gitbench.errors import GitbenchError
from gitbench.metrics.bleu import bleu
from gitbench.metrics.cider import CiderD
from gitbench.metrics.compare import Comparison, References
from gitbench.metrics.rouge import rouge_l

TOLERANCE = 1e-9
PEER = "pycocoevalcap"

ALL = ("cider", "bleu", "rouge")
# workload -> what it scores together
SCORES = {"score-cider": ("cider",), "score-bleu": ("bleu",), "score-rouge": ("rouge",), "score-all": ALL}

Captions = Sequence[str]  # tokenized, one an image
Texts = Sequence[Sequence[str]]  # tokenized references, a list an image


def scoring_rows(repeats: int, images: int) -> list[Row]:
    """Return the rows of all scores on captions of `scenes`; `repeats`: pairs of timings a row.

    Raises GitbenchError if the two programs do not agree.
    """
    predictions, references = scenes(images)
    rows = []
    for name, scores in SCORES.items():
        ours, theirs = (partial(side, scores, predictions, references) for side in (our_scores, peer_scores))
        checked = check(name, ours(), theirs())  # which also warms both up
        times = paired(ours, theirs, repeats=repeats)
        rows.append(
            Row(
                workload=name,
                shape=f"{images} images, scenes",
                peer=PEER,
                ours_seconds=times.ours,
                peer_seconds=times.theirs,
                checked=checked,
                device="cpu",
            )
        )
    return rows


def scenes(images: int) -> tuple[list[str], list[list[str]]]:
    """Return captions of the embedded world: a fresh one of each image as the prediction, and its five references."""
    source = Scenes("scenes", "train", images)
    predictions = [source.ceiling_caption(index) for index in range(images)]
    return predictions, [list(source.example(index).captions) for index in range(images)]


def check(name: str, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> str:
    """Say how far the two programs' scores differ; a GitbenchError if that is more than rounding."""
    worst = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        exact = np.issubdtype(mine.dtype, np.integer)
        difference = float(np.abs(mine - other).max()) if mine.shape == other.shape else np.inf
        if not difference <= (0 if exact else TOLERANCE):
            raise GitbenchError(
                f"{name} differs from {PEER} by {difference:.2g}: "
                "nothing was timed, please report it as a bug of gitbench"
            )
        worst = max(worst, difference)
    return f"every value, the largest difference {worst:.1e}"


def our_scores(scores: Sequence[str], predictions: Captions, references: Texts) -> list[np.ndarray]:
    """Return the arrays of some of `ALL`, from one preparation of the references.

    CIDEr-D and ROUGE-L an image; of BLEU the corpus's BLEU-1..4 and the counts an image.
    """
    known = CiderD(references) if "cider" in scores else None
    comparison = Comparison(predictions, known.references if known else References(references))
    found = [known.score(comparison)] if known else []
    if "bleu" in scores:
        corpus_bleu, table = bleu(comparison)
        found += [np.array(corpus_bleu), table]
    if "rouge" in scores:
        found.append(rouge_l(comparison))
    return found


def peer_scores(scores: Sequence[str], predictions: Captions, references: Texts) -> list[np.ndarray]:
    """Return the same arrays by pycocoevalcap."""
    return [array for score in scores for array in _PEERS[score](predictions, references)]


def _peer_cider(predictions: Captions, references: Texts) -> list[np.ndarray]:
    """Return CIDEr-D an image."""
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    return [np.asarray(_fed(CiderScorer(n=4, sigma=6.0), predictions, references).compute_score()[1], dtype=float)]


def _peer_bleu(predictions: Captions, references: Texts) -> list[np.ndarray]:
    """Return corpus BLEU-1..4 and the counts an image (as `bleu`)."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = _fed(BleuScorer(n=4), predictions, references)
    corpus_bleu, _ = scorer.compute_score(option="closest", verbose=0)
    rows = [
        [*part["guess"], *part["correct"], length, min(part["reflen"], key=lambda other: (abs(other - length), other))]
        for part in scorer.ctest
        for length in [part["testlen"]]
    ]
    return [np.array(corpus_bleu), np.array(rows, dtype=np.int64)]


def _peer_rouge(predictions: Captions, references: Texts) -> list[np.ndarray]:
    """Return ROUGE-L an image; no caption scores 0 (it would give 1 against an empty reference)."""
    from pycocoevalcap.rouge.rouge import Rouge

    scorer = Rouge()
    pairs = zip(predictions, references, strict=True)
    return [np.array([scorer.calc_score([text], list(texts)) if text else 0.0 for text, texts in pairs], dtype=float)]


def _fed(scorer: Any, predictions: Captions, references: Texts) -> Any:
    for prediction, texts in zip(predictions, references, strict=True):
        scorer += (prediction, list(texts))
    return scorer


_PEERS = {"cider": _peer_cider, "bleu": _peer_bleu, "rouge": _peer_rouge}
