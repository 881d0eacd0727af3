"""How fast captions are scored, beside pycocoevalcap: CIDEr-D, BLEU, ROUGE-L, and all three.

Both sides start from tokenized strings and give every image's value. All are compared before anything is timed: BLEU's
counts must be identical, the rest equal to 1e-9. One process, one thread. No torch here.

Two sets of captions are scored. The grammar of `scenes` knows 170 words; people use thousands, most of them rarely, and
rare words are what makes counting slow. `drawn` is made to look like captions of photographs where it matters for that.
5,000 images with 5 references, and a sixth caption as the prediction, against 5,000 images of Flickr8k (tokenised; the
shares found in the prediction: with one of five references as the prediction), as measured:

                                                        drawn    Flickr8k
    words of the references; different ones     270,858; 7,335    269,656; 7,037
    words a caption: mean, deviation, most         10.8, 3.8, 37     10.8, 3.8, 36
    share of the most frequent word                         0.12              0.14
    different n-grams a word, for n = 2, 3, 4   0.20, 0.39, 0.52  0.18, 0.38, 0.52
    of the references' n-grams, share found in
    the prediction of the image, n = 1 .. 4      0.32, 0.11,       0.41, 0.12,
                                                 0.04, 0.02        0.04, 0.02
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gitbench.bench.rows import Row
from gitbench.bench.timing import paired
from gitbench.data.scenes.world import Scenes
from gitbench.errors import GitbenchError
from gitbench.metrics.bleu import bleu
from gitbench.metrics.cider import CiderD
from gitbench.metrics.compare import Comparison
from gitbench.metrics.rouge import rouge_l

TOLERANCE = 1e-9
PEER = "pycocoevalcap"

# Of drawn captions.
WORDS = 10_000  # of which some never occur
_RARITY, _SHIFT = 1.1, 1.5  # Zipf-Mandelbrot: a word's chance is 1 / (rank + shift) ** rarity
_FOLLOWERS, _PREFERENCE = 10, 1.6  # words that usually follow a word, and how much the first of them is preferred
_USUAL = 0.75  # how often a word is followed by one of them
_CORE = 6  # words that an image's captions share, as one phrase
_ENTER, _STAY = 0.15, 0.75  # how often a caption turns to that phrase, and goes on in it


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Tokenized captions: a prediction and a list of references for each image."""

    name: str
    predictions: list[str]
    references: list[list[str]]


def scoring_rows(repeats: int, images: int = 5000) -> list[Row]:
    """Return the rows of all scores on drawn captions and on captions of `scenes`; `repeats`: pairs of timings a row.

    Raises GitbenchError if the two programs do not agree.
    """
    rows = []
    for corpus in (drawn(images), scenes(images)):
        for name, (our_scores, peer_scores) in SCORES.items():
            ours = partial(our_scores, corpus.predictions, corpus.references)
            theirs = partial(peer_scores, corpus.predictions, corpus.references)
            checked = check(name, ours(), theirs())  # which also warms both up
            times = paired(ours, theirs, repeats=repeats)
            rows.append(
                Row(
                    workload=name,
                    shape=f"{images} images, {corpus.name}",
                    peer=PEER,
                    ours_seconds=times.ours,
                    peer_seconds=times.theirs,
                    checked=checked,
                    device="cpu",
                )
            )
    return rows


def scenes(images: int) -> Corpus:
    """Return captions of the embedded world: five references, and a sixth caption as the prediction."""
    source = Scenes("scenes", "train", images)
    return Corpus(
        name="scenes",
        predictions=[source.ceiling_caption(index) for index in range(images)],
        references=[list(source.example(index).captions) for index in range(images)],
    )


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


def drawn(images: int, references: int = 5, seed: int = 0) -> Corpus:
    """Return random captions as the head of this file describes them."""
    rng = np.random.default_rng(seed)
    chances = _shares(1 / (np.arange(WORDS) + _SHIFT) ** _RARITY)
    preference = _shares(1 / np.arange(1, _FOLLOWERS + 1) ** _PREFERENCE)
    followers = rng.choice(WORDS, (WORDS, _FOLLOWERS), p=chances)

    def following(words: np.ndarray | None, size: int) -> np.ndarray:
        free = rng.choice(WORDS, size, p=chances)
        if words is None:
            return free
        usual = followers[words, rng.choice(_FOLLOWERS, size, p=preference)]
        return np.where(rng.random(size) < _USUAL, usual, free)

    core = [following(None, images)]
    while len(core) < _CORE:
        core.append(following(core[-1], images))
    count = images * (references + 1)
    image = np.repeat(np.arange(images), references + 1)
    lengths = 3 + rng.negative_binomial(10, 0.5614, count)
    at, inside = rng.integers(0, _CORE, count), np.zeros(count, dtype=bool)
    words: list[np.ndarray] = []
    for _ in range(lengths.max()):
        inside = rng.random(count) < np.where(inside, _STAY, _ENTER)
        free = following(words[-1] if words else None, count)
        words.append(np.where(inside, np.stack(core)[at, image], free))
        at = np.where(inside, (at + 1) % _CORE, at)
    names = np.array([f"w{number}" for number in range(WORDS)])
    rows = zip(np.stack(words, axis=1), lengths, strict=True)
    texts = np.array([" ".join(names[row[:length]]) for row, length in rows], dtype=object)
    table = texts.reshape(images, references + 1).tolist()
    return Corpus(name="drawn", predictions=[row[0] for row in table], references=[row[1:] for row in table])


def _shares(values: np.ndarray) -> np.ndarray:
    return values / values.sum()


def our_cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return CIDEr-D an image."""
    return [CiderD(references).score(predictions)]


def our_bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return corpus BLEU-1..4 and the counts an image."""
    corpus_bleu, table = bleu(Comparison(predictions, references))
    return [np.array(corpus_bleu), table]


def our_rouge(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return ROUGE-L an image."""
    return [rouge_l(Comparison(predictions, references))]


def all_ours(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return all three, from one preparation."""
    known = CiderD(references)
    comparison = Comparison(predictions, known.references)
    corpus_bleu, table = bleu(comparison)
    return [known.of(comparison), np.array(corpus_bleu), table, rouge_l(comparison)]


def peer_cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return CIDEr-D an image, by pycocoevalcap."""
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    return [np.asarray(_fed(CiderScorer(n=4, sigma=6.0), predictions, references).compute_score()[1], dtype=float)]


def peer_bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return corpus BLEU-1..4 and the counts an image (as `bleu_statistics`), by pycocoevalcap."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = _fed(BleuScorer(n=4), predictions, references)
    corpus_bleu, _ = scorer.compute_score(option="closest", verbose=0)
    rows = [
        [*part["guess"], *part["correct"], length, min(part["reflen"], key=lambda other: (abs(other - length), other))]
        for part in scorer.ctest
        for length in [part["testlen"]]
    ]
    return [np.array(corpus_bleu), np.array(rows, dtype=np.int64)]


def peer_rouge(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return ROUGE-L an image, by pycocoevalcap; no caption scores 0 (it would give 1 against an empty reference)."""
    from pycocoevalcap.rouge.rouge import Rouge

    scorer = Rouge()
    pairs = zip(predictions, references, strict=True)
    return [np.array([scorer.calc_score([text], list(texts)) if text else 0.0 for text, texts in pairs], dtype=float)]


def all_peers(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return all three, by pycocoevalcap."""
    return [array for scores in (peer_cider, peer_bleu, peer_rouge) for array in scores(predictions, references)]


def _fed(scorer: Any, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Any:
    for prediction, texts in zip(predictions, references, strict=True):
        scorer += (prediction, list(texts))
    return scorer


# What is timed: ours and the peer's; each returns the same arrays.
SCORES = {
    "score-cider": (our_cider, peer_cider),
    "score-bleu": (our_bleu, peer_bleu),
    "score-rouge": (our_rouge, peer_rouge),
    "score-all": (all_ours, all_peers),
}
