"""The profile of a study, and what its runs start from beside it: `--encoder`, `--start` and `--tokenizer`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    from gitbench.spec import Profile


def start_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name what runs start from beside the profile's."""
    parser.add_argument(
        "--tokenizer", metavar="NAME|PATH", help="a BERT tokenizer instead of the profile's: hub name, folder or file"
    )
    parser.add_argument(
        "--encoder",
        metavar="FILE|NAME",
        help="weights from which the image encoder starts: a file, or a name of timm's",
    )
    parser.add_argument(
        "--start",
        metavar="WEIGHTS",
        type=Path,
        help="a whole captioner from which every arm starts, with its sizes and tokenizer: what `gitbench caption` takes",
    )


def profile_for(arguments: argparse.Namespace) -> Profile:
    """Return the profile asked for; with `--encoder`, its image encoder has the shape of these weights, with `--start` all of
    its models have the sizes of that checkpoint.

    Errors: GitbenchError for weights that are not there or no ViT's or captioner's, and patches that do not fit into the
    profile's images.
    """
    from gitbench.profiles import get_profile

    profile, given = get_profile(profile_of(arguments)), arguments.encoder
    if arguments.start is not None:
        from gitbench.study.start import started
        from gitbench.training.start import described

        if given is not None:
            raise GitbenchError(
                f"--encoder {given} with --start: a checkpoint has its own encoder: leave one of them out"
            )
        return started(profile, described(arguments.start, arguments.tokenizer))
    if given is None:
        return profile
    from gitbench.study.encoder_start import given_weights
    from gitbench.training.encoder_init import shape_of
    from gitbench.variants.encoder import name_of

    shape, pixels = shape_of(given_weights(given)[0]), profile.data.image_size
    if pixels % shape[2]:
        raise GitbenchError(
            f"--encoder {given}: patches of {shape[2]} pixels do not fill the {profile.name} profile's images of {pixels}: "
            "choose weights with other patches, or another profile"
        )
    return dataclasses.replace(profile, encoder=given, variants={**profile.variants, "encoder": name_of(shape, pixels)})


def tokenizer_of(arguments: argparse.Namespace) -> str | None:
    """Return the tokenizer that takes the place of the profile's; that of a checkpoint is among its own facts."""
    return None if arguments.start is not None else arguments.tokenizer


def profile_of(arguments: argparse.Namespace) -> str:
    """Return the name of the profile asked for, or of the one that suits the device asked for, or this machine."""
    if arguments.profile:
        return arguments.profile
    device = getattr(arguments, "device", None)
    if device is None:
        from gitbench.machine import gpus

        device = "cuda" if gpus() else "cpu"
    return "gpu" if device == "cuda" else "cpu"
