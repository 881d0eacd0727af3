"""Weights travel to the official and Hugging Face layouts and back unchanged; misfits are named."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from helpers_errors import refused
from helpers_model import DECODER, ENCODER, VOCAB, hf_config, nll_of, pictures, texts, tiny
from safetensors.torch import save_file

from gitbench.models import GIT, parameter_counts
from gitbench.models.huggingface_config import config_of, read_config
from gitbench.models.weights import from_huggingface, from_official, read_tensors, to_huggingface, to_official
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec
from gitbench.variants.vision import VisionSpec

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


LAYOUTS = [(to_official, from_official, "textual.output.weight"), (to_huggingface, from_huggingface, "output.weight")]


@pytest.mark.parametrize(("save", "load", "head"), LAYOUTS)
def test_an_untied_head_stays_one(save, load, head):
    """In logits, likelihood, search, and when it is written again; a tied one has no weight of its own."""
    state, tied = save(tiny()), load(save(tiny()), **HEADS)
    assert tied.head_weight is None
    state[head] = state[head].flip(0).contiguous()
    model = load(state, **HEADS)
    assert torch.equal(model.head_weight, state[head])
    assert torch.equal(model.embedding.words.weight, tied.embedding.words.weight)
    again = save(model)
    assert state.keys() == again.keys() and all(torch.equal(value, again[name]) for name, value in state.items())

    images, tokens, need = pictures(2, 3, 32, 32), texts(2, 6), torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        own, theirs = model.logits(images, tokens), tied.logits(images, tokens)
        assert torch.allclose(own - model.head_bias, (theirs - tied.head_bias).flip(-1), atol=1e-6)
        log_p = own.log_softmax(-1)[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
        nll, _ = nll_of(model, images, tokens, need)
        assert torch.allclose(nll, -log_p.sum(1), atol=1e-5)
        (written, *_), _ = model.generate(images, greedy=True, max_length=3)
        assert written[1] == model.logits(images[:1], torch.tensor([[101]]))[0, -1].argmax()
        assert not torch.equal(written, tied.generate(images, greedy=True, max_length=3)[0][0])
    counts = [parameter_counts(each) for each in (model, tied)]
    assert counts[0]["head"] - counts[1]["head"] == state[head].numel() == counts[0]["total"] - counts[1]["total"]


@pytest.mark.parametrize(("save", "load", "head"), LAYOUTS)
def test_a_head_of_another_shape_or_without_floats_is_named(save, load, head):
    state = save(tiny())
    with refused(rf"{head} has shape \(128, 47\), expected \(128, 48\)"):
        load({**state, head: state[head][:, 1:]}, **HEADS)
    with refused(f"{head} holds torch.int8 values"):
        load({**state, head: state[head].to(torch.int8)}, **HEADS)


def test_weights_of_two_precisions_are_not_rounded():
    state = to_official(tiny())
    words = "textual.embedding.words.weight"
    state |= {name: state[name].half() for name in (words, "textual.output.weight")}
    model = from_official(state, **HEADS)
    assert model.head_bias.dtype == torch.float32 and model.head_weight is None
    assert torch.equal(model.embedding.words.weight, state[words].float())
    assert torch.equal(model.head_bias, state["textual.output.bias"])


def test_a_tensor_that_is_there_twice_is_named(tmp_path):
    state = to_official(tiny())
    name = "textual.output.bias"
    with refused(f"hold {name} and module.{name}"):
        from_official({**state, f"module.{name}": state[name]}, **HEADS)
    for part in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        save_file(to_huggingface(tiny()), tmp_path / part)
    with refused("holds git.embeddings.LayerNorm.bias in model-00002-of-00002.safetensors and in another file"):
        from_huggingface(tmp_path, **HEADS)
    save_file(to_huggingface(tiny()), tmp_path / "model.safetensors")
    with refused(
        r"holds 2 checkpoints \(model-00001-of-00002.safetensors, model.safetensors\): .*move the others away"
    ):
        from_huggingface(tmp_path, **HEADS)


def test_tensors_beside_a_state_dict_are_not_taken_for_it(tmp_path):
    torch.save({"step": torch.tensor(7), "model": to_official(tiny())}, tmp_path / "model.pt")
    assert_equal(tiny(), from_official(read_tensors(tmp_path / "model.pt"), **HEADS))


def test_weights_that_are_not_those_of_their_config_are_named(tmp_path):
    model = tiny(num_frames=2)
    config, state = config_of(model), to_huggingface(model)
    assert_equal(model, from_huggingface(state, config=config))
    vision = config["vision_config"]
    assert_equal(model, from_huggingface(state, config={**config, "vision_config": {**vision, "image_size": [32, 32]}}))
    for said, change in {
        "num_hidden_layers 4 and the weights have 3": {"num_hidden_layers": 4},
        "num_image_with_embedding None and the weights have 2": {"num_image_with_embedding": None},
        "vision_config.patch_size 16 and the weights have 8": {"vision_config": {**vision, "patch_size": 16}},
        "lack output.weight": {"tie_word_embeddings": False},
    }.items():
        held = {name: value for name, value in state.items() if name != "output.weight"}
        with refused(said):
            from_huggingface(held, config={**config, **change})
    untied = {**state, "output.weight": state["output.weight"] + 1}
    with refused("differs from the word embedding, to which config.json ties it"):
        from_huggingface(untied, config=config)
    loaded = from_huggingface(untied, config={**config, "tie_word_embeddings": False})
    assert config_of(loaded)["tie_word_embeddings"] is False and config["tie_word_embeddings"] is True
    for said, change in {
        "layer_norm_eps 1e-05": {"layer_norm_eps": 1e-5},
        "hidden_act 'relu'": {"hidden_act": "relu"},
    }.items():
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with refused(said):
            read_config(tmp_path)


def test_what_sees_no_plain_images_has_no_foreign_layout():
    for save in (to_official, to_huggingface):
        with refused("sees no plain images .*blind=True"):
            save(tiny(vision=VisionSpec(blind=True)))


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
    encoder = dataclasses.replace(ENCODER, width=64, heads=2)  # 64 is no sign of heads that are 64 wide
    for model, lacking in ((tiny(), "encoder"), (tiny(encoder=encoder), "encoder")):
        with refused(f"a width of .* do not tell .* pass {lacking}_heads, or write it .*config.json .*parameter.yaml"):
            from_official(to_official(model))
    with refused("pass decoder_heads"):
        from_official(to_official(tiny()), encoder_heads=4)


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
