"""Where the image encoder starts: "random" (CLIP's own initial values), or "contrastive", pre-trained on the run's own
training images and captions by the profile's recipe: stage i of the paper (p. 4). "clip_b16" and "clip_l14" are
OpenAI's weights, from which GIT_B and GIT_L start (Table 11), fetched by timm; they fit the encoders vit_b16 and vit_l14.
Other weights, of any CLIP-shaped ViT: `--cfg-options model.encoder_init.source=file model.encoder_init.path=FILE`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from gitbench.axis import Axis, Planning, Touches, with_variant
from gitbench.spec import ContrastiveSpec, RunSpec


@dataclass(frozen=True, kw_only=True)
class EncoderInitSpec:
    """Where the image encoder's first values come from; a contrastive recipe of None is the profile's.

    `path`, for "file", is a file of weights or a name of timm's with its tag, which stands for one content.
    """

    source: Literal["random", "contrastive", "file"] = "random"
    recipe: ContrastiveSpec | None = None
    path: str | None = None


def _apply(run: RunSpec, init: EncoderInitSpec, planning: Planning) -> RunSpec:
    """Give a contrastive start the profile's recipe, unless the variant brings its own."""
    if init.source == "contrastive" and init.recipe is None:
        init = dataclasses.replace(init, recipe=planning.profile.contrastive)
    return with_variant(run, "encoder_init", init)


def _label(run: RunSpec, name: str) -> str:
    init: EncoderInitSpec = run.variants["encoder_init"]
    if init.source == "contrastive" and init.recipe is not None:
        recipe = init.recipe
        return f"contrastive pre-training, {recipe.iterations:,} \N{MULTIPLICATION SIGN} {recipe.batch_images} images"
    return "random values" if init.source == "random" else f"weights of {init.path}"


AXIS = Axis(
    name="encoder_init",
    spec=EncoderInitSpec,
    doc="where the image encoder starts",
    default="random",
    variants={
        "random": EncoderInitSpec(),
        "contrastive": EncoderInitSpec(source="contrastive"),
        "clip_b16": EncoderInitSpec(source="file", path="vit_base_patch16_clip_quickgelu_224.openai"),
        "clip_l14": EncoderInitSpec(source="file", path="vit_large_patch14_clip_quickgelu_224.openai"),
    },
    label=_label,
    apply=_apply,
    touches=Touches(config=("model.encoder_init.*",), values=("encoder.*",)),
)
