"""A study from a checkpoint: its profile with the checkpoint's sizes, and which ablations make sense on top of it. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from gitbench.errors import GitbenchError
from gitbench.spec import Ablation, Profile, TextSpec
from gitbench.variants import AXES
from gitbench.variants.start import GIVEN, Checkpoint

STARTS = ("encoder_init", "decoder_init")  # the axes whose place a checkpoint takes
SIZES = {
    "encoder": ("image_size",),
    "decoder": ("dropout", "max_positions"),
}  # axis -> what of it is no size of weights


def started(profile: Profile, found: Checkpoint, image_size: int | None = None) -> Profile:
    """Return a profile all of whose runs have the sizes of a checkpoint; `image_size` in pixels, None: the checkpoint's own.

    Texts are cut to the positions that the decoder has. Errors: GitbenchError for a size that its patches do not fill.
    """
    size, patch = found.image_size if image_size is None else image_size, found.encoder.patch
    if size < patch or size % patch:
        near = max(patch, round(size / patch) * patch)
        raise GitbenchError(f"images of {size} pixels are not filled by patches of {patch}: use --image-size {near}")
    positions = found.decoder.max_positions
    return dataclasses.replace(
        profile,
        start=found,
        data=dataclasses.replace(profile.data, image_size=size),
        text=TextSpec(
            tokenizer=found.tokenizer,
            vocab_size=found.vocab_size,
            max_tokens=min(profile.text.max_tokens, positions - 2),
        ),
        evaluate=dataclasses.replace(profile.evaluate, max_length=min(profile.evaluate.max_length, positions)),
        frames=found.frames or profile.frames,
    )


def starts_with(ablation: Ablation, profile: Profile, named: Mapping[str, str]) -> dict[str, str]:
    """Return axis -> variant where no arm names one, of a study from the checkpoint of its profile.

    Errors: GitbenchError for an arm that needs other weights than the checkpoint has, and what differs.
    """
    found: Checkpoint = profile.start
    common = ablation.common_variants(profile.name)
    every = [("every arm", common), *((f"arm '{arm.name}'", arm.variants) for arm in ablation.arms[profile.name])]
    for whose, variants in every:
        for problem in _problems(variants, found, is_common=variants is common):
            raise GitbenchError(
                f"--start {found.name}: {whose} of {ablation.name} {problem}: leave --start out, or choose another ablation"
            )
    return {**named, **{axis: str(AXES[axis].default) for axis in STARTS}, "text": "own", "start": GIVEN}


def _problems(variants: Mapping[str, str], found: Checkpoint, is_common: bool) -> Iterator[str]:
    """Yield why variants, of an arm or common to all, cannot start from a checkpoint."""
    for axis, name in variants.items():
        if axis in STARTS and not is_common:  # what all share is replaced by the checkpoint
            yield f"says where its weights start ({axis}: {name}), and they are the checkpoint's"
        elif axis == "text" and name != AXES[axis].default:
            yield f"has other word pieces ({axis}: {name}) than the checkpoint"
        elif axis in SIZES:
            wanted = dataclasses.asdict(AXES[axis].resolve(name))
            there = dataclasses.asdict(getattr(found, axis))
            differing = [
                f"{field} {wanted[field]}, not {there[field]}"
                for field in wanted
                if field not in SIZES[axis] and wanted[field] != there[field]
            ]
            if differing:
                yield f"has the {axis} {name} ({', '.join(differing)} as in the checkpoint)"
