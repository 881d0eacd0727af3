"""Weights of others: names and logits of constant state dicts in the official layout, Hugging Face's, BERT's and CLIP's."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from gitbench.data.bert_folder import fingerprint, read_config
from gitbench.data.tokenizer import from_bert, subset_for
from gitbench.files import make_dir, write_json
from gitbench.gate.exact.constant import filled, pictures
from gitbench.gate.exact.subject import Place
from gitbench.gate.exact.tiny import BOS, ENCODER, EOS, batch, tiny
from gitbench.gate.exact.values import Values, shapes
from gitbench.models.bert import initialise_from_bert, load_bert
from gitbench.models.encoder import ImageEncoder
from gitbench.models.git import GIT
from gitbench.models.weights import from_huggingface, from_official, to_huggingface, to_official
from gitbench.training.encoder_init import encoder_weights
from gitbench.training.hooks import DecoderInitHook

LAYOUTS: dict[str, Any] = {
    "official": (to_official, from_official, "textual.output.weight", "textual.embedding.words.weight"),
    "Hugging Face": (to_huggingface, from_huggingface, "output.weight", "git.embeddings.word_embeddings.weight"),
}
HEADS: dict[str, Any] = {"encoder_heads": ENCODER.heads, "decoder_heads": 3, "bos_id": BOS, "eos_id": EOS}
BERT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 36,
}
VOCABULARY = """[PAD] [UNK] [CLS] [SEP] [MASK] a b c d e f g h i k l m n o p r s t u w x y the dog red blue ##s ##ing ##n sit
run on is ball field"""
CAPTION = "the dogs sit on a red ball"
# OpenAI's names of what is in an image encoder, without those of the blocks.
CLIP = {
    "cls_token": "class_embedding",
    "pos_embed": "positional_embedding",
    "patch_embed.proj.weight": "conv1.weight",
    "norm_pre": "ln_pre",
    "norm": "ln_post",
}
CLIP_BLOCK = {
    "attn.qkv.": "attn.in_proj_",
    "attn.proj.": "attn.out_proj.",
    "norm1.": "ln_1.",
    "norm2.": "ln_2.",
    "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
}


def add(values: Values, place: Place) -> None:
    """Add what is read of every layout, and what is written to it."""
    images, tokens, _ = batch("cpu")
    film = pictures(2, 2, 3, 24, 24)
    for name, (write, read, head, words) in LAYOUTS.items():
        written = write(tiny(num_frames=2))
        state = filled(written)
        state[head] = state[words].clone()
        loaded: GIT = read(state, **HEADS)
        with values.of("encoder"):
            values.tensor(f"{name} weights: image tokens after loading", loaded.encode(images))
        values.equal(f"{name} weights: names and shapes", shapes(written))
        values.tensor(f"{name} weights: logits after loading", loaded.logits(images, tokens))
        values.tensor(f"{name} weights: logits of a film", loaded.logits(film, tokens))
        again = write(loaded)
        gaps = [(again[key] - each).abs().max().item() for key, each in state.items()]
        values.near(f"{name} weights: written again, less what was read", max(gaps), 1.0)
    old = {
        key.replace("temporal", "temperal"): each for key, each in filled(to_huggingface(tiny(num_frames=2))).items()
    }
    old["output.weight"] = old["git.embeddings.word_embeddings.weight"].clone()
    values.tensor("Hugging Face weights of 4.x: logits of a film", from_huggingface(old, **HEADS).logits(film, tokens))
    _bert(values, place, images, tokens)
    _encoders(values, place)


def _bert(values: Values, place: Place, images: Tensor, tokens: Tensor) -> None:
    """Add a decoder that starts from a BERT, all rows of it and a few, and as a run has it start."""
    folder = make_dir(place.folder / "bert")
    write_json(folder / "config.json", BERT)
    save_file({name: each.float() for name, each in filled(_bert_shapes()).items()}, str(folder / "model.safetensors"))
    found = load_bert(folder)
    for name, rows in (("all", None), ("every other", list(range(0, 40, 2)))):
        model = tiny(vocab_size=40 if rows is None else 20)
        taken = initialise_from_bert(model, found, rows)
        ids = tokens if rows is None else tokens.where(tokens < 20, 5)
        if rows is None:
            values.equal("BERT's weights: tensors taken", sorted(taken))
        values.tensor(f"BERT's weights, {name} rows: logits", model.logits(images, ids))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY.split()) + "\n", encoding="utf-8")
    words = subset_for(from_bert(str(folder)), [CAPTION])
    spec = dataclasses.replace(read_config(folder), path=str(folder), content=fingerprint(folder))
    for iteration, start in ((0, "of a run that begins"), (3, "of one that is resumed")):
        model = tiny(vocab_size=words.vocab_size)
        data = SimpleNamespace(dataset=SimpleNamespace(tokenizer=words))
        own = SimpleNamespace(git=model, variants={"decoder_init": spec})
        DecoderInitHook().before_train(SimpleNamespace(model=own, iter=iteration, train_dataloader=data))
        ids = torch.tensor([words.encode(CAPTION)] * len(tokens), device=tokens.device)
        values.tensor(f"BERT's weights, as the hook gives them, {start}: logits", model.logits(images, ids))


def _bert_shapes() -> dict[str, Tensor]:
    width, ffn = BERT["hidden_size"], BERT["intermediate_size"]
    embeddings = "bert.embeddings."
    shapes: dict[str, tuple[int, ...]] = {
        f"{embeddings}word_embeddings.weight": (BERT["vocab_size"], width),
        f"{embeddings}position_embeddings.weight": (BERT["max_position_embeddings"], width),
        f"{embeddings}token_type_embeddings.weight": (2, width),
        **{f"{embeddings}LayerNorm.{kind}": (width,) for kind in ("weight", "bias")},
        "cls.predictions.bias": (BERT["vocab_size"],),
    }
    parts: dict[str, tuple[int, ...]] = {f"attention.self.{name}": (width, width) for name in ("query", "key", "value")}
    parts |= {"attention.output.dense": (width, width), "attention.output.LayerNorm": (width,)}
    parts |= {"intermediate.dense": (ffn, width), "output.dense": (width, ffn), "output.LayerNorm": (width,)}
    for layer in range(BERT["num_hidden_layers"]):
        for name, shape in parts.items():
            shapes[f"bert.encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"bert.encoder.layer.{layer}.{name}.bias"] = shape[:1]
    return {name: torch.empty(shape) for name, shape in shapes.items()}


def _encoders(values: Values, place: Place) -> None:
    """Add an image encoder that is given weights under timm's names, and under OpenAI's, whose position table is larger."""
    own = ImageEncoder(ENCODER).state_dict()
    images = pictures(1, 3, 24, 24)
    clip = {_clip_name(name): each for name, each in own.items()}
    clip["visual.class_embedding"] = torch.empty(16)
    clip["visual.positional_embedding"] = torch.empty(17, 16)
    for name, given in (("timm", own), ("OpenAI", clip)):
        file = place.folder / f"{name}.safetensors"
        save_file({key: each.float() for key, each in filled(given).items()}, str(file))
        encoder = ImageEncoder(ENCODER)
        encoder.load_state_dict(encoder_weights(str(file), ENCODER))
        values.tensor(f"{name}'s weights of an image encoder: features", encoder.double()(images), precision="float32")


def _clip_name(name: str) -> str:
    for ours, theirs in CLIP.items():
        if name == ours or name.startswith(f"{ours}."):
            return "visual." + theirs + name.removeprefix(ours)
    for ours, theirs in CLIP_BLOCK.items():
        name = name.replace(ours, theirs)
    return "visual.transformer.res" + name
