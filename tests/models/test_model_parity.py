"""The same weights in Hugging Face's GitForCausalLM and here give the same logits, and the same loss but for its labels.

Two known differences of theirs remain: text-embedding LayerNorm eps 1e-12 (official 1e-8), and in the ViT a softmax
that is float32 even in a float64 model. transformers 4.49 to 5.14 shift the labels of the loss twice (issue 47394).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers_model import ENCODER, EOS, VOCAB, hf_config, pictures, ragged, texts, tiny
from packaging.version import Version

from gitbench.bench.peers import shifts_twice
from gitbench.models.weights import from_huggingface, to_huggingface

transformers = pytest.importorskip("transformers")

CASES = {
    "captions": dict(images=(3, 3, 32, 32), tokens=(3, 9)),
    "start only": dict(images=(2, 3, 32, 32), tokens=(2, 1)),
    "another resolution, not square": dict(images=(2, 3, 48, 24), tokens=(2, 5)),
    "three frames": dict(images=(2, 3, 3, 32, 32), tokens=(2, 7), num_frames=3),
}


def hugging_face(model, num_frames):
    frames = num_frames or None
    theirs = transformers.GitForCausalLM(hf_config(transformers, eos_token_id=EOS, num_image_with_embedding=frames))
    theirs.load_state_dict(to_huggingface(model))
    return theirs.eval()


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_hugging_face(case):
    shape = CASES[case]
    frames = shape.get("num_frames", 0)
    model = tiny(num_frames=frames)
    theirs = hugging_face(model, frames)
    images, tokens = pictures(*shape["images"]), texts(*shape["tokens"])
    resized = shape["images"][-1] != ENCODER.image_size

    def difference():
        with torch.no_grad():
            expected = theirs(input_ids=tokens, pixel_values=images, interpolate_pos_encoding=resized).logits[
                :, -tokens.shape[1] :
            ]
            ours = model.logits(images, tokens)
        assert ours.shape == (*tokens.shape, VOCAB)
        assert ours.std() > 0.5
        return (ours - expected).abs().max()

    assert difference() <= 1e-5
    theirs.git.embeddings.LayerNorm.eps = 1e-8
    model.double(), theirs.double()
    images = images.double()
    assert difference() <= 1e-6


def test_an_untied_head_gives_their_logits():
    """As training with their defaults leaves it: loaded here untied, written back the same."""
    theirs = hugging_face(tiny(), 0)
    assert not theirs.config.tie_word_embeddings
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        theirs.output.weight.copy_(torch.randn(theirs.output.weight.shape, generator=generator) * 0.15)
    model = from_huggingface(theirs.state_dict(), config=theirs.config.to_dict())
    images, tokens = pictures(2, 3, 32, 32), texts(2, 6)
    with torch.no_grad():
        expected = theirs(input_ids=tokens, pixel_values=images).logits[:, -6:]
        assert (model.logits(images, tokens) - expected).abs().max() <= 1e-5
        assert (tiny().logits(images, tokens) - expected).abs().max() > 0.5
    again = to_huggingface(model)
    assert all(torch.equal(value, again[name]) for name, value in theirs.state_dict().items() if name in again)
    assert again.keys() <= theirs.state_dict().keys()


def test_their_loss_is_ours_less_one_shift():
    """Without smoothing. Where labels are shifted twice, position t is held against t + 2, a text's last against the next."""
    model = tiny(label_smoothing=0.0)
    theirs, images = hugging_face(model, 0), pictures(4, 3, 32, 32)
    tokens, need = ragged(4, 9)
    labels = tokens.masked_fill(~need, -100)
    with torch.no_grad():
        found = theirs(input_ids=tokens, pixel_values=images, labels=labels).loss.item()
        ours, logits = model.loss(images, tokens, need).item(), model.logits(images, tokens)[:, :-1].flatten(0, 1)
    targets = labels[:, 1:].flatten()
    once = F.cross_entropy(logits, targets).item()
    twice = F.cross_entropy(logits, F.pad(targets[1:], (0, 1), value=-100)).item()
    assert once == pytest.approx(ours, abs=1e-5) and abs(twice - once) > 0.01
    shifted = shifts_twice(theirs)
    assert found == pytest.approx(twice if shifted else once, abs=1e-5)
    assert shifted == (Version("4.49") <= Version(transformers.__version__) < Version("5.15"))
