"""Weights travel to the official and Hugging Face layouts and back unchanged; misfits are named."""

from __future__ import annotations

import json

import pytest
import torch
from helpers_errors import refused
from helpers_model import DECODER, ENCODER, VOCAB, hf_config, pictures, texts, tiny

from gitbench.models import GIT
from gitbench.models.weights import from_huggingface, from_official, to_huggingface, to_official
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec

HEADS = {"encoder_heads": ENCODER.heads, "decoder_heads": DECODER.heads}


def assert_equal(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


@pytest.mark.parametrize("frames", [0, 3])
@pytest.mark.parametrize(("save", "load"), [(to_official, from_official), (to_huggingface, from_huggingface)])
def test_round_trip(save, load, frames):
    model = tiny(num_frames=frames)
    state = save(model)
    back = load(state, **HEADS)
    assert_equal(model, back)
    assert back.encoder.spec == ENCODER and back.decoder.spec == DECODER
    assert back.num_frames == frames and not back.training
    again = save(back)
    assert state.keys() == again.keys() and all(torch.equal(v, again[k]) for k, v in state.items())
    images = pictures(1, *([2] if frames else []), 3, 32, 32)
    assert torch.equal(model.logits(images, texts(1, 4)), back.logits(images, texts(1, 4)))


def test_official_names_and_shapes():
    state = to_official(tiny(num_frames=2))
    shapes = {
        "image_encoder.class_embedding": (32,),
        "image_encoder.positional_embedding": (17, 32),
        "image_encoder.conv1.weight": (32, 3, 8, 8),
        "image_encoder.transformer.resblocks.1.attn.in_proj_weight": (96, 32),
        "image_encoder.transformer.resblocks.1.mlp.c_proj.bias": (32,),
        "textual.visual_projection.1.weight": (48,),
        "textual.embedding.layer_norm.bias": (48,),
        "textual.transformer.encoder.layer.2.attention.self.key.weight": (48, 48),
        "textual.transformer.encoder.layer.2.intermediate.dense.weight": (96, 48),
        "textual.output.weight": (VOCAB, 48),
        "img_temperal_embedding.1": (1, 1, 32),
    }
    for name, shape in shapes.items():
        assert tuple(state[name].shape) == shape, name
    assert torch.equal(state["textual.output.weight"], state["textual.embedding.words.weight"])


def test_official_extras_are_tolerated():
    """A `module.` prefix (GIT_BASE's file has one), CLIP's unused projection, a head that is left out."""
    model = tiny()
    state = {f"module.module.{key}": value for key, value in to_official(model).items()}
    state["module.module.image_encoder.proj"] = torch.zeros(32, 16)
    del state["module.module.textual.output.weight"]
    assert_equal(model, from_official(state, **HEADS))


def test_hugging_face_extras_are_tolerated():
    model = tiny(num_frames=2)
    state = {key.replace("temporal", "temperal"): value for key, value in to_huggingface(model).items()}
    assert "git.img_temperal_embedding.0" in state
    state["git.embeddings.position_ids"] = torch.arange(5)[None]
    state["git.image_encoder.vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    del state["output.weight"]  # files with a tied head lack it
    assert_equal(model, from_huggingface(state, **HEADS))


@pytest.mark.parametrize(
    ("save", "load", "shape"),
    [  # encoder width and heads, patch, pixels, frames
        (to_huggingface, from_huggingface, (768, 12, 16, 480, 0)),  # base, VQA
        (to_official, from_official, (1024, 16, 14, 224, 6)),  # large, video
    ],
)
def test_released_widths_are_read_off_the_tensors_heads_included(save, load, shape):
    """One layer a side and few words, else as released."""
    width, heads, patch, pixels, frames = shape
    encoder = EncoderSpec(width=width, layers=1, heads=heads, patch=patch, image_size=pixels)
    decoder = DecoderSpec(layers=1, width=768, heads=12, ffn=3072, max_positions=1024)
    model = GIT(encoder=encoder, decoder=decoder, vocab_size=VOCAB, num_frames=frames).eval()
    back = load(save(model))
    assert back.encoder.spec == encoder and back.decoder.spec == decoder and back.num_frames == frames
    assert_equal(model, back)


def test_ids_can_be_given_and_precision_is_kept():
    model = from_official(to_official(tiny().double()), **HEADS, pad_id=5, bos_id=6, eos_id=7)
    assert (model.pad_id, model.bos_id, model.eos_id) == (5, 6, 7) and model.head_bias.dtype == torch.float64


@pytest.mark.parametrize(
    ("save", "load", "head"),
    [(to_official, from_official, "textual.output.weight"), (to_huggingface, from_huggingface, "output.weight")],
)
def test_an_untied_head_is_refused(save, load, head):
    state = save(tiny())
    state[head] = state[head] + 0.5
    with refused(r"differs from the word embedding \(by 0.5.*trained untied"):
        load(state, **HEADS)


LAYER = "textual.transformer.encoder.layer.1.intermediate.dense.weight"
FRAME = "git.img_temp{}ral_embedding.{}".format


@pytest.mark.parametrize(
    ("save", "load", "lost", "changed", "message"),
    [
        (to_official, from_official, LAYER, {LAYER: (48, 96)}, r"layer.1.* shape \(48, 96\), expected \(96, 48\)"),
        (to_official, from_official, "", {"image_encoder.conv1.weight": (6144,)}, "not a GIT"),
        (to_official, from_official, "", {"image_encoder.ln_pre.weight": (7,)}, r"shape \(7,\), expected \(32,\)"),
        (
            to_official,
            from_official,
            "textual.output.bias",
            {"textual.extra": (1,)},
            r"1 missing \(textual.output.bias\); 1 unexpected \(textual.extra\)",
        ),
        (to_huggingface, from_huggingface, "", {FRAME("e", 0): (1, 1, 32)}, "under both spellings"),
        (
            to_huggingface,
            from_huggingface,
            FRAME("o", 1),
            {},
            r"1 missing \(git.img_temporal_embedding.1\); 1 unexpected .*embedding.2",
        ),
    ],
)
def test_what_does_not_fit_is_named(save, load, lost, changed, message):
    state = save(tiny(num_frames=3))
    state.pop(lost, None)
    state |= {name: torch.zeros(shape) for name, shape in changed.items()}
    with refused(message):
        load(state, **HEADS)


def test_heads_that_cannot_be_guessed_are_asked_for():
    with refused("pass encoder_heads"):
        from_official(to_official(tiny()))


def test_folders_of_hugging_face(tmp_path):
    transformers = pytest.importorskip("transformers")
    config, model = hf_config(transformers, eos_token_id=99), tiny(seed=5)
    theirs = transformers.GitForCausalLM(config)
    theirs.load_state_dict(to_huggingface(model))
    theirs.save_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    for folder in ("whole", "shards"):
        loaded = from_huggingface(tmp_path / folder)
        assert_equal(model, loaded)
        assert (loaded.encoder.spec.heads, loaded.decoder.spec.heads, loaded.eos_id) == (4, 4, 99)
    assert_equal(model, from_huggingface(str(tmp_path / "whole" / "model.safetensors"), **HEADS))
    (tmp_path / "old").mkdir()
    torch.save(theirs.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    (tmp_path / "old" / "config.json").write_text(json.dumps(config.to_dict()))
    assert_equal(model, from_huggingface(tmp_path / "old"))
