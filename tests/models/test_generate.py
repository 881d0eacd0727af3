"""Cached search equals a plain, slow, uncached search written from the description of the official one.

Prefixes of different lengths in one batch, and several of them for one image: each is answered as if alone.
"""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch
from helpers_model import BOS, EOS, VOCAB, both_attentions, texts
from helpers_search import captioner, check, how, official_search, photos, reference_search, uncached

from gitbench.errors import GitbenchError
from gitbench.models import search_state
from gitbench.models.search_state import Search, _Finish
from gitbench.variants.vision import VisionSpec


@pytest.mark.parametrize("penalty", [0.6, 1.0])
@pytest.mark.parametrize("beams", [0, 1, 2, 4])
@both_attentions
def test_search_equals_the_uncached_official_one(attention, beams, penalty):
    lengths = set()
    for seed in {"self": (0, 1), "cross": (0, 3)}[attention]:  # chosen for the variety of their texts
        model, images = captioner(seed, attention=attention), photos(5, 3, 32, 32, seed=seed)
        expected = []
        for image in images:
            log_probs = uncached(model, image)
            expected.append(reference_search(log_probs, [BOS], beams, penalty, 10))
        check(*model.generate(images, **how(beams), length_penalty=penalty, max_length=10), expected)
        lengths |= {len(row) for row, _ in expected}
    assert len(lengths) > 2  # short texts, long ones, and sentences that leave the batch at different steps


@both_attentions
def test_video_is_captioned_from_all_frames(attention):
    model, video = captioner(2, num_frames=2, attention=attention), photos(2, 2, 3, 32, 32)
    expected = [official_search(uncached(model, frames), [BOS], 2, 0.6, 8)[:2] for frames in video]
    check(*model.generate(video, beam_size=2, max_length=8), expected)


@both_attentions
def test_long_texts_outgrow_the_first_allocation(attention):
    """24 steps are allocated at a time."""
    model, images = captioner(0, eos=-100.0, attention=attention), photos(2, 3, 32, 32)
    for beams in (0, 1, 2):
        expected = [reference_search(uncached(model, image), [BOS], beams, 0.6, 30) for image in images]
        check(*model.generate(images, **how(beams), max_length=30), expected)
        assert all(len(row) == 29 for row, _ in expected)


def test_finished_sentences_cost_no_steps():
    """A model that ends at once: the official search needs a second look, this one a single pass over the prefix."""
    model, images = captioner(0, eos=200.0), photos(3, 3, 32, 32)
    calls = []
    run = model.decoder.run
    model.decoder.run = lambda x, *seen: calls.append(x.shape) or run(x, *seen)
    sequences, _ = model.generate(images, max_length=50)
    assert sequences.tolist() == [[BOS, EOS]] * 3
    assert [tuple(shape[:2]) for shape in calls] == [(3, 1)]


@pytest.mark.parametrize("beams", [0, 4])
def test_on_a_gpu_a_search_has_the_same_bits_whenever_numbers_arrive(monkeypatch, beams):
    """The size of its batch, which the last bits of sums depend on, must not; the number of its steps may."""
    init, steps = Search.__init__, []

    def as_on_a_gpu(self, *args, **options) -> None:
        init(self, *args, **options)
        self.finish = _Finish()

    monkeypatch.setattr(Search, "__init__", as_on_a_gpu)
    model, images = captioner(0), photos(5, 3, 32, 32, seed=0)
    run = model.decoder.run
    model.decoder.run = lambda x, *seen: steps.append(len(x)) or run(x, *seen)
    found = []
    for share in (1.0, 0.5, 0.0):
        arrives = random.Random(3)
        arrival = SimpleNamespace(query=lambda arrives=arrives, share=share: arrives.random() < share)
        monkeypatch.setattr(search_state, "_sent", lambda value, arrival=arrival: (value.clone(), arrival))
        steps.clear()
        found.append((*model.generate(images, **how(beams), max_length=30), [*steps]))
    monkeypatch.undo()
    assert {rows for _, _, each in found for rows in each} == {len(images)}
    on_time, sometimes, never = (len(each) for _, _, each in found)
    assert on_time < never == 29 and on_time <= sometimes <= never
    for sequences, scores, _ in found[1:]:
        assert torch.equal(sequences, found[0][0]) and torch.equal(scores, found[0][1])
    usual, its_scores = model.generate(images, **how(beams), max_length=30)
    assert torch.equal(found[0][0], usual)
    torch.testing.assert_close(found[0][1], its_scores, atol=1e-9, rtol=0)


# -- prefixes ---------------------------------------------------------------------------------------------------------

LENGTHS = [3, 1, 5, 2, 5, 4]


def prefixes(lengths, seed=2):
    """Prefixes, padded at the right by one more than is needed, and the same ones as lists without pads."""
    padded = texts(len(lengths), max(lengths) + 1, seed)
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
        ({"beam_size": 0}, "beam_size 0 is out of range"),
        ({"beam_size": VOCAB}, f"use 1 to {VOCAB // 2}"),
        ({"length_penalty": -1.0}, "length_penalty -1.0 is negative"),
        ({"prefix": torch.tensor([[BOS, 5, 6]] * 5 + [[BOS, 0, 5]])}, r"a prefix holds \[PAD\] before its last id"),
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
