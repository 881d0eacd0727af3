"""Captions to time scoring with: of the embedded world, drawn with words as frequent as people's, or real ones.

The grammar of `scenes` knows 170 words. People use thousands, most of them rarely, and rare words are what makes
counting slow. `drawn` is made to look like captions of photographs where it matters for that. 5,000 images with 5
references, and a sixth caption as the prediction, against 5,000 images of Flickr8k (tokenised; the shares found in the
prediction: with one of five references as the prediction), as measured:

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

from dataclasses import dataclass

import numpy as np

from gitbench.data import open_source
from gitbench.errors import GitbenchError
from gitbench.metrics.scorer import leave_one_out
from gitbench.metrics.tokenize import tokenize

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


def scenes(images: int) -> Corpus:
    """Return captions of the embedded world: five references, and a sixth caption as the prediction."""
    from gitbench.data.scenes.world import Scenes

    source = Scenes("scenes", "train", images)
    return Corpus(
        name="scenes",
        predictions=[source.ceiling_caption(index) for index in range(images)],
        references=[list(source.example(index).captions) for index in range(images)],
    )


def drawn(images: int, references: int = 5, seed: int = 0) -> Corpus:
    """Return random captions as they are described at the head of this file."""
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


def real(data: str, images: int) -> Corpus:
    """Return the captions of a registered data set or folder, tokenized; one reference of each image as its prediction.

    Up to `images` images of the training split that have two references or more. Raises GitbenchError if there are none.
    """
    source = open_source(data, "train", images)
    examples = [source.example(index) for index in range(len(source))]
    chosen, rest = leave_one_out({example.image_id: list(example.captions) for example in examples})
    flat = iter(tokenize([text for texts in rest.values() for text in texts]))
    references = [[next(flat) for _ in texts] for texts in rest.values()]
    if not any(text for texts in references for text in texts):
        raise GitbenchError(f"{data}: its captions hold no word, so there is nothing to score")
    return Corpus(
        name=data.rstrip("/").rpartition("/")[2], predictions=tokenize(list(chosen.values())), references=references
    )


def _shares(values: np.ndarray) -> np.ndarray:
    return values / values.sum()
