"""Image files below a folder, found by what data sets call them: a path, a name, a stem, a number.

Where several files fit a name, those in the split's own folder (`train/`, `images/val2014/`) are meant; files that still
differ in a byte are an error, never a guess.
"""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from gitbench.data.films import FILM_SUFFIXES
from gitbench.data.pictures import SUFFIXES, Missing, read_image_file
from gitbench.data.splits import split_in
from gitbench.errors import GitbenchError
from gitbench.files import explain_unreadable


class ImageFiles:
    """The image files below some folders, which are searched once; or the films, for the task "video"."""

    def __init__(self, folders: Sequence[Path], films: bool = False):
        self.folders = folders
        self.suffixes, self.kind = (FILM_SUFFIXES, "film") if films else (SUFFIXES, "image")
        self._splits: dict[Path, str | None] = {}  # folder -> its split

    @cached_property
    def paths(self) -> list[Path]:
        """All image files, sorted; folders that are links are followed, each once."""
        found: set[str] = set()  # texts, which sort ten times as fast as paths
        seen: set[str] = set()
        for folder in self.folders:
            for base, below, names in os.walk(folder, followlinks=True, onerror=_refuse):
                real = os.path.realpath(base)
                if real in seen:
                    below.clear()
                    continue
                seen.add(real)
                below[:] = [name for name in below if not _is_litter(name)]
                endings = ((name, os.path.splitext(name)[1].lower()) for name in names if not name.startswith("._"))
                found.update(os.path.join(base, name) for name, ending in endings if ending in self.suffixes)
        return [Path(path) for path in sorted(found)]

    def find(self, name: str | int, split: str | None, where: str, subfolder: str = "") -> Path:
        """Return the file of an image.

        name: a path or a name, with or without its ending, or the number at the end of its stem (COCO, VQAv2). split:
        train, val or test where the data say it, for names that several folders have. subfolder: where the data say that
        the file lies. Errors: GitbenchError for a missing file, and for several that differ.
        """
        with explain_unreadable():
            found, in_folder = self._candidates(name, subfolder)
        if split:
            found = self._of_split(found, split, in_folder)
        if not found:
            if not self.paths:
                packed = next(
                    (path.name for kind in ("zip", "tar*", "tgz") for path in self.folders[0].glob(f"*.{kind}")), ""
                )
                fix = f"unpack {packed}" if packed else f"put the {self.kind}s there"
                raise GitbenchError(
                    f"{where}: there is no {self.kind} file below {self.folders[0]}: {fix}, or name their folder with --images"
                )
            images = self.folders[0] / "images"
            path = (images if images.is_dir() else self.folders[0]) / subfolder / str(name)
            raise Missing(f"{where}: {self.kind} {path} is missing: add it or remove its row")
        for other in found[1:]:
            if not filecmp.cmp(found[0], other, shallow=False):
                raise GitbenchError(
                    f"{where}: {found[0]} and {other} are two {self.kind}s called {name}: write the {self.kind}'s "
                    "folder into the data, or leave one"
                )
        return found[0]

    def _of_split(self, found: list[Path], split: str, in_folder: bool) -> list[Path]:
        """Return the files in the split's own folders, else those in no split's, else the others.

        The others only if the data say their folder (Karpathy's val2014 holds images of all splits), or if names are unique.
        """
        own = [path for path in found if self.split_of(path) == split]
        shared = [path for path in found if self.split_of(path) is None]
        # names that are used again in another split's folder mean another image there
        return own or shared or (found if in_folder or not self._repeats else [])

    def _candidates(self, name: str | int, subfolder: str) -> tuple[list[Path], bool]:
        """Return the files that a name can mean, those in its subfolder first of all; and whether they are in a said folder."""
        if isinstance(name, int):
            return self._by_number.get(name, []), False
        if Path(name).is_absolute() and Path(name).is_file():
            return [Path(name)], True
        parts = PurePosixPath(plain(name)).parts
        found = self._by_name.get(parts[-1], []) if parts else []
        if not found and parts:
            found = self._written_out(name) or self._by_stem.get(parts[-1], [])
        for end in ((*PurePosixPath(plain(subfolder)).parts, *parts), parts):
            if ending := [path for path in found if ends_with(path, end)]:
                return ending, len(end) > 1
        if not found and (number := re.fullmatch(r"\d+", name)):
            return self._by_number.get(int(number[0]), []), False
        return found, False

    def _written_out(self, name: str) -> list[Path]:
        """Return the file at a path that leads out of the folders, or whose ending is none of an image."""
        places = [place for folder in self.folders for place in (folder / "images", folder)]
        found = [place / name for place in places if (place / name).is_file()][:1]
        return [path for path in found if self.kind == "image" or path.suffix.lower() in self.suffixes]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        return _grouped((plain(path.name), path) for path in self.paths)

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        return _grouped((plain(path.stem), path) for path in self.paths)

    @cached_property
    def _by_number(self) -> dict[int, list[Path]]:
        """The files by the number at the end of their stems."""
        found = ((re.search(r"[0-9]+$", path.stem), path) for path in self.paths)
        return _grouped((int(number[0]), path) for number, path in found if number)

    @cached_property
    def _repeats(self) -> bool:
        """Tell whether a name occurs in the folders of two splits."""
        of_name: dict[str, set[str]] = defaultdict(set)
        for path in self.paths:
            if split := self.split_of(path):
                of_name[path.name].add(split)
        return any(len(splits) > 1 for splits in of_name.values())

    def split_of(self, path: Path) -> str | None:
        """Return the split whose folder a file lies in: the nearest folder below ours whose name says one."""
        if path.parent not in self._splits:
            self._splits[path.parent] = self._split_of_folder(path.parent)
        return self._splits[path.parent]

    def _split_of_folder(self, place: Path) -> str | None:
        for folder in self.folders:
            if place.is_relative_to(folder):
                words = (split_in(part) for part in reversed(place.relative_to(folder).parts))
                return next(filter(None, words), None)
        return None


@dataclass(frozen=True)
class NamedPicture:
    """An image file that is searched by name when it is needed; see `ImageFiles.find`."""

    files: ImageFiles
    name: str | int
    split: str | None  # train, val, test
    subfolder: str = ""

    def read(self, where: str) -> bytes:
        return read_image_file(self.path(where), where)

    def check(self, where: str) -> None:
        self.path(where)

    def mark(self, where: str) -> object:
        return self.name

    def path(self, where: str) -> Path:
        """Return where the file lies."""
        return self.files.find(self.name, self.split, where, self.subfolder)


def _is_litter(folder: str) -> bool:
    """Tell whether a folder is none of the data: `.ipynb_checkpoints`, `.cache`, a disk's own, or what a Mac adds to archives."""
    return folder.startswith(".") or folder in ("__MACOSX", "lost+found")


def _refuse(error: OSError) -> None:
    raise error


def plain(name: str) -> str:
    """Return a path with forward slashes and composed letters, however the system that wrote it has them."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def ends_with(path: Path, parts: tuple[str, ...]) -> bool:
    """Tell whether a path ends with some folders and a name; the name may lack its ending."""
    parts = tuple(part for part in parts if part != ".")
    own = tuple(plain(part) for part in path.parts[-len(parts) :]) if parts else ()
    return own[:-1] == parts[:-1] and bool(own) and parts[-1] in (own[-1], PurePosixPath(own[-1]).stem)


def _grouped(pairs: Iterable[tuple[str, Path]] | Iterable[tuple[int, Path]]) -> dict:  # type: ignore[type-arg]
    found: dict[str | int, list[Path]] = defaultdict(list)
    for key, path in pairs:
        found[key].append(path)
    return dict(found)
