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
    sorted with numbers by value (frame 2 before frame 10); of a pattern, too, which names each file once, unless none has
    such an ending. Errors: a name that stands for nothing, a folder without images.
    """
    found: list[Path] = []
    for name in given:
        path = Path(name)
        if path.exists():
            files = _images_in(path) if path.is_dir() else [path]
            what = f"holds no images ({', '.join(sorted(SUFFIXES))}): pass another folder, or the files by name"
        else:
            matches = [Path(each) for each in sorted(glob.glob(name, recursive=True), key=_natural)]
            below = [file for match in matches for file in (_images_in(match) if match.is_dir() else [match])]
            files = list(dict.fromkeys(file for file in below if _is_image(file)) or below)
            what = "matches no images" if glob.has_magic(name) else "does not exist"
            what += ": pass image files, folders of them or patterns"
        if not files:
            raise GitbenchError(f"{name} {what}")
        found += files
    return found


def _images_in(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if _is_image(path) and path.is_file())
    images = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return sorted(images, key=lambda path: _natural(str(path)))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _natural(name: str) -> list[str | int]:
    """Return what sorts a name by its texts and, where it has digits, by their value."""
    return [int(part) if at % 2 else part for at, part in enumerate(re.split(r"([0-9]+)", name))]
