"""What stands between these runs and the paper: its recipe beside the one that was run, row by row.

The left column is computed from the specs of the finished runs, the right one from `reports/paper/recipe.csv`
(Table 11, p. 6 and the released code), each with its confidence code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gitbench.report.paper import paper_value


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """One line of the comparison; `confidence` is the code of the paper's value."""

    what: str
    here: str
    paper: str
    confidence: str


def deviations(specs: Iterable[Mapping[str, Any]], train_images: int | None = None) -> list[Deviation]:
    """Compare the canonical specs of a study's runs with the recipe of GIT_B.

    A value that differs between arms is listed with all its values. `train_images` is the number of training images
    where the spec takes the whole split. Parts a spec does not carry are left out.
    """
    specs = [{**spec, "encoder_init": {**spec.get("encoder_init", {}), **_start(spec)}} for spec in specs]
    specs = sorted(specs, key=lambda spec: bool(spec.get("vision", {}).get("blind")))  # the floor last

    def here(form: str, *paths: str) -> str | None:
        """Format the values at dotted `paths`; None when a spec lacks one."""
        try:
            found = [form.format(*(_at(spec, path) for path in paths)) for spec in specs]
        except (KeyError, TypeError, ValueError):
            return None
        return ", ".join(dict.fromkeys(found)) or None

    amount = here("{}", "data.train_images")
    if amount == "None":
        amount = str(train_images) if train_images else "the whole training split"
    rows = [
        (
            "image encoder",
            here(
                "ViT, {} layers x {}, patch {}, from {}",
                "encoder.layers",
                "encoder.width",
                "encoder.patch",
                "encoder_init.source",
            ),
            "table11-git_b-image_encoder",
        ),
        ("image size", here("{} px", "data.image_size"), "table11-git_b-image_size"),
        ("decoder layers", here("{}", "decoder.layers"), "recipe-decoder_layers"),
        ("decoder hidden size", here("{}", "decoder.width"), "recipe-decoder_hidden_size"),
        ("decoder attention", here("{}-attention", "decoder.attention"), "recipe-decoder_attention"),
        ("decoder start", _listed(map(_decoder_start, specs)), "recipe-decoder_start"),
        ("training images", amount, "table11-git_b-images"),
        ("passes over the data", _epochs(specs, train_images), "table11-git_b-epochs"),
        ("learning rate, encoder", here("{:g}", "train.lr_encoder"), "recipe-learning_rate_encoder"),
        ("learning rate, decoder", here("{:g}", "train.lr_decoder"), "recipe-learning_rate_decoder"),
        ("label smoothing", here("{:g}", "train.label_smoothing"), "recipe-label_smoothing"),
        ("dropout", here("{:g}", "decoder.dropout"), "recipe-dropout"),
        ("vocabulary", _listed(map(_vocabulary, specs)), "recipe-vocabulary"),
        ("beam size", here("{}", "evaluate.beam_size"), "recipe-beam_size"),
        ("length penalty", here("{:g}", "evaluate.length_penalty"), "recipe-length_penalty"),
    ]
    return [_row(what, value, identity) for what, value, identity in rows if value is not None]


def _start(spec: Mapping[str, Any]) -> dict[str, str]:
    """Say in words where an encoder's first values come from; a spec is silent where they are random."""
    words = {"random": "random values", "contrastive": "contrastive pre-training", "file": "weights of a file"}
    return {"source": words[spec.get("encoder_init", {}).get("source", "random")]}


def _decoder_start(spec: Mapping[str, Any]) -> str:
    """Say in words where a decoder's first values come from, and how much of a BERT that is."""
    start = spec.get("decoder_init", {})
    if start.get("source", "random") == "random":
        return "random values"
    words, kept = start["vocab_size"], spec["text"]
    rows = f"{kept['vocab_size']:,} of {words:,}" if kept.get("subset") else f"all {words:,}"
    bias = "its head bias" if start["head_bias"] else "no head bias in this checkpoint"
    return f"BERT weights: first {spec['decoder']['layers']} of {start['layers']} layers, {rows} word rows, {bias}"


def _vocabulary(spec: Mapping[str, Any]) -> str | None:
    text = spec.get("text", {})
    if not {"tokenizer", "vocab_size"} <= set(text):
        return None
    if text.get("subset"):
        return f"BERT's, cut down to the {text['vocab_size']} tokens that the training captions use"
    return f"{text['tokenizer']}, at most {text['vocab_size']} tokens"


def _listed(found: Iterable[str | None]) -> str | None:
    """List distinct values in order; None where one is missing."""
    values = list(dict.fromkeys(found))
    return None if None in values or not values else "; ".join(map(str, values))


def _row(what: str, here: str, identity: str) -> Deviation:
    value = paper_value(identity)
    unit = f" {value['unit']}" if value["unit"] == "tokens" else " px" if value["unit"] == "pixels" else ""
    return Deviation(what=what, here=here, paper=f"{value['value']}{unit}", confidence=value["confidence"])


def _epochs(specs: Iterable[Mapping[str, Any]], train_images: int | None) -> str | None:
    found = []
    for spec in specs:
        try:
            images = spec["data"]["train_images"] or train_images
            found.append(f"{spec['train']['iterations'] * spec['train']['batch_images'] / images:.3g}")
        except (KeyError, TypeError):
            return None
    return ", ".join(dict.fromkeys(found)) or None


def _at(spec: Mapping[str, Any], path: str) -> Any:
    value: Any = spec
    for part in path.split("."):
        value = value[part]
    return value
