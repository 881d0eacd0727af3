"""The encoders that the ablations of a profile start from: each arm's size and recipe, once."""

from __future__ import annotations

from dataclasses import dataclass

from gitbench.ablations import ablation_files, load_ablation
from gitbench.spec import PretrainSpec, Profile
from gitbench.variants import AXES
from gitbench.variants.encoder import EncoderSpec
from gitbench.variants.encoder_init import recipe_of


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A pre-trained encoder that some arm starts from; its name is that of its variants."""

    name: str  # "<encoder>-<encoder_init>"
    encoder: EncoderSpec
    recipe: PretrainSpec


def wanted_encoders(profile: Profile) -> list[Wanted]:
    """Return what the arms of the built-in ablations start from in a profile, on scenes, sorted by name."""
    found: dict[str, Wanted] = {}
    for file in ablation_files():
        ablation = load_ablation(file)
        for arm in ablation.arms.get(profile.name, ()):
            names = {**ablation.starts(profile, on_scenes=True), **arm.variants}
            start = names.get("encoder_init", "random")
            recipe = recipe_of(profile, AXES["encoder_init"].resolve(start))
            if recipe is not None:
                name = f"{names['encoder']}-{start}"
                encoder: EncoderSpec = AXES["encoder"].resolve(names["encoder"])
                found[name] = Wanted(name=name, encoder=encoder, recipe=recipe)
    return [found[name] for name in sorted(found)]
