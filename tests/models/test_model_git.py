"""What GIT promises, with either decoder: who sees whom, exact sharing of images, the official loss, blindness, learning."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers_errors import refused
from helpers_model import (
    DECODER,
    ENCODER,
    EOS,
    VOCAB,
    both_attentions,
    gradients,
    pictures,
    ragged,
    texts,
    tiny,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gitbench.models import build_model, parameter_counts
from gitbench.models.flops import flops_by_part
from gitbench.models.git import GIT
from gitbench.profiles import PROFILES
from gitbench.variants import resolve
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec
from gitbench.variants.vision import VisionSpec


def loss_and_gradients(model, *batch, **options):
    model.zero_grad()
    loss = model.loss(*batch, **options)
    loss.backward()
    return loss.detach(), gradients(model)


def assert_same(a, b, atol):
    torch.testing.assert_close(a[0], b[0], atol=atol, rtol=0)
    for name, value in a[1].items():
        torch.testing.assert_close(value, b[1][name], atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


# -- who sees whom ----------------------------------------------------------------------------------------------------


@both_attentions
def test_text_sees_the_image_and_its_past_and_not_its_future(attention):
    model, images, tokens = tiny(attention=attention), pictures(1, 3, 32, 32), texts(1, 8)
    changed = tokens.clone()
    changed[0, 5] = tokens[0, 5] % 90 + 1
    before, after = model.logits(images, tokens), model.logits(images, changed)
    torch.testing.assert_close(before[:, :5], after[:, :5], atol=0, rtol=0)
    assert ((before - after)[:, 5:].abs().amax(-1) > 1e-3).all()
    other = model.logits(pictures(1, 3, 32, 32, seed=9), tokens)
    assert ((before - other).abs().amax(-1) > 1e-3).all()


def test_two_streams_equal_one_masked_sequence():
    """A plain decoder over [image ; text] with the mask of the paper's Figure 3 gives the same text states."""
    model, images, tokens = tiny().double(), pictures(2, 3, 32, 32).double(), texts(2, 6)
    image = model.encode(images)
    x, s = torch.cat([image, model.embedding(tokens)], dim=1), image.shape[1]
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    mask[:s, :s] = True
    for layer in model.decoder.layers:
        x = layer.finish(x, F.scaled_dot_product_attention(*layer.project(x), attn_mask=mask))
    torch.testing.assert_close(model.logits(images, tokens), model.head(x[:, s:]), atol=1e-12, rtol=0)


@both_attentions
def test_padding_changes_nothing(attention):
    model, images = tiny(attention=attention).double(), pictures(4, 3, 32, 32).double()
    tokens, need = ragged(4, 8)
    wide, wide_need = F.pad(tokens, (0, 5)), F.pad(need, (0, 5))
    assert_same(
        loss_and_gradients(model, images, tokens, need), loss_and_gradients(model, images, wide, wide_need), 1e-12
    )
    garbage = torch.where(wide == 0, 7, wide)  # what stands behind [SEP] is never looked at
    torch.testing.assert_close(
        model.loss(images, wide, wide_need), model.loss(images, garbage, wide_need), atol=1e-12, rtol=0
    )


# -- several texts of one image ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("frames", [0, 2])
@both_attentions
def test_sharing_an_image_equals_repeating_it(attention, dtype, atol, frames):
    model = tiny(num_frames=frames, scale=0.05, attention=attention).to(dtype)
    images = pictures(3, *([frames] * bool(frames)), 3, 32, 32).to(dtype)
    tokens, need = ragged(12, 7)
    shared = loss_and_gradients(model, images, tokens, need)
    repeated = loss_and_gradients(model, images.repeat_interleave(4, 0), tokens, need)
    assert_same(shared, repeated, atol)
    assert shared[1]["encoder.patch_embed.proj.weight"].abs().max() > 1e-5


# -- loss -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_official_divergence(smoothing):
    model, images = tiny(label_smoothing=smoothing).double(), pictures(4, 3, 32, 32).double()
    tokens, need = ragged(4, 8)
    need[0, 1] = False  # a prefix
    tokens[3, 2] = 0  # an id that is [PAD] is no target even where it is marked
    terms = []
    for i, row in enumerate(model.logits(images, tokens).log_softmax(-1)):
        for t in range(1, 8):
            if need[i, t] and tokens[i, t] != 0:
                target = torch.full((VOCAB,), smoothing / (VOCAB - 1), dtype=torch.float64)
                target[tokens[i, t]] = 1 - smoothing
                terms.append(F.kl_div(row[t - 1], target, reduction="sum"))
    assert len(terms) == int(need.sum()) - 1
    torch.testing.assert_close(model.loss(images, tokens, need), torch.stack(terms).mean(), atol=1e-12, rtol=0)


# -- blind, video, dropout, precision, learning -----------------------------------------------------------------------


@both_attentions
def test_blind_equals_zero_pixels_and_ignores_the_image(attention):
    model = tiny(attention=attention).double()
    blind = tiny(attention=attention, vision=VisionSpec(blind=True)).double()
    images = pictures(3, 3, 32, 32).double()
    tokens, need = ragged(6, 7)
    expected = loss_and_gradients(model, torch.zeros_like(images), tokens, need)
    assert_same(loss_and_gradients(blind, images, tokens, need), expected, 1e-12)


@both_attentions
def test_frames_carry_their_own_embedding_and_all_count(attention):
    model, tokens = tiny(num_frames=3, attention=attention), texts(1, 5)
    video = pictures(1, 3, 3, 32, 32)
    base = model.logits(video, tokens)
    assert (base - model.logits(video.flip(1), tokens)).abs().max() > 1e-3  # order matters
    with torch.no_grad():
        model.temporal.zero_()
    torch.testing.assert_close(model.logits(video, tokens), model.logits(video.flip(1), tokens), atol=1e-5, rtol=0)
    assert model.logits(video[:, :2], tokens).shape == base.shape  # fewer frames are allowed
    torch.testing.assert_close(model.logits(video[:, :1], tokens), model.logits(video[:, 0], tokens), atol=1e-6, rtol=0)
    with refused("sample at most 3 frames"):
        model.logits(pictures(1, 4, 3, 32, 32), tokens)


def test_pixels_beyond_a_whole_patch_are_dropped():
    model, tokens = tiny(), texts(1, 3)
    image = pictures(1, 3, 39, 37)
    torch.testing.assert_close(
        model.logits(image, tokens), model.logits(image[..., :32, :32], tokens), atol=1e-6, rtol=0
    )


@both_attentions
def test_dropout_acts_in_training_and_only_there(attention):
    model, images, tokens = tiny(attention=attention), pictures(1, 3, 32, 32), texts(1, 5)
    torch.testing.assert_close(model.logits(images, tokens), model.logits(images, tokens), atol=0, rtol=0)
    model.train()
    assert (model.logits(images, tokens) - model.logits(images, tokens)).abs().max() > 1e-3
    assert model.decoder.attention_dropout == 0.1
    rates = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {0.0, 0.1}  # 0.0: timm's, in the encoder
    torch.testing.assert_close(model.encoder(images), model.encoder(images), atol=0, rtol=0)  # the encoder has none
    model.generate(images, max_length=4)
    assert model.training  # generation leaves the mode as it was


@both_attentions
def test_bf16_autocast_runs_everything(attention):
    model, images = tiny(attention=attention), pictures(2, 3, 32, 32)
    tokens, need = ragged(4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(images, tokens, need)
        sequences, scores = model.generate(images, max_length=6)
    assert loss.dtype == scores.dtype == torch.float32
    torch.testing.assert_close(loss, model.loss(images, tokens, need), atol=0.2, rtol=0.05)
    loss.backward()
    assert sequences.shape[0] == 2


@both_attentions
def test_overfits_one_batch(attention):
    decoder = DecoderSpec(attention=attention, layers=2, width=48, heads=4, ffn=96, dropout=0.0)
    model = GIT(
        encoder=EncoderSpec(width=32, layers=1, heads=4, patch=16, image_size=32), decoder=decoder, vocab_size=VOCAB
    )
    images = pictures(4, 3, 32, 32)
    tokens, need = ragged(4, 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = model.loss(images, tokens, need).item()
    for _ in range(120):
        loss = model.loss(images, tokens, need)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first > 3 and loss.item() < 0.05
    for beams in (1, 4):
        sequences, _ = model.generate(images, beam_size=beams, max_length=9)
        expected = torch.where(tokens == 0, EOS, tokens)[:, : sequences.shape[1]]
        assert torch.equal(sequences[:, :8], expected)


# -- sizes and errors -------------------------------------------------------------------------------------------------


def test_official_sizes():
    """GIT-base has 153,571,386 parameters in the official code, 768 x 512 of them CLIP's unused projection."""
    with torch.device("meta"):
        base = build_model("git_base")
        large = build_model("git_large")
    paper = PROFILES["paper"].variants
    assert (base.encoder.spec, base.decoder.spec) == tuple(
        resolve(axis, paper[axis]) for axis in ("encoder", "decoder")
    )
    assert parameter_counts(base)["total"] == 153_571_386 - 768 * 512
    assert parameter_counts(base)["encoder"] == 86_192_640 - 768 * 512
    assert parameter_counts(large)["total"] == 371_541_562 - 1024 * 768
    counts = parameter_counts(base)
    assert counts["total"] == sum(p.numel() for p in base.parameters()) and not base.training
    assert counts["total"] == sum(v for k, v in counts.items() if k != "total")


def test_overrides_replace_single_values():
    with torch.device("meta"):
        model = build_model("git_base", vocab_size=512, decoder_layers=2, encoder_image_size=32, num_frames=6)
    assert model.embedding.words.weight.shape == (512, 768)
    assert len(model.decoder.layers) == 2
    assert model.encoder.pos_embed.shape == (1, 5, 768) and model.temporal.shape == (6, 768)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build_model("git_bse"), "unknown model 'git_bse': did you mean 'git_base'"),
        (lambda: build_model("git_base", vocabsize=5), "did you mean 'vocab_size'"),
        (lambda: build_model("git_base", decoder_layer=5), "did you mean 'decoder_layers'"),
        (lambda: tiny(attention="selv"), "did you mean 'self'"),
        (lambda: tiny(decoder=replace(DECODER, width=49)), "not a multiple of its 4 heads"),
        (lambda: tiny(decoder=replace(DECODER, layers=0)), "use at least 1"),
        (lambda: tiny(encoder=replace(ENCODER, width=33)), "not a multiple of its 4 heads"),
        (lambda: tiny(encoder=replace(ENCODER, image_size=4)), "raise image_size"),
        (lambda: tiny(vocab_size=50), "outside the vocabulary"),
        (lambda: tiny(label_smoothing=1.0), "label_smoothing 1.0 is out of range"),
        (lambda: tiny().logits(pictures(1, 3, 7, 32), texts(1, 3)), "below the patch size 8"),
        (lambda: tiny().logits(pictures(1, 1, 32, 32), texts(1, 3)), "pass (N,3,H,W)"),
        (lambda: tiny().logits(pictures(2, 3, 32, 32), texts(3, 3)), "cannot be shared out"),
        (lambda: tiny().logits(pictures(1, 3, 32, 32), texts(1, 97)), "exceeds the decoder's 96 positions"),
        (
            lambda: tiny().loss(pictures(1, 3, 32, 32), texts(1, 4), torch.zeros(1, 4)),
            "no token of the batch is to be predicted",
        ),
        (lambda: tiny().loss(pictures(1, 3, 32, 32), texts(1, 4), torch.ones(1, 3)), "must agree"),
    ],
)
def test_errors_name_the_fix(make, message):
    with refused(re.escape(message)):
        make()


@pytest.mark.parametrize("captions", [1, 3])
@both_attentions
def test_flops_equal_what_torch_counts(attention, captions):
    """All but text attention, of which torch counts what is masked too: the future, and the image's other captions."""
    model, tokens = tiny(attention=attention), texts(captions, 5)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model.logits(pictures(1, 3, 32, 32), tokens)
    image = 17
    executed = image + captions * 5
    needed = image + (5 + 1) / 2
    excess = DECODER.layers * captions * 5 * 4 * (executed - needed) * DECODER.width
    parts = flops_by_part(model, captions=captions, tokens=5)
    assert counter.get_total_flops() - excess == sum(parts.values())
    assert parts["encoder"] == flops_by_part(model, captions=9, tokens=9)["encoder"]
