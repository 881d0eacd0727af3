"""Where the image encoders of a study start: what ships for a recipe, and what the user gives. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from gitbench.data import on_scenes
from gitbench.data.base import graph_of
from gitbench.data.tasks import TaskSource
from gitbench.encoders.manifest import find_shipped
from gitbench.errors import GitbenchError
from gitbench.spec import PretrainSpec
from gitbench.variants.encoder import EncoderSpec

WEIGHTS = (".safetensors", ".pth", ".pt", ".bin")  # what only a file's name ends in


def followed(
    recipe: PretrainSpec, encoder: EncoderSpec, source: TaskSource, images: int | None
) -> tuple[PretrainSpec, str | None]:
    """Return a recipe as it is followed for a study, and the content of the encoder that ships for it (None: none does).

    source: the study's training split; images: how many of it, None for all. Other data than scenes have no more for
    pre-training, since only these are in the study's fingerprint.
    Errors: supervised pre-training on data without scene graphs.
    """
    if on_scenes(source.data):
        found = find_shipped(encoder, recipe)
        return recipe, found.content if found else None
    if recipe.objective == "supervised":
        graph_of(source, 0)
    return dataclasses.replace(recipe, images=min(recipe.images, images or recipe.images)), None


def given_weights(name: str | None) -> tuple[str, str]:
    """Return a file of encoder weights with the hash of its content, or a name of timm's, which is its content.

    Errors: none was given, or a file that is not there.
    """
    if name is None:
        raise GitbenchError("an arm starts from given encoder weights: name them with --encoder FILE")
    file = Path(name).expanduser()
    if file.is_file():
        with open(file, "rb") as opened:
            return str(file.resolve()), hashlib.file_digest(opened, "sha256").hexdigest()
    if file.is_dir():
        raise GitbenchError(f"encoder weights {name}: that is a folder: pass the file of weights in it")
    if file.suffix in WEIGHTS or file.is_absolute() or file.exists():
        raise GitbenchError(f"encoder weights {name}: there is no such file: pass a file, or a name of timm's")
    return name, name
