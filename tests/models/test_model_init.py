"""Initial values are functions of (seed, name, shape), with the official distributions."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers_model import DECODER, ENCODER, VOCAB

from gitbench.models import build_model
from gitbench.models.git import GIT
from gitbench.models.init import initialise
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec


def made(seed, **changes):
    model = GIT(**{"encoder": ENCODER, "decoder": DECODER, "vocab_size": VOCAB, **changes})
    initialise(model, seed)
    return model


def test_same_seed_same_values_whatever_the_global_state():
    torch.manual_seed(1)
    a = made(3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    initialise(a2 := made(4), 3)
    torch.set_rng_state(state)
    for (name, x), y in zip(a.state_dict().items(), a2.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
    before = torch.get_rng_state()
    initialise(a, 5)
    assert torch.equal(before, torch.get_rng_state())
    other = a.state_dict()
    assert not torch.equal(other["decoder.layers.0.qkv.weight"], a2.state_dict()["decoder.layers.0.qkv.weight"])


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder": DecoderSpec(layers=5, width=48, heads=4, ffn=96, max_positions=96)},  # deeper
        {"decoder": DecoderSpec(layers=3, width=64, heads=4, ffn=128, max_positions=96)},  # wider
        {"decoder": DecoderSpec(layers=3, width=48, heads=4, ffn=192, max_positions=96)},  # another feed-forward part
        {"encoder": EncoderSpec(width=64, layers=3, heads=4, patch=8, image_size=32)},
        {"vocab_size": 200, "num_frames": 2},
        {"decoder": dataclasses.replace(DECODER, attention="cross")},
    ],
)
def test_models_share_every_tensor_they_have_in_common(changes):
    a, b = made(7).state_dict(), made(7, **changes).state_dict()
    common = [name for name, value in a.items() if name in b and b[name].shape == value.shape]
    assert len(common) > 20
    for name in common:
        assert torch.equal(a[name], b[name]), name


def test_distributions_are_the_official_ones():
    wide = made(
        0,
        encoder=EncoderSpec(width=768, layers=1, heads=12, patch=16, image_size=64),
        decoder=DecoderSpec(layers=1, width=768, heads=12, ffn=3072),
        vocab_size=1000,
        num_frames=2,
    )
    values = wide.state_dict()

    def std(name, expected):
        assert values[name].std().item() == pytest.approx(expected, rel=0.06), name

    def uniform(name, inputs):
        assert values[name].abs().max() <= inputs**-0.5
        std(name, (3 * inputs) ** -0.5)

    layer, block = "decoder.layers.0", "encoder.blocks.0"
    for name in ("embedding.words", "embedding.positions", "projection.0", f"{layer}.down"):
        std(f"{name}.weight", 0.02)
    for name in ("projection.0.bias", f"{layer}.qkv.bias", f"{layer}.out.bias", f"{layer}.up.bias", "head_bias"):
        uniform(name, 768)
    uniform(f"{layer}.down.bias", 3072)
    std("encoder.cls_token", 768**-0.5)
    std("encoder.pos_embed", 768**-0.5)
    uniform("encoder.patch_embed.proj.weight", 3 * 16 * 16)
    uniform(f"{block}.attn.qkv.weight", 4 * 768 / 6)
    uniform(f"{block}.attn.proj.weight", 768)
    uniform(f"{block}.mlp.fc1.bias", 768)
    uniform(f"{block}.mlp.fc2.bias", 3072)
    zero = (f"{block}.attn.qkv.bias", f"{block}.attn.proj.bias", "temporal", "projection.1.bias", "encoder.norm.bias")
    assert not any(values[name].any() for name in zero)
    one = ("embedding.norm", "projection.1", f"{layer}.norm2", "encoder.norm_pre")
    assert all((values[f"{name}.weight"] == 1).all() for name in one)
    assert values["embedding.words.weight"][0].any()  # the padding row is an ordinary row


def test_narrow_decoders_scale_the_official_deviation_with_their_width():
    narrow = build_model(
        "git_base", decoder_width=192, decoder_heads=3, decoder_ffn=768, decoder_layers=1, encoder_layers=1
    )
    for name in ("embedding.words.weight", "decoder.layers.0.up.weight", "decoder.layers.0.down.weight"):
        assert narrow.state_dict()[name].std().item() == pytest.approx(0.04, rel=0.03), name
