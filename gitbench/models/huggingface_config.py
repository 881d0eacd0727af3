"""The config.json of a `GitForCausalLM`: read, held against the model that its weights make, and written for one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.models.git import GIT

# What makes a model of Hugging Face's class a GIT; a field that is missing has this value there.
_FIXED = {
    "model_type": "git",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "vision_config.hidden_act": "quick_gelu",
    "vision_config.layer_norm_eps": 1e-5,
    "vision_config.num_channels": 3,
}


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config.json of a GIT of Hugging Face, {} where there is none; what GIT computes otherwise is an error."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    config = read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("vision_config", {}), dict):
        raise GitbenchError(f"{path} is not the config of a GIT: pass the whole folder of a checkpoint")
    values = _flat(config)
    for name, wanted in _FIXED.items():
        found = values.get(name, wanted)
        if found != wanted:
            raise GitbenchError(f"{path} has {name} {found!r} and GIT has {wanted!r}: choose another checkpoint")
    return config


def check_config(config: Mapping[str, Any], model: GIT, has_head: bool) -> None:
    """Refuse weights that are not those that their config describes; `has_head`: they hold a weight of the output head.

    What the config leaves out is not compared, and neither are heads, which weights do not show.
    """
    given = _flat(config)
    for name, ours in _flat(_sizes(model)).items():
        said = given.get(name, ours)
        if isinstance(said, list) and len(set(said)) == 1:  # of a square, as [height, width]
            said = said[0]
        if (said or None) != ours:
            raise GitbenchError(
                f"config.json has {name} {said} and the weights have {ours}: the two are of different models, or a part is "
                "missing"
            )
    tied = given.get("tie_word_embeddings")
    if tied is False and not has_head:
        raise GitbenchError(
            "these weights lack output.weight, and config.json says that it is not tied to the word embedding: take the "
            "checkpoint whole, or set tie_word_embeddings there"
        )
    if tied and model.head_weight is not None:
        raise GitbenchError(
            "output.weight differs from the word embedding, to which config.json ties it: set tie_word_embeddings to "
            "false there if the weights are right"
        )


def check_ids(config: Mapping[str, Any], ids: Mapping[str, int]) -> None:
    """Refuse a tokenizer whose `pad_id`, `bos_id` and `eos_id` are not those that a config states."""
    for name, ours in ids.items():
        field = f"{name.removesuffix('_id')}_token_id"
        said = config.get(field)
        if said not in (None, ours, [ours]):
            raise GitbenchError(
                f"config.json has {field} {said} and the tokenizer has {ours}: pass --tokenizer with the one that the weights "
                "were trained with, or mend config.json"
            )


def config_of(model: GIT) -> dict[str, Any]:
    """Return the config.json of a model whose weights `to_huggingface` gives."""
    vit, text = model.encoder.spec, model.decoder.spec
    sizes = _sizes(model)
    vision = sizes.pop("vision_config")
    return {
        "architectures": ["GitForCausalLM"],
        "model_type": "git",
        **sizes,
        "num_attention_heads": text.heads,
        "hidden_act": "gelu",
        "hidden_dropout_prob": text.dropout,
        "attention_probs_dropout_prob": text.dropout,
        "layer_norm_eps": 1e-12,
        "pad_token_id": model.pad_id,
        "bos_token_id": model.bos_id,
        "eos_token_id": model.eos_id,
        "tie_word_embeddings": model.head_weight is None,
        "vision_config": {
            "model_type": "git_vision_model",
            **vision,
            "num_attention_heads": vit.heads,
            "num_channels": 3,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
    }


def _sizes(model: GIT) -> dict[str, Any]:
    """Return what weights show of a model's size, under the names of the config."""
    vit, text = model.encoder.spec, model.decoder.spec
    return {
        "vocab_size": model.vocab_size,
        "hidden_size": text.width,
        "num_hidden_layers": text.layers,
        "intermediate_size": text.ffn,
        "max_position_embeddings": text.max_positions,
        "num_image_with_embedding": model.num_frames or None,
        "vision_config": {
            "hidden_size": vit.width,
            "num_hidden_layers": vit.layers,
            "intermediate_size": round(vit.width * vit.mlp_ratio),
            "image_size": vit.image_size,
            "patch_size": vit.patch,
        },
    }


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the fields of its vision part under their full names."""
    vision = {f"vision_config.{name}": value for name, value in config.get("vision_config", {}).items()}
    return {name: value for name, value in config.items() if name != "vision_config"} | vision
