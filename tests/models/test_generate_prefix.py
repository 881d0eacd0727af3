"""Prefixes of different lengths in one batch, and several of them for one image: each is answered as if alone."""

from __future__ import annotations

import pytest
import torch
from helpers_model import BOS, EOS, both_attentions, texts
from helpers_search import captioner, check, how, photos, reference_search, uncached

from gitbench.errors import GitbenchError
from gitbench.variants.vision import VisionSpec

LENGTHS = [3, 1, 5, 2, 5, 4]


def prefixes(lengths, seed=2):
    """Right-padded prefixes, and the same ones as lists without pads."""
    padded = texts(len(lengths), max(lengths), seed)
    for row, length in zip(padded, lengths, strict=True):
        row[length:] = 0
    return padded, [row[:length].tolist() for row, length in zip(padded, lengths, strict=True)]


def alone(model, images, rows, **options):
    """Generate each text in a call of its own: (sequences without the [SEP]s at their end, scores)."""
    results = [
        model.generate(image[None], torch.tensor([row]), **options) for image, row in zip(images, rows, strict=True)
    ]
    return [without_end(sequences[0]) for sequences, _ in results], torch.cat([scores for _, scores in results])


def without_end(sequence):
    row = sequence.tolist()
    while row[-1] == EOS:
        row.pop()
    return row


@pytest.mark.parametrize("penalty", [0.0, 0.6])
@pytest.mark.parametrize("beams", [0, 1, 2, 4])
@both_attentions
def test_prefixes_of_different_lengths_equal_the_uncached_search(attention, beams, penalty):
    """max_length 6 leaves the longest prefix a single token, and each length its own step to be cut at."""
    model, images = captioner(1, attention=attention), photos(6, 3, 32, 32, seed=1)
    padded, rows = prefixes(LENGTHS)
    steps = set()
    for max_length in (6, 9):
        expected = []
        for image, row in zip(images, rows, strict=True):
            log_probs = uncached(model, image)
            expected.append(reference_search(log_probs, row, beams, penalty, max_length))
        check(*model.generate(images, padded, **how(beams), length_penalty=penalty, max_length=max_length), expected)
        steps |= {len(text) - len(row) for (text, _), row in zip(expected, rows, strict=True)}
    assert len(steps) > 2  # sentences leave the batch at different steps


def test_more_padding_changes_nothing():
    model, images = captioner(1).float(), photos(3, 3, 32, 32).float()
    plain = texts(3, 3)
    for prefix in (plain, prefixes([3, 1, 2])[0]):
        wider = torch.nn.functional.pad(prefix, (0, 4))
        for a, b in zip(model.generate(images, prefix), model.generate(images, wider), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("beams", [0, 1, 2])
@both_attentions
def test_an_image_answers_many_prefixes(attention, beams):
    model, images = captioner(1, attention=attention), photos(3, 3, 32, 32, seed=1)
    padded, rows = prefixes(LENGTHS)
    for index in ([2, 0, 0, 2, 1, 1], [0, 0, 1, 1, 2, 2], [2, 2, 2, 2, 2, 2]):
        got, scores = model.generate(images, padded, image_index=torch.tensor(index), **how(beams), max_length=9)
        expected, expected_scores = alone(model, images[index], rows, **how(beams), max_length=9)
        assert [without_end(sequence) for sequence in got] == expected
        torch.testing.assert_close(scores, expected_scores, atol=1e-9, rtol=0)
    one, scores = model.generate(images[:1], padded, image_index=torch.zeros(6, dtype=torch.long), max_length=9)
    repeated, again = model.generate(images[[0] * 6], padded, max_length=9)
    assert torch.equal(one, repeated)
    torch.testing.assert_close(scores, again, atol=1e-9, rtol=0)


@both_attentions
def test_the_blind_answer_the_prefix(attention):
    seeing, blind = captioner(1, attention=attention), captioner(1, attention=attention, vision=VisionSpec(blind=True))
    images, index, (padded, _) = photos(2, 3, 32, 32), torch.tensor([0, 1, 1, 0, 1, 0]), prefixes(LENGTHS)
    expected = seeing.generate(torch.zeros_like(images), padded, image_index=index, max_length=9)
    for a, b in zip(blind.generate(images, padded, image_index=index, max_length=9), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)
    sequences, scores = blind.generate(images, image_index=index, max_length=9)
    assert sequences.shape[0] == 6 and (sequences == sequences[0]).all() and (scores == scores[0]).all()


def test_a_finished_sentence_may_outgrow_the_positions():
    """The long prefix is cut after one token and stays in the batch, beyond position 95, while the others go on."""
    model, images = captioner(0, eos=-100.0), photos(5, 3, 32, 32)
    padded, rows = prefixes([3, 90, 3, 2, 3])
    sequences, scores = model.generate(images, padded, beam_size=1, max_length=92)
    expected, expected_scores = alone(model, images, rows, beam_size=1, max_length=92)
    assert [without_end(sequence) for sequence in sequences] == expected
    assert {len(row) for row in expected} == {91}
    torch.testing.assert_close(scores, expected_scores, atol=1e-8, rtol=0)
    with pytest.raises(GitbenchError, match="exceeds the decoder's 96 positions"):
        model.generate(images, padded, beam_size=1, max_length=200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 5}, "max_length 5 leaves no room after a prefix of 5 ids: raise it"),
        (
            {"prefix": prefixes(LENGTHS)[0][:4]},
            r"one row of ids, starting with \[CLS\], per entry of image_index \(6\)",
        ),
        ({"image_index": torch.tensor([0, 0, 1, 1, 2, 0])}, "one number from 0 to 1 for each of the 6 texts"),
        ({"image_index": torch.tensor([[0, 0, 1, 1, 1, 0]])}, "one number from 0 to 1 for each of the 6 texts"),
        ({"prefix": torch.tensor([[BOS, 5]] * 5 + [[0, 0]])}, "padded at its end"),
        ({"prefix": None, "image_index": torch.zeros(0, dtype=torch.long)}, "nothing to generate"),
    ],
)
def test_errors_name_the_fix(options, message):
    given = {"prefix": prefixes(LENGTHS)[0], "image_index": torch.tensor([0, 0, 1, 1, 1, 0]), **options}
    with pytest.raises(GitbenchError, match=message):
        captioner(0).generate(photos(2, 3, 32, 32), **given)
