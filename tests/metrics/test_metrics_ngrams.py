"""CIDEr-D, BLEU and ROUGE-L on arrays: pycocoevalcap's values, on ordinary captions and on whatever can be a caption."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from gitbench.bench import corpus as corpora
from gitbench.bench.scoring import peer_bleu, peer_cider, peer_reward, peer_rouge
from gitbench.errors import GitbenchError
from gitbench.metrics import ngrams
from gitbench.metrics.captions import CiderD, Comparison, References, bleu, bleu_of, bleu_statistics, cider_d, rouge_l
from gitbench.metrics.rouge import rouge_l as rouge_l_of

CAPTIONS = os.environ.get("GITBENCH_CAPTIONS", "")  # a folder of real captions


def assert_equal_to_pycocoevalcap(predictions: list[str], references: list[list[str]]) -> None:
    """Every image's value of the three scores, computed apart and from one shared preparation."""
    known = CiderD(references)
    shared = Comparison(predictions, known.references)
    corpus, table = peer_bleu(predictions, references)
    for found, counts in (bleu(predictions, references), bleu_of(shared)):
        assert counts.dtype == np.int64
        np.testing.assert_array_equal(counts, table)
        np.testing.assert_allclose(found, corpus, rtol=0, atol=1e-12)
    expected = peer_rouge(predictions, references)
    for found in (rouge_l(predictions, references), rouge_l_of(shared)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    if any(text.split() for texts in references for text in texts):  # else pycocoevalcap raises
        expected = peer_cider(predictions, references)
        for found in (cider_d(predictions, references), known.of(shared)):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("corpus", [corpora.scenes(300), corpora.drawn(300)], ids=lambda corpus: corpus.name)
def test_equal_on_a_corpus(corpus):
    assert_equal_to_pycocoevalcap(corpus.predictions, corpus.references)
    assert 0.1 < cider_d(corpus.predictions, corpus.references).mean() < 9  # neither all zero nor all perfect


@pytest.mark.skipif(not CAPTIONS, reason="set GITBENCH_CAPTIONS to a folder of captions")
def test_equal_on_real_captions():
    corpus = corpora.real(CAPTIONS, 2000)
    assert_equal_to_pycocoevalcap(corpus.predictions, corpus.references)


WORDS = ["a", "b", "c", "dog", "caf\u00e9", "cafe\u0301", "\u732b", "\U0001f600", "A", "0", "\u00df", "x" * 300]
SPACES = ["  ", "\t", "\u00a0", "\u2003", " \n", "\x1f"]


def random_caption(rng: random.Random, words: int, odd: float) -> str:
    """Up to 12 words of a few, sometimes up to 150; with `odd` chance other white space within, before and after."""
    length = rng.randrange(150) if rng.random() < 0.03 else rng.randrange(13)
    text = "".join(
        rng.choice(WORDS[:words]) + (rng.choice(SPACES) if rng.random() < odd else " ") for _ in range(length)
    )
    return rng.choice(SPACES) + text if rng.random() < odd else text.removesuffix(" ")


@pytest.mark.parametrize("seed", range(150))
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


def test_equal_where_nothing_is_said():
    assert_equal_to_pycocoevalcap([""], [[""]])
    assert_equal_to_pycocoevalcap(["", ""], [["", "a b"], ["a"]])
    assert_equal_to_pycocoevalcap(["a b", "zebra zebra"], [["", ""], [""]])
    assert_equal_to_pycocoevalcap([" ", "\n"], [["a"], [" a"]])


def test_equal_on_unknown_words_that_repeat():
    """An n-gram that no reference holds has no number there, but its own count in the caption's norm."""
    references = [["a dog runs", "the dog"], ["two cats sleep"], ["a car"]]
    assert_equal_to_pycocoevalcap(["zebra zebra dog zebra zebra", "cats yak cats yak", "a car gnu gnu gnu"], references)


@pytest.mark.parametrize("length", [63, 64, 65, 128, 200])
def test_rouge_of_captions_around_the_width_of_an_integer(length):
    rng = random.Random(length)
    caption = " ".join(rng.choice("abcde") for _ in range(length))
    references = [" ".join(rng.choice("abcdef") for _ in range(size)) for size in (3, 63, 64, 65, 140)]
    assert_equal_to_pycocoevalcap([caption, "a b"], [[*references, caption], [caption]])


def test_one_image_scores_no_cider_and_two_perfect_ones_ten():
    assert cider_d(["a dog runs on grass"], [["a dog runs on grass"]]).tolist() == [0]
    texts = ["a dog runs on grass", "two cats sleep under tables"]
    np.testing.assert_allclose(cider_d(texts, [[text] for text in texts]), 10)


def test_a_reward_keeps_the_frequencies_of_the_whole_set():
    corpus = corpora.drawn(200)
    known = CiderD(corpus.references)
    whole = known.of(Comparison(corpus.predictions, known.references))
    images = [7, 3, 3, 199, 7, 0]
    np.testing.assert_allclose(
        known.score(images, [corpus.predictions[image] for image in images]), whole[images], rtol=0, atol=1e-12
    )
    others = [corpus.predictions[image + 1 if image < 199 else 0] + " zebra zebra" for image in images]
    np.testing.assert_allclose(
        known.score(images, others), peer_reward(corpus.references)(images, others), rtol=0, atol=1e-9
    )


def test_several_captions_of_an_image_have_each_their_own_bleu_and_rouge():
    corpus = corpora.scenes(20)
    images = np.array([4, 4, 11, 0, 4])
    captions = [corpus.predictions[image] for image in (4, 5, 11, 12, 13)]
    several = Comparison(captions, References(corpus.references), images)
    references = [corpus.references[image] for image in images]
    np.testing.assert_array_equal(bleu_statistics(several), peer_bleu(captions, references)[1])
    np.testing.assert_allclose(rouge_l_of(several), peer_rouge(captions, references), rtol=0, atol=1e-12)


def test_scoring_leaves_what_is_known_as_it_was():
    """A set that is scored against for days must not take in every word that a model ever said."""
    known = CiderD([["a dog"], ["a cat sleeps"]])
    before = dict(known.references.words.numbers)
    first = known.score([0, 1], ["a dog barks", "no cat"])
    known.score([0], ["entirely new words"])
    assert known.references.words.numbers == before == {"a": 0, "dog": 1, "cat": 2, "sleeps": 3}
    assert known.score([0, 1], ["a dog barks", "no cat"]).tolist() == first.tolist()


def test_counts_of_a_set_worked_out_by_hand():
    words = ngrams.cut(["a b a b", "b a"])
    one, two = (order for order, _ in zip(ngrams.count(words), range(2), strict=False))
    assert list(zip(one.gram.tolist(), one.caption.tolist(), one.count.tolist(), strict=True)) == [
        (0, 0, 2),
        (0, 1, 1),
        (1, 0, 2),
        (1, 1, 1),
    ]
    assert two.codes.tolist() == [0 * 2 + 1, 1 * 2 + 0]  # a b, b a
    assert list(zip(two.gram.tolist(), two.caption.tolist(), two.count.tolist(), strict=True)) == [
        (0, 0, 2),
        (1, 0, 1),
        (1, 1, 1),
    ]
    again = ngrams.cut(["c b", "d c"], known=words)
    assert again.ids.tolist() == [2, 1, 3, 2] and again.limit == 4
    apart = next(iter(ngrams.count(words, apart=True)))
    assert apart.caption.tolist() == [0, 0, 1, 1] and apart.gram.tolist() == [0, 1, 2, 3]


def test_sorting_in_one_integer_and_in_two_steps_agree():
    codes = np.random.default_rng(0).integers(0, 50, 1000)
    packed, wide = ngrams.sort_stable(codes, 50), ngrams.sort_stable(codes, 2**60)
    for one, other in zip(packed, wide, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(packed[1], np.argsort(codes, kind="stable"))


def test_what_cannot_be_compared_is_one_clear_line():
    for references in ([], [["a"], []]):
        with pytest.raises(GitbenchError, match="each image needs at least one reference caption"):
            References(references)
    for captions in ([], ["a", "b"]):
        with pytest.raises(GitbenchError, match=f"{len(captions)} captions of 1 images"):
            bleu(captions, [["a"]])
