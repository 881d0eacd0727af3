"""Weights from and to the two published implementations: microsoft/GenerativeImage2Text and Hugging Face transformers.

One table (`_tensors`) names every parameter in the three layouts. Sizes are read off the tensors, so any checkpoint of
the architecture fits; missing and unexpected names and other shapes are errors. What the layouts differ in (measured):

* official: a `module.` prefix on some checkpoints; CLIP's `image_encoder.proj`, which the model never uses; the tied
  head twice.
* Hugging Face: separate q, k, v in the image encoder; the temporal embedding spelled `img_temporal_embedding`, in files
  of transformers before 4.57 `img_temperal_embedding`; buffers `position_ids` in old files, dropped. Its text-embedding
  LayerNorm has eps 1e-12, the official one 1e-8: logits differ by 2e-6.
* A head that differs from the word embedding stays a weight of its own, here and when it is written again. By the
  defaults of Hugging Face's class training leaves such a head; the official program always ties it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gitbench.errors import GitbenchError
from gitbench.models.checkpoint import check_names, plain_names, read_checkpoint, read_tensors
from gitbench.models.git import GIT
from gitbench.models.huggingface_config import check_config, read_config
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec
from gitbench.variants.vision import VisionSpec

__all__ = ["from_huggingface", "from_official", "read_tensors", "to_huggingface", "to_official"]

State = Mapping[str, Tensor]

# Part of our decoder layer -> what it is made of in BERT's, under which names both layouts have it.
BERT_LAYER = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "out": ("attention.output.dense",),
    "norm1": ("attention.output.LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
    "norm2": ("output.LayerNorm",),
}
DROPOUT = 0.1  # of the official decoder
_HEAD = {"official": "textual.output.weight", "huggingface": "output.weight"}
Heads = tuple[int | None, int | None]  # of encoder and decoder; None: those of `_RELEASED`
_RELEASED = {768: 12, 1024: 16}  # width of a released model -> its heads
_IGNORED = re.compile(r"image_encoder\.proj|git\.(image_encoder\.vision_model\.)?embeddings\.position_ids")


@dataclass(frozen=True)
class _Row:
    """One parameter of ours and the foreign tensors that hold it; several are stacked along their first axis."""

    ours: str
    official: tuple[str, ...]
    huggingface: tuple[str, ...]
    foreign: Callable[[Tensor], Tensor] = lambda x: x  # one part of ours -> the foreign tensor's shape


_VIT = "git.image_encoder.vision_model"
# Parts with a weight and a bias: ours, the official name, that of Hugging Face.
_SINGLE = (
    ("encoder.norm_pre", "image_encoder.ln_pre", f"{_VIT}.pre_layrnorm"),  # their spelling
    ("encoder.norm", "image_encoder.ln_post", f"{_VIT}.post_layernorm"),
    ("projection.0", "textual.visual_projection.0", "git.visual_projection.visual_projection.0"),
    ("projection.1", "textual.visual_projection.1", "git.visual_projection.visual_projection.1"),
    ("embedding.norm", "textual.embedding.layer_norm", "git.embeddings.LayerNorm"),
)
# The same within a block of the image encoder; `qkv` is written out in `_tensors`.
_ENCODER_BLOCK = (
    ("attn.proj", "attn.out_proj", "self_attn.out_proj"),
    ("norm1", "ln_1", "layer_norm1"),
    ("norm2", "ln_2", "layer_norm2"),
    ("mlp.fc1", "mlp.c_fc", "mlp.fc1"),
    ("mlp.fc2", "mlp.c_proj", "mlp.fc2"),
)


def _part(ours: str, official: tuple[str, ...], huggingface: tuple[str, ...]) -> Iterator[_Row]:
    """Yield the weight and the bias of one part, to whose foreign names (with their last dot) the kind is added."""
    for kind in ("weight", "bias"):
        names, hf_names = (tuple(f"{name}{kind}" for name in theirs) for theirs in (official, huggingface))
        yield _Row(f"{ours}.{kind}", names, hf_names)


def _tensors(encoder_layers: int, decoder_layers: int, frames: int) -> Iterator[_Row]:
    """Yield the table: every parameter of a model of this depth, in all three layouts."""
    image, text = f"{_VIT}.embeddings", "textual.embedding"
    yield _Row("encoder.cls_token", ("image_encoder.class_embedding",), (f"{image}.class_embedding",), torch.flatten)
    positions = f"{image}.position_embedding.weight"
    yield _Row("encoder.pos_embed", ("image_encoder.positional_embedding",), (positions,), lambda x: x[0])
    patches = f"{image}.patch_embedding.weight"
    yield _Row("encoder.patch_embed.proj.weight", ("image_encoder.conv1.weight",), (patches,))
    for ours, theirs in (("words", "word_embeddings"), ("positions", "position_embeddings")):
        yield _Row(f"embedding.{ours}.weight", (f"{text}.{ours}.weight",), (f"git.embeddings.{theirs}.weight",))
    for ours, theirs, hf in _SINGLE:
        yield from _part(ours, (f"{theirs}.",), (f"{hf}.",))
    for i in range(encoder_layers):
        official, hf = f"image_encoder.transformer.resblocks.{i}", f"{_VIT}.encoder.layers.{i}"
        separate = tuple(f"{hf}.self_attn.{part}_proj." for part in "qkv")
        yield from _part(f"encoder.blocks.{i}.attn.qkv", (f"{official}.attn.in_proj_",), separate)
        for ours, theirs, hf_part in _ENCODER_BLOCK:
            yield from _part(f"encoder.blocks.{i}.{ours}", (f"{official}.{theirs}.",), (f"{hf}.{hf_part}.",))
    for i in range(decoder_layers):
        official, hf = f"textual.transformer.encoder.layer.{i}", f"git.encoder.layer.{i}"
        for ours, parts in BERT_LAYER.items():
            names, hf_names = (tuple(f"{layer}.{part}." for part in parts) for layer in (official, hf))
            yield from _part(f"decoder.layers.{i}.{ours}", names, hf_names)
    yield _Row("head_bias", ("textual.output.bias",), ("output.bias",))
    if frames:
        spellings = ("img_temperal_embedding", "git.img_temporal_embedding")
        names, hf_names = (tuple(f"{name}.{i}" for i in range(frames)) for name in spellings)
        yield _Row("temporal", names, hf_names, lambda x: x.reshape(1, 1, -1))


def from_official(
    state_dict: State, encoder_heads: int | None = None, decoder_heads: int | None = None, **options: Any
) -> GIT:
    """Build a model from an official state dict (the `model` entry of a released checkpoint), in eval mode.

    Heads cannot be read off the tensors; those of the released widths, 768 and 1024, are known, others are to be given.
    Ids are BERT's unless given: `pad_id`, `bos_id`, `eos_id`; `dropout` (0.1) and `label_smoothing` can be given, too.
    """
    return _build(plain_names(state_dict), "official", (encoder_heads, decoder_heads), options)


def from_huggingface(
    source: str | Path | State,
    encoder_heads: int | None = None,
    decoder_heads: int | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> GIT:
    """Build a model from a `GitForCausalLM`: its state dict, or a folder or file that `save_pretrained` wrote.

    Heads, dropout and ids are taken from its `config`, for a path the config.json in the folder or beside the file, where
    there is one; arguments given here (also `pad_id`, `bos_id`, `eos_id`, `label_smoothing`) come first. In eval mode.
    Errors: tensors that are not GIT's, or not those that the config describes.
    """
    state: State
    if isinstance(source, (str, Path)):
        state, file = read_checkpoint(Path(source))
        config = read_config(file.parent) if config is None else config
    else:
        state = source
    config = config or {}
    encoder_heads = encoder_heads or config.get("vision_config", {}).get("num_attention_heads")
    decoder_heads = decoder_heads or config.get("num_attention_heads")
    ids = {f"{name}_id": config.get(f"{name}_token_id") for name in ("pad", "bos", "eos")}
    options = {key: value for key, value in ids.items() if isinstance(value, int)} | options
    dropout = config.get("hidden_dropout_prob", DROPOUT)
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise GitbenchError(f"config.json has hidden_dropout_prob {dropout!r}: give it a share from 0 to below 1")
    names = plain_names(state)
    state = {name.replace("img_temperal_embedding", "img_temporal_embedding"): value for name, value in names.items()}
    if len(state) < len(names):
        raise GitbenchError("these weights hold the temporal embedding under both spellings: delete one of them")
    model = _build(state, "huggingface", (encoder_heads, decoder_heads), {"dropout": float(dropout), **options})
    check_config(config, model, has_head=_HEAD["huggingface"] in state)
    return model


def to_official(model: GIT) -> dict[str, Tensor]:
    """Return the official state dict (without CLIP's unused `image_encoder.proj`: their loader is not strict)."""
    return _export(model, "official")


def to_huggingface(model: GIT) -> dict[str, Tensor]:
    """Return the `GitForCausalLM` state dict (spelled as since transformers 4.57); a tied head is a copy of the words."""
    return _export(model, "huggingface")


def _export(model: GIT, layout: str) -> dict[str, Tensor]:
    if model.vision != VisionSpec():
        raise GitbenchError(
            f"this model sees no plain images ({model.vision}), which has no {layout} format: save model.state_dict() instead"
        )
    if model.decoder.spec.attention != "self":
        raise GitbenchError(
            f"a {model.decoder.spec.attention}-attention decoder has no {layout} format (neither implementation has "
            "one): save model.state_dict() instead"
        )
    ours, result = model.state_dict(), {}
    for row in _tensors(len(model.encoder.blocks), len(model.decoder.layers), model.num_frames):
        names = getattr(row, layout)
        for name, part in zip(names, ours[row.ours].chunk(len(names)), strict=True):
            result[name] = row.foreign(part).clone()
    result[_HEAD[layout]] = ours["embedding.words.weight" if model.head_weight is None else "head_weight"].clone()
    return result


def _build(state: State, layout: str, heads: Heads, options: dict[str, Any]) -> GIT:
    head = _HEAD[layout]
    state = {key: value for key, value in state.items() if not _IGNORED.fullmatch(key)}
    patterns = (
        r"(?:resblocks|encoder\.layers)\.(\d+)\.",
        r"encoder\.layer\.(\d+)\.",
        r"img_temp[eo]ral_embedding\.(\d+)$",
    )
    # of encoder layers, decoder layers and frames
    depths = [len({found[1] for key in state if (found := re.search(pattern, key))}) for pattern in patterns]
    rows = list(_tensors(*depths))
    expected = {name for row in rows for name in getattr(row, layout)}
    check_names(state, expected, "these weights do not fit GIT", optional=head)
    state = _floats(state)
    theirs = {row.ours: [state[name] for name in getattr(row, layout)] for row in rows}
    words = theirs["embedding.words.weight"][0]
    tied = head not in state or torch.equal(state[head], words)
    if not tied:
        rows.append(_Row("head_weight", (head,), (head,)))
        theirs["head_weight"] = [state[head]]
    model = _model_for(theirs, depths, heads, {**options, "tied": tied})
    own, joined = model.state_dict(), {}
    for row in rows:
        names, parts = getattr(row, layout), theirs[row.ours]
        for name, part, value in zip(names, own[row.ours].chunk(len(names)), parts, strict=True):
            if value.shape != row.foreign(part).shape:
                shapes = f"{tuple(value.shape)}, expected {tuple(row.foreign(part).shape)}"
                raise GitbenchError(f"{name} has shape {shapes}: the checkpoint is not a GIT")
        joined[row.ours] = torch.cat(parts).reshape(own[row.ours].shape)
    model.load_state_dict(joined)
    return model.to(words.dtype).eval()


def _floats(state: State) -> dict[str, Tensor]:
    """Return the tensors in the widest of their types, so that none is rounded. Errors: one that holds no floats."""
    for name, value in state.items():
        if not value.is_floating_point():
            raise GitbenchError(f"{name} holds {value.dtype} values: save the checkpoint with its weights as floats")
    widest = functools.reduce(torch.promote_types, {value.dtype for value in state.values()})
    return {name: value.to(widest) for name, value in state.items()}


def _heads(width: int, given: int | None, name: str) -> int:
    if given is None and width not in _RELEASED:
        raise GitbenchError(
            f"weights of a width of {width} do not tell their number of heads: pass {name}, or write it into what lies "
            f"beside them, config.json (num_attention_heads) or parameter.yaml (gitbench: {{{name}: ...}})"
        )
    heads = _RELEASED[width] if given is None else given
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise GitbenchError(f"{name} {heads!r} are no number of heads of a width of {width}: pass one that divides it")
    return heads


# The tensors that tell a model's size, and their dimensions.
_SIZING = {
    "encoder.patch_embed.proj.weight": 4,
    "encoder.pos_embed": 2,
    "encoder.blocks.0.mlp.fc1.weight": 2,
    "embedding.words.weight": 2,
    "embedding.positions.weight": 2,
    "decoder.layers.0.up.weight": 2,
}


def _model_for(tensors: Mapping[str, list[Tensor]], depths: list[int], heads: Heads, options: dict[str, Any]) -> GIT:
    for name, dimensions in _SIZING.items():
        for value in tensors.get(name, []):
            if value.dim() != dimensions or 0 in value.shape:
                raise GitbenchError(f"{name} has shape {tuple(value.shape)}: the checkpoint is not a GIT")
    patch = tensors["encoder.patch_embed.proj.weight"][0]
    vocab_size, width = tensors["embedding.words.weight"][0].shape
    vit_width, grid = patch.shape[0], round((tensors["encoder.pos_embed"][0].shape[0] - 1) ** 0.5)
    encoder = EncoderSpec(
        width=vit_width,
        layers=depths[0],
        heads=_heads(vit_width, heads[0], "encoder_heads"),
        patch=patch.shape[-1],
        image_size=grid * patch.shape[-1],
        mlp_ratio=tensors["encoder.blocks.0.mlp.fc1.weight"][0].shape[0] / vit_width if depths[0] else 4.0,
    )
    decoder = DecoderSpec(
        layers=depths[1],
        width=width,
        heads=_heads(width, heads[1], "decoder_heads"),
        ffn=tensors["decoder.layers.0.up.weight"][0].shape[0] if depths[1] else 4 * width,
        max_positions=tensors["embedding.positions.weight"][0].shape[0],
        dropout=options.get("dropout", DROPOUT),
    )
    options = {name: value for name, value in options.items() if name != "dropout"}
    return GIT(encoder=encoder, decoder=decoder, vocab_size=vocab_size, num_frames=depths[2], **options)
