"""How varied a set of captions is: numbers that describe it, and say nothing about being right.

distinct-captions  different captions among all
distinct-1, -2     different words, pairs of words, for each word said (Li et al. 2016, who divide both by words)
vocabulary         different words

All are of tokenized captions, and of the whole set: they fall as captions are added, cannot be put together from
single images, and are comparable for the same number of captions alone. So no claim is about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from gitbench import __version__
from gitbench.metrics.base import SCALE, Score, Scores
from gitbench.metrics.java import java_version
from gitbench.metrics.tokenize import TOKENIZER


def diversity(captions: Sequence[str]) -> dict[str, float]:
    """Return the four numbers of tokenized captions, at least one; shares as fractions, 0 where nothing is said."""
    cut = [caption.split() for caption in captions]
    words = sum(map(len, cut))
    vocabulary = {word for caption in cut for word in caption}
    pairs = {pair for caption in cut for pair in pairwise(caption)}
    return {
        "distinct-captions": len(set(map(tuple, cut))) / len(cut),
        "distinct-1": len(vocabulary) / words if words else 0.0,
        "distinct-2": len(pairs) / words if words else 0.0,
        "vocabulary": float(len(vocabulary)),
    }


def add_diversity(scores: Scores, cut: Sequence[str]) -> None:
    """Add the four numbers of tokenized captions, without columns of images."""
    for name, value in diversity(cut).items():
        per = {"per": "caption" if name == "distinct-captions" else "word"} if name != "vocabulary" else {}
        made = {**per, "lib": f"gitbench-{__version__}", "tok": TOKENIZER, "java": java_version()}
        scale = SCALE if per else 1.0
        signature = scores.signature(name, made, 0, f"scale:{scale:.0f}")
        scores.values[name] = Score(name=name, value=scale * value, signature=signature)
