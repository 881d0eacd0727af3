"""Beside the official code: the same random weights give the same logits, losses, gradients, searches and pixels.

The official repository (microsoft/GenerativeImage2Text, checked at faae4fb) is no part of this one. Name a checkout to
run these tests: `GITBENCH_OFFICIAL=/path/to/GenerativeImage2Text pytest tests/models/test_official.py`. Its packages for
downloading are replaced by empty ones; nothing of it is changed but dropout, off.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_captioner import run_folder
from helpers_model import BOS, EOS, pictures, ragged, texts
from PIL import Image

from gitbench.data.image_processor import official_parameters, official_processor
from gitbench.models.weights import from_official, to_official
from gitbench.training.caption import load_captioner
from gitbench.training.export import write_official
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec

OFFICIAL = os.environ.get("GITBENCH_OFFICIAL", "")
pytestmark = pytest.mark.skipif(
    not OFFICIAL, reason="set GITBENCH_OFFICIAL to a checkout of microsoft/GenerativeImage2Text to run beside it"
)

VOCAB = 512
SHAPES = {  # the real widths, heads and patches, few layers; and a small one
    "small": (
        EncoderSpec(width=64, layers=2, heads=1, patch=8, image_size=32),
        DecoderSpec(layers=3, width=128, heads=2, ffn=256, max_positions=64),
    ),
    "base": (
        EncoderSpec(width=768, layers=2, heads=12, patch=16, image_size=64),
        DecoderSpec(layers=2, width=768, heads=12, ffn=3072, max_positions=64),
    ),
    "large": (
        EncoderSpec(width=1024, layers=2, heads=16, patch=14, image_size=56),
        DecoderSpec(layers=2, width=768, heads=12, ffn=3072, max_positions=64),
    ),
}
# Packages that the checkout imports in order to download, and the one name that is taken from them.
_DOWNLOADERS = dict.fromkeys(("boto3", "botocore", "requests", "six"), "")
_DOWNLOADERS |= {"botocore.exceptions": "ClientError", "azfuse": "File"}
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}  # of logits up to 9: kernels differ between processors
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
shapes = pytest.mark.parametrize("shape", SHAPES)


@pytest.fixture(scope="module", autouse=True)
def official_on_path():
    """Make the checkout importable, with empty stand-ins for packages that it imports only to download."""
    if not (Path(OFFICIAL) / "generativeimage2text").is_dir():
        pytest.fail(f"GITBENCH_OFFICIAL={OFFICIAL} holds no generativeimage2text: name a checkout of the repository")
    missing = [name for name in _DOWNLOADERS if importlib.util.find_spec(name.partition(".")[0]) is None]
    stand_ins = {name: types.ModuleType(name) for name in missing}
    for name, attribute in _DOWNLOADERS.items():
        if attribute and name in stand_ins:
            setattr(stand_ins[name], attribute, Exception)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stand_ins.items():
            patch.setitem(sys.modules, name, module)
        patch.syspath_prepend(OFFICIAL)
        yield


def pair(shape: str, dtype: torch.dtype = torch.float32, frames: int = 0):
    """The official model with random values, without dropout, and ours made from its state dict."""
    clip = importlib.import_module("generativeimage2text.layers.CLIP.model")
    theirs = importlib.import_module("generativeimage2text.layers.decoder")
    encoder, decoder = SHAPES[shape]
    torch.manual_seed(0)
    visual = clip.VisualTransformer(encoder.image_size, encoder.patch, encoder.width, encoder.layers, encoder.heads, 16)
    visual.output_grid = visual.grid_after_ln = True
    textual = theirs.TransformerDecoderTextualHead(
        visual_feature_size=encoder.width,
        vocab_size=VOCAB,
        hidden_size=decoder.width,
        num_layers=decoder.layers,
        attention_heads=decoder.heads,
        feedforward_size=decoder.ffn,
        max_caption_length=decoder.max_positions,
        decoder_type="bert_en",
        visual_projection_type="linearLn",
    )
    official = theirs.CaptioningModel(
        visual, textual, sos_index=BOS, eos_index=EOS, loss_type="smooth", num_image_with_embedding=frames
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in official.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            fan_in = value.shape[-1] if value.dim() == 2 else value[0].numel() if value.dim() == 4 else 100
            value.copy_(noise * (0.5 if "embedding" in name else fan_in**-0.5))
            norm = any(part in name for part in ("ln_", "layer_norm", "LayerNorm", "projection.1"))
            if norm and name.endswith("weight"):
                value.add_(1)
        textual.embedding.words.weight.mul_(4 * decoder.width**-0.5)  # logits of a spread that tells tokens apart
    for module in official.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    official = official.to(dtype).eval()
    ours = from_official(official.state_dict(), encoder.heads, decoder.heads)
    assert ours.encoder.spec == encoder and ours.decoder.spec == decoder and ours.num_frames == frames
    return official, ours


def official_logits(official, images, tokens):
    """Images (N,3,H,W), or (N,F,3,H,W) as the list of frames that the official code takes."""
    video = images.dim() == 5
    frames = [official.image_encoder(image) for image in (images.unbind(1) if video else [images])]
    if video and official.num_image_with_embedding:
        frames = [f + e for f, e in zip(frames, official.img_temperal_embedding, strict=False)]
    return official.textual(torch.cat(frames, 1), tokens)


CASES = {  # height, width in patches, frames given, frames of the model, tokens
    "captions": (4, 4, 0, 0, 12),
    "[CLS] alone": (4, 4, 0, 0, 1),
    "a larger picture": (6, 6, 0, 0, 7),
    "not square": (3, 7, 0, 0, 7),
    "2 frames of 3": (4, 4, 2, 3, 7),
    "3 frames, not square": (2, 5, 3, 3, 7),
    "2 frames, no temporal embedding": (4, 4, 2, 0, 7),
    "a plain image to a video model": (4, 4, 0, 3, 7),
}


@dtypes
@shapes
@pytest.mark.parametrize("case", CASES)
def test_logits(case, shape, dtype):
    height, width, frames, temporal, length = CASES[case]
    official, ours = pair(shape, dtype, temporal)
    patch, extra = SHAPES[shape][0].patch, 3  # pixels beyond a multiple of the patch are dropped
    size = (2, *([frames] if frames else []), 3, height * patch + extra, width * patch)
    images, tokens = pictures(*size).to(dtype), texts(2, length)
    with torch.no_grad():
        a, b = official_logits(official, images, tokens), ours.logits(images, tokens)
    assert a.std() > 1
    torch.testing.assert_close(b, a, atol=TOLERANCE[dtype], rtol=0)


@dtypes
@shapes
@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("frames", [0, 2])
def test_loss_and_gradients(frames, prefix, shape, dtype, monkeypatch):
    official, ours = pair(shape, dtype, frames)
    if dtype == torch.float64:  # their loss casts to float32
        monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    size = SHAPES[shape][0].image_size
    images = pictures(3, *([frames] if frames else []), 3, size, size).to(dtype)
    tokens, need = ragged(3, 14)
    need[:, : 1 + prefix] = False
    official.train()
    given = list(images.unbind(1)) if frames else images
    batch = {"image": given, "caption_tokens": tokens, "need_predict": need.int()}
    theirs, own = official(batch)["vl_l_loss"], ours.loss(images, tokens, need)
    torch.testing.assert_close(own, theirs, atol=TOLERANCE[dtype], rtol=0)
    theirs.backward(), own.backward()
    with torch.no_grad():  # ours under their names: a GIT whose values are the gradients
        for value in ours.parameters():
            value.copy_(value.grad)
        gradients = to_official(ours)
    assert set(official.state_dict()) == {*gradients, "image_encoder.proj"}
    expected = {name: value.grad for name, value in official.named_parameters()}
    assert expected.pop("image_encoder.proj") is None
    gaps = [(gradients[n] - g).abs().max().item() / max(g.abs().max().item(), 1.0) for n, g in expected.items()]
    assert len(gaps) == len(gradients) - 1  # the tied head is one parameter of theirs, two names in the state dict
    assert max(gaps) <= TOLERANCE[dtype]


def lively_pair(frames: int = 0):
    """A pair whose next token depends more on picture and position than on the last token, which it would repeat."""
    official, ours = pair("small", torch.float64, frames)
    with torch.no_grad():
        for positions in (official.textual.embedding.positions, ours.embedding.positions):
            positions.weight.mul_(3)
        for norm in (official.textual.visual_projection[1], ours.projection[1]):
            norm.weight.mul_(2)
    return official, ours


@pytest.mark.parametrize("penalty", [0.6, 1.0])
@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("frames", [0, 3])
def test_searches(frames, prefix, beams, penalty):
    """In float64, so that no tie is decided by rounding; the official code takes prefixes one image at a time."""
    decoder = importlib.import_module("generativeimage2text.layers.decoder")
    official, ours = lively_pair(frames)
    count, most = 12, 20
    images = pictures(count, *([frames] if frames else []), 3, 32, 32).double()
    start = texts(count, 1 + prefix)
    official.decoder = decoder.GeneratorWithBeamSearch(EOS, most, beams, length_penalty=penalty)
    lengths = set()
    for i in range(count):
        image = images[i : i + 1]
        with torch.no_grad():
            for value in (official.textual.output.bias, ours.head_bias):
                value[EOS] = 0.5 * i  # from long texts to short ones
            theirs = official({"image": list(image.unbind(1)) if frames else image, "prefix": start[i : i + 1]})
        sequence, score = ours.generate(
            image, prefix=start[i : i + 1], beam_size=beams, length_penalty=penalty, max_length=most
        )
        found = sequence[0, 1 + prefix :]
        expected = theirs["predictions"][0, : len(found)]
        assert found.tolist() == expected.tolist() and (theirs["predictions"][0, len(found) :] == EOS).all()
        assert abs(score[0].item() - theirs["logprobs"][0].item()) <= 1e-6 * max(1, -score[0])  # theirs is a float32
        lengths.add(int((found != EOS).sum()))
    assert len(lengths) > 2  # empty, short and long answers, not one kind


@pytest.mark.parametrize("size", [(37, 90), (90, 37), (64, 64), (48, 64), (300, 31)])
@pytest.mark.parametrize(
    "parameters", [{}, {"test_crop_size": 48}, {"test_crop_size": 48, "test_respect_ratio_max": 64}]
)
def test_pixels(parameters, size):
    pytest.importorskip("torchvision")
    pytest.importorskip("transformers")
    inference = importlib.import_module("generativeimage2text.inference")
    photograph = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    theirs = inference.get_image_transform(parameters)(Image.fromarray(photograph))
    ours = torch.from_numpy(official_processor(parameters, 224).pixels(photograph).copy())
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-6  # theirs divides by 255 first: no pixel is another one


def test_what_it_does_not_build_stops_it(tmp_path):
    """Rather than that it takes the tensors that fit: an export names an image encoder that it does not know."""
    write_official(load_captioner(run_folder(tmp_path / "run")), tmp_path)
    parameters = official_parameters(tmp_path / "model.pt")
    theirs = importlib.import_module("generativeimage2text.model")
    with pytest.raises(KeyError, match="none, for it has no image encoder of 2 layers x 64"):
        theirs.get_image_encoder(parameters["image_encoder_type"], parameters["test_crop_size"])
