"""What of a checkpoint is trained: "everything"; "frozen_encoder", all but the image encoder; "frozen_decoder", the image encoder
alone; "last_2", the last two layers of encoder and decoder (any number); "norms_biases", every vector, which are the weights of
norms and all biases; "lora_16", adapters of rank 16 (any rank) in attention (Hu et al. 2021; the extra gitbench[lora]).

Adapters stand beside the products to queries, keys and values and to attention's output, in every layer of encoder and decoder
(with cross-attention its own, too). They start at zero, count twice (alpha is twice the rank), have no dropout, and are added to
the weights when training ends: what is tested, kept and exported is a plain model. What is frozen has no gradient and no state
of the optimizer. A frozen encoder is that of the axis `encoder_training`, and the same run.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gitbench.axis import Axis, Planning, Touches, with_variant
from gitbench.formats import plural
from gitbench.spec import RunSpec


@dataclass(frozen=True, kw_only=True)
class AdaptationSpec:
    """What of a checkpoint is trained. "decoder" is all but the image encoder, and "encoder" that alone."""

    trains: Literal["everything", "decoder", "encoder", "layers", "vectors", "adapters"] = "everything"
    layers: int = 0  # the last ones, of "layers"
    rank: int = 0  # of "adapters"
    lr_factor: float = 1.0  # of the profile's learning rates, which are made for training everything


# Few numbers need larger steps than many. Of the shipped captioner on 300 images of the shifted world the best validation
# likelihood was at 0.5 times the cpu profile's rates for everything (tried: 0.25 to 2), at 4 times for adapters of rank 16 and at
# 8 times for vectors (both tried: 1 to 8): the grid stands so that it holds these.
OF_ADAPTERS, OF_VECTORS = 4.0, 8.0


def _apply(run: RunSpec, adaptation: AdaptationSpec, planning: Planning) -> RunSpec:
    """Multiply the learning rates, so that the rate itself is what decides."""
    train, factor = run.train, adaptation.lr_factor
    train = dataclasses.replace(train, lr_encoder=factor * train.lr_encoder, lr_decoder=factor * train.lr_decoder)
    adaptation = dataclasses.replace(adaptation, lr_factor=1.0)
    return with_variant(dataclasses.replace(run, train=train), "adaptation", adaptation)


def _check(run: RunSpec, config: Mapping[str, Any]) -> str | None:
    """Say where nothing is there that could be adapted, or less than is to be trained."""
    spec: AdaptationSpec = run.variants["adaptation"]
    if spec.trains == "everything":
        return None
    if run.variants["start"].source == "nothing":
        return "trains a part of a model that starts from nothing: name a checkpoint with --start WEIGHTS"
    if run.variants["encoder_training"].frozen:
        return "has a frozen encoder, and an adaptation that says what else is trained: leave one of them out"
    if spec.trains == "layers":
        depth = max(config["model"][side]["layers"] for side in ("encoder", "decoder"))
        if not 0 < spec.layers <= depth:
            return f"trains the last {spec.layers} layers of a model that has {depth}: choose 1 to {depth}"
    return None


def _label(run: RunSpec, name: str) -> str:
    spec: AdaptationSpec = run.variants["adaptation"]
    if run.variants["encoder_training"].frozen:
        return "all but the encoder"
    return {
        "everything": "everything",
        "encoder": "the encoder alone",
        "layers": f"last {plural(spec.layers, 'layer')}" if spec.layers > 1 else "last layer",
        "vectors": "norms and biases",
        "adapters": f"LoRA, rank {spec.rank}",
    }[spec.trains]


def spelt(name: str) -> AdaptationSpec | None:
    """Return what a name such as last_3 or lora_8 spells out; None where it does not."""
    found = re.fullmatch(r"(last|lora)_([1-9]\d*)", name)
    if found is None:
        return None
    number = int(found[2])
    if found[1] == "last":
        return AdaptationSpec(trains="layers", layers=number)
    return AdaptationSpec(trains="adapters", rank=number, lr_factor=OF_ADAPTERS)


AXIS = Axis(
    name="adaptation",
    spec=AdaptationSpec,
    doc="what of a checkpoint is trained",
    default="everything",
    variants={
        "everything": AdaptationSpec(),
        "frozen_encoder": AdaptationSpec(trains="decoder"),
        "frozen_decoder": AdaptationSpec(trains="encoder"),
        "norms_biases": AdaptationSpec(trains="vectors", lr_factor=OF_VECTORS),
    },
    label=_label,
    apply=_apply,
    check=_check,
    named=spelt,
    touches=Touches(
        config=("model.adaptation.*", "model.encoder_training.*", "optim_wrapper.paramwise_cfg.*"),
        shapes=("*.lora_*",),
        training=("*",),
    ),
)
for _name in ("last_1", "last_2", "lora_4", "lora_16"):
    AXIS.add(_name, spelt(_name))
