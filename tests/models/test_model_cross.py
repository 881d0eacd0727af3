"""The cross-attention decoder alone: torch's layer with the same weights, its image side, shared values, matched sizes.

What it has in common with the self-attention decoder is tested for both in `test_model_git.py` and `test_generate.py`.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from helpers_errors import refused
from helpers_model import DECODER, VOCAB, causal, pictures, texts, tiny
from torch import nn

from gitbench.models.git import GIT, build_decoder
from gitbench.models.weights import to_huggingface, to_official
from gitbench.variants import AXES, resolve
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec


def torch_layer(layer: nn.Module) -> nn.TransformerDecoderLayer:
    """PyTorch's post-norm layer with the weights of ours: the decoder that the official code accepts when one puts
    `torch.nn.TransformerDecoder` into its text head by hand.
    """
    theirs = nn.TransformerDecoderLayer(
        DECODER.width,
        DECODER.heads,
        DECODER.ffn,
        activation="gelu",
        layer_norm_eps=1e-12,
        batch_first=True,
        dtype=torch.float64,
    )
    ours = layer.state_dict()
    state = {}
    for kind in ("weight", "bias"):
        state[f"self_attn.in_proj_{kind}"] = ours[f"qkv.{kind}"]
        state[f"multihead_attn.in_proj_{kind}"] = torch.cat([ours[f"cross_q.{kind}"], ours[f"cross_kv.{kind}"]])
        for name, source in {
            "self_attn.out_proj": "out",
            "norm1": "norm1",
            "multihead_attn.out_proj": "cross_out",
            "norm2": "norm_cross",
            "linear1": "up",
            "linear2": "down",
            "norm3": "norm2",
        }.items():
            state[f"{name}.{kind}"] = ours[f"{source}.{kind}"]
    theirs.load_state_dict(state)
    return theirs.eval()


def test_layers_equal_torchs():
    model, images, tokens = tiny(attention="cross").double(), pictures(2, 3, 32, 32).double(), texts(2, 7)
    image = model.encode(images).detach().requires_grad_()
    text = model.embedding(tokens).detach().requires_grad_()
    ours = model.decoder.text(text, model.decoder.image_memory(image), causal(7))
    expected = text
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    for layer in model.decoder.layers:
        expected = torch_layer(layer)(expected, image, tgt_mask=mask)
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=0)
    probe = torch.randn(ours.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(ours, (image, text), probe),
        torch.autograd.grad(expected, (image, text), probe),
        strict=True,
    ):
        assert a.abs().max() > 1e-3
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_dropout_stands_in_both_attentions_and_after_all_three_parts(monkeypatch):
    model, rates, parts, plain = tiny(attention="cross"), [], [], F.scaled_dot_product_attention

    def recorded(*args, dropout_p=0.0, **options):
        rates.append(dropout_p)
        return plain(*args, dropout_p=dropout_p, **options)

    memory, text = model.image_memory(pictures(1, 3, 32, 32)), model.embedding(texts(1, 5))
    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    for layer in model.decoder.layers:
        layer.dropout.register_forward_hook(lambda module, *_: parts.append(module))
    for training, rate in ((False, 0.0), (True, DECODER.dropout)):
        model.train(training).decoder.text(text, memory, causal(5))
        assert rates == [rate] * 2 * DECODER.layers
        assert len(parts) == 3 * DECODER.layers  # hidden states, after each of the three parts
        rates.clear(), parts.clear()


# -- initial values ---------------------------------------------------------------------------------------------------


def test_cross_attention_starts_by_the_official_scheme():
    model = GIT(
        encoder=EncoderSpec(width=32, layers=1, heads=1, patch=32, image_size=32),
        decoder=DecoderSpec(attention="cross", layers=1, width=768, heads=12, ffn=3072),
        vocab_size=VOCAB,
    )
    (layer,) = model.decoder.layers
    for part in (layer.cross_q, layer.cross_kv, layer.cross_out):
        assert part.weight.std().item() == pytest.approx(0.02, rel=0.01)
        assert part.bias.abs().max() <= 768**-0.5
        assert part.bias.std().item() == pytest.approx((3 * 768) ** -0.5, rel=0.06)
    assert not torch.equal(layer.cross_q.weight, layer.out.weight)
    assert (layer.norm_cross.weight == 1).all() and not layer.norm_cross.bias.any()


# -- sizes ------------------------------------------------------------------------------------------------------------


def count(spec: DecoderSpec) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_decoder(spec).parameters())


SIZES = [name.removeprefix("self_") for name in AXES["decoder"].variants if name.startswith("self_")]


@pytest.mark.parametrize("size", SIZES)
def test_matched_decoders_have_as_many_parameters(size):
    own, cross, matched = (resolve("decoder", n) for n in (f"self_{size}", f"cross_{size}", f"cross_{size}_matched"))
    assert cross == dataclasses.replace(own, attention="cross")  # equal layers: the attention and nothing else
    assert matched == dataclasses.replace(cross, ffn=matched.ffn) and matched.ffn % 8 == 0
    assert count(cross) - count(own) == own.layers * (4 * own.width**2 + 6 * own.width)
    assert abs(count(matched) / count(own) - 1) < 0.02
    assert abs(count(matched) - count(own)) <= own.layers * (8 * own.width + 4)  # the nearest multiple of 8


@pytest.mark.parametrize(("save", "name"), [(to_official, "official"), (to_huggingface, "huggingface")])
def test_no_published_format_holds_it(save, name):
    with refused(f"a cross-attention decoder has no {name} format.*save model.state_dict"):
        save(tiny(attention="cross"))
