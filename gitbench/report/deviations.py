"""The paper's recipe beside the one that was run, row by row.

Ours is computed from the specs of the finished runs; the paper's comes from `reports/paper/recipe.csv` (Table 11, p. 6 and
the released code), each value with how it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.report.paper import KNOWN, paper_value

Spec = Mapping[str, Any]  # a RunSpec as JSON, as a record holds it
_STARTS = {"random": "random values", "file": "weights of others"}


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """One line of the comparison; `known` says how the paper's value is known."""

    what: str
    here: str
    paper: str
    known: str


def checkpoint_in(spec: Spec) -> str:
    """Return the checkpoint that a run started from, by its name and content; "" for none."""
    start = spec["variants"].get("start") or {}
    if start.get("source") != "checkpoint":
        return ""
    return f"the checkpoint {Path(str(start['path'])).name} ({start['content'][:8]})"


def _encoder(spec: Spec) -> str:
    start = spec["variants"]["encoder_init"]
    source = f"{start['recipe']['objective']} pre-training" if start.get("recipe") else start["source"]
    shape = "ViT, {layers} layers x {width}, patch {patch}".format(**spec["variants"]["encoder"])
    return f"{shape}, from {checkpoint_in(spec) or _STARTS.get(source, source)}"


def _decoder_start(spec: Spec) -> str:
    """Say in words where a decoder's first values come from, and how much of a BERT that is."""
    start, text = spec["variants"]["decoder_init"], spec["text"]
    if found := checkpoint_in(spec):
        return found
    if start["source"] == "random":
        return "random values"
    words = start["vocab_size"]
    rows = f"{text['vocab_size']:,} of {words:,}" if text["subset"] else f"all {words:,}"
    bias = "its head bias" if start["head_bias"] else "no head bias in this checkpoint"
    layers = f"first {spec['variants']['decoder']['layers']} of {start['layers']} layers"
    return f"BERT weights: {layers}, {rows} word rows, {bias}"


def _passes(spec: Spec) -> str | None:
    images = spec["data"]["train_images"]
    return None if images is None else f"{spec['train']['iterations'] * spec['train']['batch_images'] / images:.3g}"


def _encoder_rate(spec: Spec) -> str:
    frozen = spec["variants"]["encoder_training"]["frozen"]
    return "none, it is frozen as it was pre-trained" if frozen else f"{spec['train']['lr_encoder']:g}"


def _vocabulary(spec: Spec) -> str:
    text = spec["text"]
    if found := checkpoint_in(spec):
        return f"{text['vocab_size']:,} tokens, those of {found}"
    if text["subset"]:
        return f"BERT's, cut down to the {text['vocab_size']} tokens that the training captions use"
    return f"{text['tokenizer']}, at most {text['vocab_size']} tokens"


# (what, its value in a spec: a format or a function, the id of the paper's value)
_ROWS: tuple[tuple[str, str | Callable[[Spec], str | None], str], ...] = (
    ("image encoder", _encoder, "table11-git_b-image_encoder"),
    ("image size", "{data[image_size]} px", "table11-git_b-image_size"),
    ("decoder layers", "{variants[decoder][layers]}", "recipe-decoder_layers"),
    ("decoder hidden size", "{variants[decoder][width]}", "recipe-decoder_hidden_size"),
    ("decoder attention", "{variants[decoder][attention]}-attention", "recipe-decoder_attention"),
    ("decoder start", _decoder_start, "recipe-decoder_start"),
    (
        "training images",
        lambda spec: str(spec["data"]["train_images"] or "the whole training split"),
        "table11-git_b-images",
    ),
    ("passes over the data", _passes, "table11-git_b-epochs"),
    ("learning rate, encoder", _encoder_rate, "recipe-learning_rate_encoder"),
    ("learning rate, decoder", "{train[lr_decoder]:g}", "recipe-learning_rate_decoder"),
    ("label smoothing", "{train[label_smoothing]:g}", "recipe-label_smoothing"),
    ("dropout", "{variants[decoder][dropout]:g}", "recipe-dropout"),
    ("vocabulary", _vocabulary, "recipe-vocabulary"),
    ("beam size", "{evaluate[beam_size]}", "recipe-beam_size"),
    ("length penalty", "{evaluate[length_penalty]:g}", "recipe-length_penalty"),
)


def deviations(specs: Iterable[Spec]) -> tuple[Deviation, ...]:
    """Compare the specs of a study's runs with the recipe of GIT_B; a value that differs between arms is listed with all.

    A row that some run has no value for is left out (passes over a split that is taken whole).
    """
    ordered = sorted(specs, key=lambda spec: bool(spec["variants"]["vision"]["blind"]))  # the floor last
    found = []
    for what, form, identity in _ROWS:
        values = list(dict.fromkeys(form.format(**spec) if isinstance(form, str) else form(spec) for spec in ordered))
        if values and None not in values:
            here, paper = "; ".join(map(str, values)), paper_value(identity)
            theirs = paper["value"] + {"tokens": " tokens", "pixels": " px"}.get(paper["unit"], "")
            found.append(Deviation(what=what, here=here, paper=theirs, known=KNOWN[paper["confidence"]]))
    return tuple(found)
