"""What all weights of a captioner start from: "nothing" (the starts of encoder and decoder, axes of their own), or "given", the
checkpoint that `--start WEIGHTS` names, in any layout. With such a checkpoint every arm has its sizes, its tokenizer and its
image size, an arm that starts from nothing too; it takes the place of whatever encoder and decoder would start from.

A checkpoint is known by the content of its tensors: the same model in another layout, or elsewhere, is the same start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gitbench.axis import Axis, Planning, Touches, with_variant
from gitbench.errors import GitbenchError
from gitbench.spec import RunSpec, unkeyed
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec, name_of

GIVEN = "given"  # the variant of a checkpoint that the user names


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The facts of a captioner's checkpoint (`gitbench.training.start.described`), which planning needs without reading it."""

    path: str
    content: str  # hash of its tensors, whatever layout they are in
    encoder: EncoderSpec
    decoder: DecoderSpec
    tied: bool  # whether its head is the word embedding
    frames: int  # temporal embeddings; 0: none
    tokenizer: str  # a tokenizer.json
    vocab_size: int
    image_size: int  # pixels of the square that it is shown
    flops: float  # of a forward pass of one image with one text
    notes: tuple[str, ...] = ()  # what it is given here otherwise than where it comes from

    @property
    def name(self) -> str:
        """Its folder or file, without the way there, which says nothing elsewhere."""
        return Path(self.path).name


@dataclass(frozen=True, kw_only=True)
class StartSpec:
    """What all weights start from. `content` and `tied` are what planning finds: facts, which stand in for the path."""

    source: Literal["nothing", "checkpoint"] = "nothing"
    path: str | None = unkeyed(None)  # its content stands in for it
    content: str | None = None
    tied: bool = True  # whether the head is the word embedding


def _apply(run: RunSpec, start: StartSpec, planning: Planning) -> RunSpec:
    """Give a run the sizes of the study's checkpoint, and its content to one that starts from it."""
    found: Checkpoint | None = planning.profile.start
    if found is None:
        if start.source == "checkpoint":
            raise GitbenchError("an arm starts from a checkpoint: name it with --start WEIGHTS")
        return with_variant(run, "start", start)
    encoder = dataclasses.replace(found.encoder, image_size=run.data.image_size)
    names = {
        "encoder": name_of(encoder.shape, encoder.image_size),
        "decoder": f"{found.decoder.attention}_{found.decoder.layers}x{found.decoder.width}",
    }
    sizes = {"encoder": encoder, "decoder": found.decoder}
    run = dataclasses.replace(run, variants={**run.variants, **sizes}, variant_names={**run.variant_names, **names})
    start = dataclasses.replace(start, tied=found.tied)
    if start.source == "checkpoint":
        start = dataclasses.replace(start, path=found.path, content=found.content)
    return with_variant(run, "start", start)


def _check(run: RunSpec, config: Mapping[str, Any]) -> str | None:
    """Say where overridden options give a model other sizes than its checkpoint has."""
    if run.variants["start"].source == "nothing":
        return None
    free = {"encoder": "image_size", "decoder": "dropout"}  # positions are resized
    for axis, kept in free.items():
        planned = dataclasses.asdict(run.variants[axis])
        for name in planned:
            if name != kept and config["model"][axis][name] != planned[name]:
                return (
                    f"starts from a checkpoint whose {axis} has {name} {planned[name]}, and --cfg-options give it "
                    f"{config['model'][axis][name]}: leave that out"
                )
    return None


def _label(run: RunSpec, name: str) -> str:
    start: StartSpec = run.variants["start"]
    return "random values" if start.source == "nothing" else f"the checkpoint {Path(str(start.path)).name}"


AXIS = Axis(
    name="start",
    spec=StartSpec,
    doc="what all weights start from",
    default="nothing",
    variants={"nothing": StartSpec(), GIVEN: StartSpec(source="checkpoint")},
    label=_label,
    apply=_apply,
    check=_check,
    touches=Touches(config=("model.start.*", "train_cfg.validates_first"), values=("*",)),
)
