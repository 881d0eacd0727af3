"""Cached search equals a plain, slow, uncached search written from the description of the official one."""

from __future__ import annotations

import pytest
import torch
from helpers_model import BOS, EOS, VOCAB, both_attentions, texts
from helpers_search import captioner, check, how, official_search, photos, reference_search, uncached

from gitbench.errors import GitbenchError


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


@pytest.mark.parametrize("beams", [0, 1, 3])
@pytest.mark.parametrize("max_length", [4, 5, 12])
@both_attentions
def test_prefix_counts_and_stays(attention, beams, max_length):
    model, images, prefix = captioner(1, attention=attention), photos(3, 3, 32, 32), texts(3, 3)
    expected = []
    for image, start in zip(images, prefix.tolist(), strict=True):
        expected.append(reference_search(uncached(model, image), start, beams, 0.6, max_length))
    sequences, scores = model.generate(images, prefix, **how(beams), max_length=max_length)
    assert torch.equal(sequences[:, :3], prefix)
    check(sequences, scores, expected)


@both_attentions
def test_video_is_captioned_from_all_frames(attention):
    model, video = captioner(2, num_frames=2, attention=attention), photos(2, 2, 3, 32, 32)
    expected = [official_search(uncached(model, frames), [BOS], 2, 0.6, 8)[:2] for frames in video]
    check(*model.generate(video, beam_size=2, max_length=8), expected)


@both_attentions
def test_long_texts_outgrow_the_first_allocation(attention):
    model, images = captioner(0, eos=-100.0, attention=attention), photos(2, 3, 32, 32)
    for beams in (0, 1, 2):
        expected = [reference_search(uncached(model, image), [BOS], beams, 0.6, 60) for image in images]
        check(*model.generate(images, **how(beams), max_length=60), expected)
        assert all(len(row) == 59 for row, _ in expected)


def test_finished_sentences_cost_no_steps():
    """A model that ends at once: the official search needs a second look, this one a single pass over the prefix."""
    model, images = captioner(0, eos=200.0), photos(3, 3, 32, 32)
    calls = []
    run = model.decoder.run
    model.decoder.run = lambda x, *seen: calls.append(x.shape) or run(x, *seen)
    sequences, _ = model.generate(images, max_length=50)
    assert sequences.tolist() == [[BOS, EOS]] * 3
    assert [tuple(shape[:2]) for shape in calls] == [(3, 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size 0 is out of range"),
        ({"beam_size": VOCAB}, f"use 1 to {VOCAB // 2}"),
        ({"length_penalty": -1.0}, "length_penalty -1.0 is negative"),
        ({"max_length": 1}, "max_length 1 leaves no room"),
        ({"prefix": torch.tensor([[BOS, 5, 6], [BOS, 0, 5]])}, "a prefix holds \\[PAD\\] before its last id"),
        ({"max_length": 200, "beam_size": 1}, "exceeds the decoder's 96 positions"),
    ],
)
def test_errors_name_the_fix(options, message):
    with pytest.raises(GitbenchError, match=message):
        captioner(0, eos=-100.0).generate(photos(2, 3, 32, 32), **options)
