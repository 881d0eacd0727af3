"""Cached search equals a plain, slow, uncached search written from the description of the official one."""

from __future__ import annotations

import math

import pytest
import torch
from helpers_model import BOS, EOS, VOCAB, both_attentions, pictures, texts, tiny

from gitbench.errors import GitbenchError


def norm(length, penalty):
    return ((5 + length) / 6) ** penalty


def official_search(log_probs, prefix, beams, penalty, max_steps):
    """The official beam search for one sentence: (ids of the best hypothesis, its score, steps)."""
    sums, rows = [0.0] + [-1e9] * (beams - 1), [list(prefix)] * beams
    best, steps = None, 0
    while len(rows[0]) < max_steps:
        steps += 1
        length = len(rows[0])
        candidates = []
        for i, row in enumerate(rows):
            for token, value in enumerate(log_probs(row)):
                candidates.append((sums[i] + value, i, token))
        candidates = sorted(candidates, key=lambda c: -c[0])[: 2 * beams]
        if best is not None and best[1] >= candidates[0][0] / norm(max_steps - 1, penalty):
            break
        following = []
        for value, i, token in candidates:
            if token == EOS or length + 1 == max_steps:
                score = value / norm(length, penalty)
                if best is None or score > best[1]:
                    best = (rows[i], score)
            else:
                following.append((value, [*rows[i], token]))
            if len(following) == beams:
                break
        if not following:
            break
        sums, rows = [f[0] for f in following], [f[1] for f in following]
    return (*best, steps)


def greedy_search(log_probs, prefix, penalty, max_length):
    row, total = list(prefix), 0.0
    while True:
        values = log_probs(row)
        token = max(range(len(values)), key=values.__getitem__)
        total += values[token]
        if token == EOS or len(row) + 1 == max_length:
            return row, total / norm(len(row), penalty)
        row.append(token)


def captioner(seed, eos=None, attention="self", **options):
    """A float64 model (no ties) whose texts depend on the image and end after 1 to 9 tokens, or not at all."""
    model = tiny(seed, scale=0.3, attention=attention, **options).double()
    eos = {"self": 3.0, "cross": 5.0}[attention] if eos is None else eos
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.startswith(("decoder", "projection")):
                value.mul_(4 if value.dim() > 1 else 1 if name.endswith("weight") else 0.3)
        model.embedding.words.weight[EOS].mul_(2)
        model.head_bias[EOS] += eos
    return model


def photos(*shape, seed=1):
    return 3 * pictures(*shape, seed=seed).double()


def uncached(model, image):
    seen = {}

    def log_probs(row):
        if tuple(row) not in seen:
            with torch.no_grad():
                seen[tuple(row)] = model.logits(image[None], torch.tensor([row]))[0, -1].log_softmax(-1).tolist()
        return seen[tuple(row)]

    return log_probs


def check(sequences, scores, expected):
    longest = max(len(row) for row, _ in expected)
    assert sequences.shape == (len(expected), longest + 1)
    for sequence, score, (row, value) in zip(sequences.tolist(), scores.tolist(), expected, strict=True):
        assert sequence == row + [EOS] * (longest + 1 - len(row))
        assert score == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("penalty", [0.6, 1.0])
@pytest.mark.parametrize("beams", [1, 2, 4])
@both_attentions
def test_search_equals_the_uncached_official_one(attention, beams, penalty):
    lengths = set()
    for seed in {"self": (0, 1), "cross": (0, 3)}[attention]:  # chosen for the variety of their texts
        model, images = captioner(seed, attention=attention), photos(5, 3, 32, 32, seed=seed)
        expected = []
        for image in images:
            log_probs = uncached(model, image)
            if beams == 1:
                expected.append(greedy_search(log_probs, [BOS], penalty, 10))
            else:
                expected.append(official_search(log_probs, [BOS], beams, penalty, 10)[:2])
        check(*model.generate(images, beam_size=beams, length_penalty=penalty, max_length=10), expected)
        lengths |= {len(row) for row, _ in expected}
    assert len(lengths) > 2  # short texts, long ones, and sentences that leave the batch at different steps


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("max_length", [4, 5, 12])
@both_attentions
def test_prefix_counts_and_stays(attention, beams, max_length):
    model, images, prefix = captioner(1, attention=attention), photos(3, 3, 32, 32), texts(3, 3)
    expected = []
    for image, start in zip(images, prefix.tolist(), strict=True):
        if beams == 1:
            expected.append(greedy_search(uncached(model, image), start, 0.6, max_length))
        else:
            expected.append(official_search(uncached(model, image), start, beams, 0.6, max_length)[:2])
    sequences, scores = model.generate(images, prefix, beam_size=beams, max_length=max_length)
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
    for beams in (1, 2):
        expected = [
            greedy_search(uncached(model, image), [BOS], 0.6, 60)
            if beams == 1
            else official_search(uncached(model, image), [BOS], beams, 0.6, 60)[:2]
            for image in images
        ]
        check(*model.generate(images, beam_size=beams, max_length=60), expected)
        assert all(len(row) == 59 for row, _ in expected)


def test_greedy_is_not_the_official_search_with_one_beam():
    """Official: after [SEP] the beam goes on with the second-best token and may win. Documented in generate.py."""

    def log_probs(row):
        first, other = (0.5, 0.49) if len(row) == 1 else (0.98, 0.01)
        return [math.log({EOS: first, 5: other}.get(token, 1e-9)) for token in range(VOCAB)]

    assert greedy_search(log_probs, [BOS], 1.0, 12)[0] == [BOS]
    assert official_search(log_probs, [BOS], 1, 1.0, 12)[0] == [BOS, 5]


def test_finished_sentences_cost_no_steps():
    """A model that ends at once: the official search needs a second look, this one a single pass over the prefix."""
    model, images = captioner(0, eos=200.0), photos(3, 3, 32, 32)
    calls = []
    run = model.decoder.continue_text
    model.decoder.continue_text = lambda x, cache: calls.append(x.shape) or run(x, cache)
    sequences, _ = model.generate(images, max_length=50)
    assert sequences.tolist() == [[BOS, EOS]] * 3
    assert [tuple(shape[:2]) for shape in calls] == [(3, 1)]


@both_attentions
def test_result_does_not_depend_on_the_company(attention):
    model, images = captioner(3, attention=attention), photos(6, 3, 32, 32)
    together, scores = model.generate(images, max_length=12)
    for i in range(6):
        alone, score = model.generate(images[i : i + 1], max_length=12)
        width = alone.shape[1]
        assert together[i, :width].tolist() == alone[0].tolist() and (together[i, width:] == EOS).all()
        torch.testing.assert_close(scores[i], score[0], atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size 0 is out of range"),
        ({"beam_size": VOCAB}, f"use 1 to {VOCAB // 2}"),
        ({"length_penalty": -1.0}, "length_penalty -1.0 is negative"),
        ({"max_length": 1}, "max_length 1 leaves no room"),
        ({"prefix": texts(3, 2)}, "one row of ids"),
        ({"prefix": torch.tensor([[BOS, 5], [BOS, 0]])}, "a prefix holds \\[PAD\\]"),
        ({"max_length": 200, "beam_size": 1}, "exceeds the decoder's 96 positions"),
    ],
)
def test_errors_name_the_fix(options, message):
    with pytest.raises(GitbenchError, match=message):
        captioner(0, eos=-100.0).generate(photos(2, 3, 32, 32), **options)
