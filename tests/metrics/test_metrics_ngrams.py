"""CIDEr-D, BLEU and ROUGE-L on arrays: pycocoevalcap's values, on ordinary captions and on whatever can be a caption."""

from __future__ import annotations

import random

import numpy as np
import pytest

from gitbench.bench.scoring import ALL, our_scores, peer_scores, scenes
from gitbench.errors import GitbenchError
from gitbench.metrics import ngrams
from gitbench.metrics.cider import CiderD
from gitbench.metrics.compare import Comparison, References


def assert_equal_to_pycocoevalcap(predictions: list[str], references: list[list[str]]) -> None:
    """Every image's value of the three scores, computed apart and from one shared preparation."""
    said = any(text.split() for texts in references for text in texts)
    scores = ALL if said else ALL[1:]  # of nothing at all, pycocoevalcap's CIDEr raises
    expected = peer_scores(scores, predictions, references)
    shared = our_scores(scores, predictions, references)
    apart = [part for score in scores for part in our_scores([score], predictions, references)]
    for found in (shared, apart):
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=0 if theirs.dtype == np.int64 else 1e-9)


def test_equal_on_a_corpus():
    predictions, references = scenes(300)
    assert_equal_to_pycocoevalcap(predictions, references)
    assert 0.1 < our_scores(["cider"], predictions, references)[0].mean() < 9  # neither all zero nor all perfect


WORDS = ["a", "b", "c", "dog", "caf\u00e9", "cafe\u0301", "\u732b", "\U0001f600", "A", "0", "\u00df", "x" * 300]
SPACES = ["  ", "\t", "\u00a0", "\u2003", " \n", "\x1f"]


def random_caption(rng: random.Random, words: int, odd: float) -> str:
    """Up to 12 words of a few, sometimes up to 150; with `odd` chance other white space within, before and after."""
    length = rng.randrange(150) if rng.random() < 0.03 else rng.randrange(13)
    text = "".join(
        rng.choice(WORDS[:words]) + (rng.choice(SPACES) if rng.random() < odd else " ") for _ in range(length)
    )
    return rng.choice(SPACES) + text if rng.random() < odd else text.removesuffix(" ")


@pytest.mark.parametrize("seed", range(20))
def test_equal_on_random_captions(seed):
    """Few words, so that n-grams repeat; uneven numbers of references, duplicates, nothing, odd white space."""
    rng = random.Random(seed)
    words, odd = rng.choice([1, 2, 4, len(WORDS)]), rng.choice([0, 0, 0.2])
    images = rng.choice([1, 1, 2, 5, 30])
    references = [[random_caption(rng, words, odd) for _ in range(rng.randint(1, 6))] for _ in range(images)]
    predictions = [
        rng.choice(texts) if rng.random() < 0.3 else random_caption(rng, len(WORDS), odd) for texts in references
    ]
    if rng.random() < 0.3:
        references = [[text for text in texts for _ in range(2)] for texts in references]
    assert_equal_to_pycocoevalcap(predictions, references)


@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        ([""], [[""]]),
        (["", ""], [["", "a b"], ["a"]]),
        (["a b", "zebra zebra"], [["", ""], [""]]),
        ([" ", "\n"], [["a"], [" a"]]),
        # an n-gram that no reference holds has no number there, but its own count in the caption's norm
        (["zebra zebra dog zebra", "yak cats yak", "a gnu gnu"], [["a dog", "the dog"], ["two cats sleep"], ["a car"]]),
    ],
)
def test_equal_where_nothing_is_said_or_unknown_words_repeat(predictions, references):
    assert_equal_to_pycocoevalcap(predictions, references)


@pytest.mark.parametrize("length", [63, 64, 65, 128, 200])
def test_rouge_of_captions_around_the_width_of_an_integer(length):
    rng = random.Random(length)
    caption = " ".join(rng.choice("abcde") for _ in range(length))
    references = [" ".join(rng.choice("abcdef") for _ in range(size)) for size in (3, 63, 64, 65, 140)]
    assert_equal_to_pycocoevalcap([caption, "a b"], [[*references, caption], [caption]])


def test_one_image_scores_no_cider_and_two_perfect_ones_ten():
    texts = ["a dog runs on grass", "two cats sleep under tables"]
    assert our_scores(["cider"], texts[:1], [texts[:1]])[0].tolist() == [0]
    np.testing.assert_allclose(our_scores(["cider"], texts, [[text] for text in texts])[0], 10)


def test_scoring_leaves_what_is_known_as_it_was():
    """A set that is scored against for days must not take in every word that a model ever said."""
    known = CiderD([["a dog"], ["a cat sleeps"]])
    before = dict(known.references.words.numbers)
    first, _, again = (
        known.score(Comparison(captions, known.references)).tolist()
        for captions in (["a dog barks", "no cat"], ["entirely new", "words"], ["a dog barks", "no cat"])
    )
    assert known.references.words.numbers == before == {"a": 0, "dog": 1, "cat": 2, "sleeps": 3}
    assert again == first


def test_sorting_in_one_integer_and_in_two_steps_agree():
    codes = np.random.default_rng(0).integers(0, 50, 1000)
    packed, wide = ngrams.sort_stable(codes, 50), ngrams.sort_stable(codes, 2**60)
    for one, other in zip(packed, wide, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(packed[1], np.argsort(codes, kind="stable"))


def test_what_cannot_be_compared_is_one_clear_line():
    for references in ([], [["a"], []]):
        with pytest.raises(GitbenchError, match="each image needs at least one reference"):
            References(references)
    for captions in ([], ["a", "b"]):
        with pytest.raises(GitbenchError, match=f"{len(captions)} captions of 1 images"):
            Comparison(captions, References([["a"]]))
