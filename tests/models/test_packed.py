"""Texts laid end to end: nothing is lost, nothing is computed in vain, and results are those of padded texts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from helpers_model import both_attentions, nll_of, pictures, ragged, tiny

from gitbench.models.packed import pack


def test_texts_follow_each_other_without_padding():
    tokens = torch.tensor([[9, 1, 2, 8], [9, 3, 8, 0], [9, 8, 0, 0], [9, 4, 8, 0]])
    packed = pack(tokens, (tokens != 9) & (tokens != 0), rows=2, pad_id=0)
    assert packed.tokens.tolist() == [[9, 1, 2, 9, 3], [9, 9, 4, 0, 0]]
    assert packed.positions.tolist() == [[0, 1, 2, 0, 1], [0, 0, 1, 0, 0]]
    assert packed.targets.tolist() == [1, 2, 8, 3, 8, 8, 4, 8]
    assert packed.places.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert packed.owners.tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    first, second = packed.visible.long().tolist()
    assert first == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert second == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]


def test_a_prefix_stays_and_what_predicts_nothing_goes():
    tokens = torch.tensor([[9, 5, 6, 7, 8, 0], [9, 5, 8, 0, 0, 0]])
    need = torch.tensor([[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]])  # one token after a prefix; and none at all
    packed = pack(tokens, need, rows=1, pad_id=0)
    assert packed.tokens.tolist() == [[9, 5, 6]] and packed.places.tolist() == [2] and packed.targets.tolist() == [7]
    assert pack(tokens, need, rows=2, pad_id=0).tokens.tolist() == [[9, 5, 6], [0, 0, 0]]
    assert pack(tokens, need * 0, rows=1, pad_id=0).targets.numel() == 0


@both_attentions
def test_loss_and_likelihood_are_those_of_padded_texts(attention):
    """Against `logits`, which computes every position of every text, with prefixes, gaps and pads among the targets."""
    model, images = tiny(attention=attention, label_smoothing=0.0).double(), pictures(4, 3, 32, 32).double()
    tokens, need = ragged(8, 9)
    need[1, 1], need[2, 1:3], need[5] = False, False, False
    tokens[6, 2] = 0
    logits = model.logits(images, tokens)[:, :-1]
    counts = need[:, 1:] & (tokens[:, 1:] != 0)
    nll = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none") * counts
    ours, count = nll_of(model, images, tokens, need)
    torch.testing.assert_close(ours, nll.sum(1), atol=1e-12, rtol=0)
    assert count.tolist() == counts.sum(1).tolist() and count[5] == 0
    torch.testing.assert_close(model.loss(images, tokens, need), nll.sum() / counts.sum(), atol=1e-12, rtol=0)
