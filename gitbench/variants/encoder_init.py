"""Where the image encoder starts: "random" (CLIP's own initial values), or pre-trained by the profile's recipe, stage i
of the paper (p. 4): "contrastive", the same for a tenth of the iterations ("contrastive_tenth"), "supervised"
(classification of the scene's facts) or "masked" (masked autoencoding). Such an encoder is made once, on images of a
stream of its own; those of the cpu and small-gpu profiles ship with the package.

"clip" are weights of the encoder's own shape, fetched by timm: for vit_b16 and vit_l14 OpenAI's, from which GIT_B and GIT_L
start (Table 11). OpenAI made none of the size of vit_h14: it gets those of MetaCLIP, CLIP made again on 2.5 billion pairs (Xu
et al. 2024), since LAION's have another activation. "given" are the weights of `--encoder FILE|NAME`, of any CLIP-shaped ViT.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gitbench.axis import Axis, Planning, Touches, with_variant
from gitbench.errors import GitbenchError
from gitbench.run_key import PRETRAIN_VERSION
from gitbench.spec import PretrainSpec, Profile, RunSpec, unkeyed

GIVEN = "given"  # the variant of weights that the user names
_CLIP = {  # (layers, width, patch) of an encoder -> timm's name of CLIP weights; all were trained with QuickGELU
    (12, 768, 16): "vit_base_patch16_clip_quickgelu_224.openai",
    (24, 1024, 14): "vit_large_patch14_clip_quickgelu_224.openai",
    (32, 1280, 14): "vit_huge_patch14_clip_quickgelu_224.metaclip_2pt5b",
}


@dataclass(frozen=True, kw_only=True)
class EncoderInitSpec:
    """Where the image encoder's first values come from; of "pretrained" a recipe of None is the profile's.

    `path`, for "file", is a file of weights or a name of timm's; None: what `--encoder` gives. `content` is what planning
    finds: the hash of the file, or of the encoder that ships for this recipe, or the name of timm's, whose tag stands for
    one content. None: the encoder is made on first use, by pre-training of this `version`.
    """

    source: Literal["random", "pretrained", "clip", "file"] = "random"  # planning turns "clip" into a "file"
    objective: Literal["contrastive", "supervised", "masked"] = "contrastive"
    share: float = 1.0  # of the recipe's iterations
    recipe: PretrainSpec | None = None
    path: str | None = unkeyed(None)  # its content stands in for it
    content: str | None = None
    version: int = 1


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
    content: str | None
    if init.source == "clip":
        init = dataclasses.replace(init, source="file", path=_clip(run))
    if init.source == "file":
        path, content = planning.weights(init.path)
        init = dataclasses.replace(init, path=path, content=content)
    elif (recipe := recipe_of(planning.profile, init)) is not None:
        recipe, content = planning.pretrained(run.variants["encoder"], recipe)
        version = PRETRAIN_VERSION if content is None else init.version
        init = dataclasses.replace(init, recipe=recipe, content=content, version=version)
    return with_variant(run, "encoder_init", init)


def _clip(run: RunSpec) -> str:
    """Return timm's name of the CLIP weights for a run's encoder."""
    size = run.variants["encoder"]
    if (found := _CLIP.get(size.shape)) is None:
        raise GitbenchError(
            f"there are no CLIP weights for the encoder {run.variant_names['encoder']}: choose vit_b16, vit_l14 or vit_h14, "
            "or another encoder_init"
        )
    return found


def _check(run: RunSpec, config: Mapping[str, Any]) -> str | None:
    """Say where overridden options give the encoder a size for which the start that was planned does not exist."""
    init: EncoderInitSpec = run.variants["encoder_init"]
    planned = dataclasses.asdict(run.variants["encoder"])
    if init.source == "random":
        return None
    if init.source == "file":  # a position table is resized
        del planned["image_size"]
    if all(config["model"]["encoder"][name] == planned[name] for name in planned):
        return None
    return (
        "starts from weights of another size than --cfg-options give its encoder: name a variant of the axis encoder "
        "instead, or encoder_init: random in the ablation's `common`"
    )


def start_note(sources: Mapping[str, str], axis: str) -> str | None:
    """Return what a reader must know where a study's encoder starts from nothing, in one sentence; `axis`: what it varies.

    sources: axis -> source of its spec, of the base arm.
    """
    if sources[AXIS.name] != "random" or sources.get("start") == "checkpoint" or axis == AXIS.name:
        return None
    return (
        "the image encoder starts from nothing (random values), not from pre-training as in the paper: give it weights with "
        "--encoder FILE, or mind that a model that does not see says little about the rest"
    )


def _label(run: RunSpec, name: str) -> str:
    init: EncoderInitSpec = run.variants["encoder_init"]
    if init.recipe is not None:
        recipe = init.recipe
        count = f"{recipe.iterations:,} \N{MULTIPLICATION SIGN} {recipe.batch_images} images"
        return f"{recipe.objective} pre-training, {count}"
    if init.source == "random":
        return "random values"
    source = Path(str(init.path))  # of a file its name alone: the path is private and says nothing elsewhere
    return f"weights of {source.name if source.is_absolute() else source}"


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
        GIVEN: EncoderInitSpec(source="file"),
        "clip": EncoderInitSpec(source="clip"),
    },
    label=_label,
    apply=_apply,
    check=_check,
    touches=Touches(config=("model.encoder_init.*",), values=("encoder.*",)),
)
