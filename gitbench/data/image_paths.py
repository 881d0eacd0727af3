"""Image files as a command line names them: files, folders, and patterns that no shell has spelled out."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from gitbench.data.pictures import SUFFIXES
from gitbench.errors import GitbenchError


def image_paths(given: Iterable[str]) -> list[Path]:
    """Return the files that are named, in the order given: of a folder all images in it and below, of a pattern its matches.

    What exists under the very name is that, and no pattern. Files of folders are those with an image's ending, not hidden,
    sorted with numbers by value (frame 2 before frame 10). Errors: a name that stands for nothing, a folder without images.
    """
    found: list[Path] = []
    for name in given:
        path = Path(name)
        if path.exists():
            places = [path]
        elif not (places := [Path(each) for each in sorted(glob.glob(name, recursive=True), key=_natural)]):
            what = "matches nothing" if glob.has_magic(name) else "does not exist"
            raise GitbenchError(f"{name} {what}: pass image files, folders of them or patterns")
        for place in places:
            found += _images_in(place) if place.is_dir() else [place]
    return found


def _images_in(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    images = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not images:
        raise GitbenchError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}): pass another folder, or the files by name"
        )
    return sorted(images, key=lambda path: _natural(str(path)))


def _natural(name: str) -> list[str | int]:
    """Return what sorts a name by its texts and, where it has digits, by their value."""
    return [int(part) if at % 2 else part for at, part in enumerate(re.split(r"([0-9]+)", name))]
