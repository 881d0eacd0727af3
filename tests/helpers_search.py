"""Plain, slow, uncached searches, written from the description of the official one, and models that suit them."""

from __future__ import annotations

import pytest
import torch
from helpers_model import EOS, pictures, tiny


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


def how(beams):
    """The arguments of `generate` for a number of beams; 0 stands for greedy search."""
    return {"beam_size": beams} if beams else {"greedy": True}


def reference_search(log_probs, prefix, beams, penalty, max_length):
    """The plain search of a number of beams, 0 for greedy: (ids, score)."""
    if not beams:
        return greedy_search(log_probs, prefix, penalty, max_length)
    return official_search(log_probs, prefix, beams, penalty, max_length)[:2]


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
