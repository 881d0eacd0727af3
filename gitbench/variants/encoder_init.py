"""Where the image encoder starts: "random" (CLIP's own initial values), or pre-trained by the profile's recipe, stage i
of the paper (p. 4): "contrastive", the same for a tenth of the iterations ("contrastive_tenth"), "supervised"
(classification of the scene's facts) or "masked" (masked autoencoding). Such an encoder is made once, on images of a
stream of its own; those of the cpu profile ship with the package.

"clip_b16" and "clip_l14" are OpenAI's weights, from which GIT_B and GIT_L start (Table 11), fetched by timm; they fit the
encoders vit_b16 and vit_l14.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from gitbench.axis import Axis, Planning, Touches, with_variant
from gitbench.spec import PretrainSpec, Profile, RunSpec


@dataclass(frozen=True, kw_only=True)
class EncoderInitSpec:
    """Where the image encoder's first values come from; of "pretrained" a recipe of None is the profile's.

    `path`, for "file", is a file of weights or a name of timm's with its tag, which stands for one content.
    """

    source: Literal["random", "pretrained", "file"] = "random"
    objective: Literal["contrastive", "supervised", "masked"] = "contrastive"
    share: float = 1.0  # of the recipe's iterations
    recipe: PretrainSpec | None = None
    path: str | None = None


def recipe_of(profile: Profile, init: EncoderInitSpec) -> PretrainSpec | None:
    """Return the recipe of a pre-trained start, which is the profile's in all that a variant does not say."""
    if init.source != "pretrained" or init.recipe is not None:
        return init.recipe
    recipe = profile.pretraining
    return dataclasses.replace(
        recipe,
        objective=init.objective,
        iterations=max(1, round(recipe.iterations * init.share)),
        warmup=round(recipe.warmup * init.share),
    )


def _apply(run: RunSpec, init: EncoderInitSpec, planning: Planning) -> RunSpec:
    return with_variant(run, "encoder_init", dataclasses.replace(init, recipe=recipe_of(planning.profile, init)))


def _label(run: RunSpec, name: str) -> str:
    init: EncoderInitSpec = run.variants["encoder_init"]
    if init.recipe is not None:
        recipe = init.recipe
        count = f"{recipe.iterations:,} \N{MULTIPLICATION SIGN} {recipe.batch_images} images"
        return f"{recipe.objective} pre-training, {count}"
    return "random values" if init.source == "random" else f"weights of {init.path}"


AXIS = Axis(
    name="encoder_init",
    spec=EncoderInitSpec,
    doc="where the image encoder starts",
    default="random",
    variants={
        "random": EncoderInitSpec(),
        "contrastive": EncoderInitSpec(source="pretrained"),
        "contrastive_tenth": EncoderInitSpec(source="pretrained", share=0.1),
        "supervised": EncoderInitSpec(source="pretrained", objective="supervised"),
        "masked": EncoderInitSpec(source="pretrained", objective="masked"),
        "clip_b16": EncoderInitSpec(source="file", path="vit_base_patch16_clip_quickgelu_224.openai"),
        "clip_l14": EncoderInitSpec(source="file", path="vit_large_patch14_clip_quickgelu_224.openai"),
    },
    label=_label,
    apply=_apply,
    touches=Touches(config=("model.encoder_init.*",), values=("encoder.*",)),
)
