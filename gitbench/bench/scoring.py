"""How fast captions are scored, beside pycocoevalcap: CIDEr-D, BLEU, ROUGE-L, all three, and CIDEr-D as a reward.

Both sides start from tokenized strings and give every image's value. All are compared before anything is timed: BLEU's
counts must be identical, the rest equal to 1e-9. The reward ("score-cider-cached") scores five captions of each of 64
images of a known reference set whose document frequencies are kept, as self-critical training does at every step. Its
peer is pycocoevalcap's own arithmetic with frequencies and the references' n-grams kept in the same way (which its
scorer has no interface for).

One process, one thread: run it with OMP_NUM_THREADS=1. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gitbench.bench.corpus import Corpus, drawn, real, scenes
from gitbench.bench.rows import Row
from gitbench.bench.timing import paired
from gitbench.errors import GitbenchError
from gitbench.metrics.captions import CiderD, Comparison, bleu, bleu_of, cider_d, rouge_l
from gitbench.metrics.rouge import rouge_l as rouge_l_of

REWARD_IMAGES, REWARD_CAPTIONS = 64, 5
TOLERANCE = 1e-9
PEER = "pycocoevalcap"


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The same scores by two programs; each returns arrays, in the same order."""

    work: str
    shape: str
    ours: Callable[[], Sequence[np.ndarray]]
    theirs: Callable[[], Sequence[np.ndarray]]


def scoring_rows(repeats: int, images: int = 5000, data: str | None = None) -> list[Row]:
    """Return the rows of all scores: on captions of `scenes` and on drawn ones, or on those of `data` alone.

    `repeats`: pairs of timings a row. `data`: a registered data set or a folder. Raises GitbenchError if the two
    programs do not agree.
    """
    if repeats < 1 or images < REWARD_IMAGES:
        raise GitbenchError(f"scoring needs at least 1 repeat and {REWARD_IMAGES} images: ask for more")
    corpora = [real(data, images)] if data else [drawn(images), scenes(images)]
    return [_measure(contest, repeats) for corpus in corpora for contest in contests(corpus)]


def contests(corpus: Corpus) -> list[Contest]:
    """Return the five contests on a set of captions."""
    predictions, references = corpus.predictions, corpus.references
    shape = f"{len(predictions)} images, {corpus.name}"

    def all_ours() -> list[np.ndarray]:
        known = CiderD(references)
        comparison = Comparison(predictions, known.references)
        corpus_bleu, table = bleu_of(comparison)
        return [known.of(comparison), np.array(corpus_bleu), table, rouge_l_of(comparison)]

    def all_theirs() -> list[np.ndarray]:
        return [
            peer_cider(predictions, references),
            *peer_bleu(predictions, references),
            peer_rouge(predictions, references),
        ]

    def our_bleu() -> list[np.ndarray]:
        corpus_bleu, table = bleu(predictions, references)
        return [np.array(corpus_bleu), table]

    made = [
        ("score-cider", lambda: [cider_d(predictions, references)], lambda: [peer_cider(predictions, references)]),
        ("score-bleu", our_bleu, lambda: peer_bleu(predictions, references)),
        ("score-rouge", lambda: [rouge_l(predictions, references)], lambda: [peer_rouge(predictions, references)]),
        ("score-all", all_ours, all_theirs),
    ]
    return [
        *(Contest(work=work, shape=shape, ours=ours, theirs=theirs) for work, ours, theirs in made),
        _reward(corpus),
    ]


def peer_cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return CIDEr-D an image, by pycocoevalcap."""
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    return np.asarray(_fed(CiderScorer(n=4, sigma=6.0), predictions, references).compute_score()[1], dtype=float)


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


def peer_rouge(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return ROUGE-L an image, by pycocoevalcap; no caption scores 0 (it would give 1 against an empty reference)."""
    from pycocoevalcap.rouge.rouge import Rouge

    scorer = Rouge()
    pairs = zip(predictions, references, strict=True)
    return np.array([scorer.calc_score([text], list(texts)) if text else 0.0 for text, texts in pairs], dtype=float)


def peer_reward(references: Sequence[Sequence[str]]) -> Callable[[Sequence[int], Sequence[str]], np.ndarray]:
    """Return pycocoevalcap's CIDEr-D of captions of some images, its frequencies and references' counts kept.

    The scorer takes the number of images from the length of its list of references, and the frequencies from a
    dictionary; both are set here to those of the whole set, while it computes the given captions only.
    """
    from pycocoevalcap.cider.cider_scorer import CiderScorer, cook_refs, cook_test

    class Chosen(list[Any]):
        def __len__(self) -> int:
            return len(references)

    cooked = [cook_refs(list(texts)) for texts in references]
    whole = CiderScorer(n=4, sigma=6.0)
    whole.crefs = cooked
    whole.compute_doc_freq()

    def score(images: Sequence[int], captions: Sequence[str]) -> np.ndarray:
        scorer = CiderScorer(n=4, sigma=6.0)
        scorer.document_frequency = whole.document_frequency
        scorer.crefs = Chosen(cooked[image] for image in images)
        scorer.ctest = [cook_test(caption) for caption in captions]
        return np.array(scorer.compute_cider())

    return score


def check(contest: Contest) -> str:
    """Say how far the two programs' scores differ; a GitbenchError if that is more than rounding."""
    worst = 0.0
    for ours, theirs in zip(contest.ours(), contest.theirs(), strict=True):
        exact = np.issubdtype(ours.dtype, np.integer)
        difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf
        if not difference <= (0 if exact else TOLERANCE):
            raise GitbenchError(
                f"{contest.work} ({contest.shape}) differs from {PEER} by {difference:.2g}: "
                "nothing was timed, please report it as a bug of gitbench"
            )
        worst = max(worst, difference)
    return f"every value, the largest difference {worst:.1e}"


def _reward(corpus: Corpus) -> Contest:
    """Score, of each image, its own prediction and those of the images after it: sampled captions differ in worth."""
    known, peer = CiderD(corpus.references), peer_reward(corpus.references)
    images = [image for image in range(REWARD_IMAGES) for _ in range(REWARD_CAPTIONS)]
    captions = [
        corpus.predictions[(image + place % REWARD_CAPTIONS) % REWARD_IMAGES] for place, image in enumerate(images)
    ]
    return Contest(
        work="score-cider-cached",
        shape=f"{len(images)} captions, {corpus.name}",
        ours=lambda: [known.score(images, captions)],
        theirs=lambda: [peer(images, captions)],
    )


def _measure(contest: Contest, repeats: int) -> Row:
    checked = check(contest)  # which also warms both up
    times = paired(contest.ours, contest.theirs, repeats=repeats)
    return Row(
        work=contest.work,
        shape=contest.shape,
        peer=PEER,
        ours_seconds=times.ours,
        peer_seconds=times.theirs,
        checked=checked,
        device="cpu",
    )


def _fed(scorer: Any, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Any:
    for prediction, texts in zip(predictions, references, strict=True):
        scorer += (prediction, list(texts))
    return scorer
