"""Text decoders by attention, depth and width: "self_6x768" is the official one (6 layers, hidden 768, 12 heads).

Heads are 64 wide as in the official code, 32 wide below 192; the feed-forward part is four times the width. The paper's
second decoder comes twice at every size: "cross_6x768" has as many layers and more parameters, "cross_6x768_matched"
a feed-forward part so much narrower that its layers have as many parameters as those of "self_6x768", within 2 %.

"bert_6x384" has the shape of a BERT that can be its start (axis `decoder_init`): MiniLM's heads are 32 wide at width 384,
and BERT has 512 positions where the official decoder has 1024; else it is as the others of its size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gitbench.axis import Axis, Touches
from gitbench.formats import plural
from gitbench.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class DecoderSpec:
    """A text decoder over image and text tokens (official `layers/decoder.py`)."""

    attention: Literal["self", "cross"] = "self"
    layers: int
    width: int
    heads: int
    ffn: int  # hidden units of the feed-forward part
    dropout: float = 0.1
    max_positions: int = 1024


def decoder(
    attention: str, layers: int, width: int, dropout: float = 0.1, max_positions: int = 1024, heads: int | None = None
) -> DecoderSpec:
    """Return the spec of a decoder with the standard feed-forward size, and heads where `heads` is None, for its width."""
    head = 64 if width >= 192 else 32
    return DecoderSpec(
        attention=attention,  # type: ignore[arg-type]
        layers=layers,
        width=width,
        heads=heads or width // head,
        ffn=4 * width,
        dropout=dropout,
        max_positions=max_positions,
    )


def layer_parameters(spec: DecoderSpec) -> int:
    """Count the parameters of one layer by formula; all layers together are the report's "decoder parameters"."""
    d = spec.width
    attention = 4 * (d**2 + d) + 2 * d  # queries, keys, values, output, norm
    feed_forward = 2 * d * spec.ffn + spec.ffn + d + 2 * d
    return attention * (2 if spec.attention == "cross" else 1) + feed_forward


def matched(spec: DecoderSpec, other: DecoderSpec) -> DecoderSpec:
    """Return `spec` with the feed-forward width that brings its parameters nearest to those of `other`.

    Widths are multiples of 8, which GPUs multiply fast; that leaves at most 8 D + 4 parameters a layer, 1.1 % at D = 64.
    """
    per_hidden_unit = 2 * spec.width + 1
    surplus = layer_parameters(spec) - layer_parameters(other) * other.layers / spec.layers
    return dataclasses.replace(spec, ffn=8 * max(1, round((spec.ffn - surplus / per_hidden_unit) / 8)))


def _label(run: RunSpec, name: str) -> str:
    one: DecoderSpec = run.variants["decoder"]
    size = f"{plural(one.layers, 'layer')} \N{MULTIPLICATION SIGN} {one.width}"
    wide = f", feed-forward {one.ffn}" if one.ffn != 4 * one.width else ""
    return size + (", cross-attention" if one.attention == "cross" else "") + wide


def _check(run: RunSpec, config: Mapping[str, Any]) -> str | None:
    """Say where a decoder, overridden options included, cannot be built or is too short for the texts."""
    given = config["model"]["decoder"]
    longest = max(run.text.max_tokens + 2, config["model"]["generation"]["max_length"])
    if given["width"] % given["heads"]:
        return f"has a decoder of width {given['width']} and {given['heads']} heads: choose a number that divides the width"
    if given["max_positions"] < longest:
        return f"has {given['max_positions']} text positions but captions need {longest}: raise max_positions"
    return None


# Encoder and decoder share the projection between them, and the decoder's width is that of the text embedding.
AXIS = Axis(
    name="decoder",
    spec=DecoderSpec,
    doc="the text decoder: attention, layers x width",
    label=_label,
    check=_check,
    touches=Touches(config=("model.decoder.*",), shapes=("decoder.*", "embedding.*", "projection.*")),
)


def add_size(layers: int, width: int, dropout: float = 0.1, max_positions: int = 1024) -> None:
    """Register the decoders of one size."""
    own, cross = (decoder(attention, layers, width, dropout, max_positions) for attention in ("self", "cross"))
    AXIS.add(f"self_{layers}x{width}", own)
    AXIS.add(f"cross_{layers}x{width}", cross)
    AXIS.add(f"cross_{layers}x{width}_matched", matched(cross, own))


# Small decoders carry 64 positions: longer than any caption of the small profiles, and no dead weight in the counts.
# They see each image about once, where dropout only costs (LOG.md, 2026-11-24), so they have none.
SMALL = ((1, 64), (2, 64), (2, 96), (2, 128), (4, 128), (4, 192), (8, 256))
MEDIUM = ((1, 192), (2, 384), (4, 384), (6, 384), (6, 512), (12, 384), (12, 512))
PAPER = tuple((layers, width) for width in (768, 1024) for layers in (6, 12, 24))

for _layers, _width in SMALL:
    add_size(_layers, _width, dropout=0.0, max_positions=64)
for _layers, _width in MEDIUM:
    add_size(_layers, _width, max_positions=64)
for _layers, _width in PAPER:
    add_size(_layers, _width)
for _layers in (1, 2):  # of MiniLM's six; small, so without dropout
    AXIS.add(f"bert_{_layers}x384", decoder("self", _layers, 384, heads=12, dropout=0.0, max_positions=64))
AXIS.add("bert_6x384", decoder("self", 6, 384, heads=12, max_positions=64))
for _layers in (6, 12):  # of bert-base's twelve
    AXIS.add(f"bert_{_layers}x768", decoder("self", _layers, 768, heads=12, max_positions=512))
