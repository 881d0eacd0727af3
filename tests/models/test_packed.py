"""Texts laid end to end: nothing is lost, nothing is computed in vain, and results are those of padded texts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers_model import both_attentions, nll_of, pictures, ragged, tiny

from gitbench.models import cache, cross_attention, decoder
from gitbench.models.cache import additive
from gitbench.models.packed import IGNORED, pack


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
def test_rows_filled_up_to_a_multiple_change_no_result(attention):
    """On GPUs, where each length of a row is a shape of its own."""
    model, images = tiny(attention=attention).double().eval(), pictures(4, 3, 32, 32).double()
    tokens, need = ragged(8, 9)
    memory = model.image_memory(images)
    plain, filled = (pack(tokens, need, len(images), model.pad_id, multiple) for multiple in (1, 16))
    assert plain.tokens.shape[1] % 16 and filled.tokens.shape[1] == -(-plain.tokens.shape[1] // 16) * 16
    assert (filled.tokens[:, plain.tokens.shape[1] :] == model.pad_id).all()
    for measure in (model.packed_loss, lambda memory, texts: model.packed_nll(memory, texts, 8)[0]):
        torch.testing.assert_close(measure(memory, filled), measure(memory, plain), atol=1e-12, rtol=0)


@both_attentions
def test_a_target_everywhere_gives_the_loss_and_gradient_of_those_that_count(attention):
    """On GPUs, where shapes are to follow from the length of a row alone; with a prefix, and a text that predicts nothing."""
    model, images = tiny(attention=attention).double(), pictures(4, 3, 32, 32).double()
    tokens, need = ragged(8, 9)
    need[:, :3], need[5] = False, False
    found = []
    for everywhere in (False, True):
        texts = pack(tokens, need, len(images), model.pad_id, 16, everywhere)
        model.zero_grad()
        torch.manual_seed(0)
        loss = model.packed_loss(model.image_memory(images), texts)
        loss.backward()
        found.append([loss.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    assert texts.places is texts.owners is None and texts.targets.shape == (4 * texts.tokens.shape[1],)
    assert (texts.targets == IGNORED).sum() + (need[:, 1:] & (tokens[:, 1:] != model.pad_id)).sum() == len(
        texts.targets
    )
    assert len(found[0]) == len(found[1]) > 20
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-9)


# ---- masks -------------------------------------------------------------------------------------------------------


def test_an_additive_mask_is_what_torch_makes_of_a_boolean_one_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 13, 8, generator=generator) for _ in range(3))
    visible = torch.rand(2, 13, 13, generator=generator) > 0.3
    visible |= torch.eye(13, dtype=torch.bool)
    mask = additive(visible, q.dtype)[:, None]
    assert (
        all(stride % 8 == 0 for stride in mask.stride()[:-1]) and mask.stride(-1) == 1
    )  # else fused attention copies it
    for dropout in (0.0, 0.2):
        made = []
        for one in (visible[:, None], mask):
            torch.manual_seed(3)
            made.append(F.scaled_dot_product_attention(q, k, v, attn_mask=one, dropout_p=dropout))
        assert torch.equal(*made)


@both_attentions
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mask_is_made_once_for_all_layers_in_the_type_of_what_is_compared(attention, dtype, monkeypatch):
    model, images = tiny(attention=attention).to(dtype).eval(), pictures(4, 3, 32, 32).to(dtype)
    tokens, need = ragged(8, 9)
    masks, made, real = [], [], F.scaled_dot_product_attention

    def attend(q, k, v, attn_mask=None, **options):
        if attn_mask is not None:
            masks.append((attn_mask.dtype, q.dtype))
        return real(q, k, v, attn_mask=attn_mask, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    for module in (cache, decoder, cross_attention):
        monkeypatch.setattr(module, "additive", lambda *given: made.append(1) or additive(*given))
    texts = pack(tokens, need, len(images), model.pad_id)
    model.packed_loss(model.image_memory(images), texts)
    assert len(made) == 1 and masks == [(dtype, dtype)] * 3
    made.clear(), masks.clear()
    model.generate(images, max_length=4, beam_size=2)
    assert len(masks) == 3 * len(made) and set(masks) == {(dtype, dtype)}


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
