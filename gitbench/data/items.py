"""What a reader makes of a folder: parts, each a file or a stated split of it, whose items are images with their texts."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from gitbench.data.address import Address
from gitbench.data.base import Question
from gitbench.data.image_files import ImageFiles, NamedPicture
from gitbench.data.pictures import SUFFIXES, Picture
from gitbench.data.splits import split_of
from gitbench.errors import GitbenchError

HOMES = ("annotations", "data")  # folders in which texts are looked for beside the folder itself
_PEEK = 100_000  # characters of a JSON file, in which its first object ends


@dataclass(frozen=True, kw_only=True)
class Item:
    """An image and its texts as they stand in the data."""

    image_id: str | None  # None: named after its split and place
    picture: Picture
    where: str  # for error messages: file and row
    key: bytes | None = None  # by what splits are divided; None: the image's bytes
    captions: tuple[object, ...] = ()  # or one label, for the tasks "read" and "classify"
    questions: tuple[Question, ...] = ()
    split: str = ""  # as stated, in the data's own word
    domain: str = ""  # a part of the split that the data name: nocaps' in-domain, near-domain, out-domain

    @property
    def has_texts(self) -> bool:
        return bool(self.captions or self.questions)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The items of a part, what was done to them that the user should know, and the names of classes, if it has them.

    left_out: how many more items are in the data.
    """

    items: Sequence[Item]
    left_out: int = 0
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some items of a folder that are read together: `load` is called once, when they are needed.

    split: the split that the name of its files states, in the data's own word; "" where the items state it, or nothing.
    """

    files: tuple[Path, ...]  # while their sizes and times stay, so does what `load` returns
    load: Callable[[], Loaded]
    split: str = ""
    has_texts: bool = True  # False: files that hold no answers or captions, as of hidden test sets
    images: bool = False  # whether its images are files that lie about in the folder


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder as it was asked for: for which task, with which options.

    films: whether captions are of films (the task "video"); only: of a published set, what its data files' names match.
    """

    folder: Path
    task: str
    address: Address = field(default_factory=lambda: Address(name=""))
    films: bool = False
    only: str = ""

    @property
    def where(self) -> str:
        """What the place is called in messages: the folder, or the data set on the hub of which it holds a copy."""
        return self.address.name if self.address.on_hub else str(self.folder)

    @property
    def name(self) -> str:
        """A short name: the last part of the folder's, or of the data set's on the hub."""
        return self.address.name.rpartition("/")[2] if self.address.on_hub else self.folder.resolve().name

    @cached_property
    def images(self) -> ImageFiles:
        """The image files, or films, in the folder and in the further one that was named."""
        more = Path(self.address.images).expanduser() if self.address.images else None
        if more is not None and not more.is_dir():
            raise GitbenchError(f"the folder of images {more} does not exist: check the path")
        return ImageFiles([self.folder, *([more] if more else [])], self.films)

    def item(self, name: str, where: str, split: str, **texts: Any) -> Item:
        """Return an image that is known by a name, which is its id, and with its splits are divided; `texts` as in `Item`."""
        return Item(
            image_id=name, where=where, picture=self.picture(name, split), key=name.encode(), split=split, **texts
        )

    def picture(self, name: str | int, split: str, subfolder: str = "") -> NamedPicture:
        """Return an image that is a file, to be found when it is needed; `split` in the data's own word."""
        return NamedPicture(self.images, name, split_of(split), subfolder)


@contextlib.contextmanager
def taken_for(path: Path, what: str, needs: str) -> Iterator[None]:
    """Turn what goes wrong where a file is taken apart into one line: it is not `what`, which needs `needs`."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise GitbenchError(f"{path} is not {what} ({reason}): it needs {needs}") from None


def read_texts_file(path: Path) -> Any:
    """Return the content of a JSON file, with or without a byte order mark. Errors: GitbenchError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1 and error.colno == 1:
            fix = "an object a line: call it .jsonl, or write a list of these"
            raise GitbenchError(f"{path} is no JSON but {fix}") from None
        raise GitbenchError(f"{path} is not whole JSON ({error}): write it again") from None
    except FileNotFoundError:
        raise GitbenchError(f"{path} is missing: add it") from None
    except (ValueError, RecursionError):
        raise GitbenchError(f"{path} is not whole JSON: write it again") from None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, stripped, with or without a byte order mark. Errors: GitbenchError.

    Lines end in a line feed: captions may hold other characters that Python takes for an end.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise GitbenchError(f"{path} cannot be read ({reason}): check the file") from None


def is_hidden(path: Path, more: Sequence[str] = ()) -> bool:
    """Tell whether a JSON file has neither captions nor answers in it, as those of hidden test sets; `more` names of these."""
    status = path.stat()
    return _is_hidden(path, status.st_size, status.st_mtime_ns, tuple(more))


@lru_cache(maxsize=64)
def _is_hidden(path: Path, size: int, changed: int, more: tuple[str, ...]) -> bool:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    known = ("caption", "captions", "caption_str", "raw", "answer", "answers", *map(re.escape, more))
    return not re.search(rf'"({"|".join(known)})"\s*:', text)


def sole(place: Place, paths: Sequence[Path], hold: str = "hold captions of the same images") -> Path:
    """Return the one file of a split. Errors: several, which `hold` the same."""
    if len(paths) > 1:
        names = " and ".join(str(path.relative_to(place.folder)) for path in paths)
        raise GitbenchError(f"{place.folder}: {names} {hold}: leave one")
    return paths[0]


def file_parts(
    place: Place,
    files: Mapping[str, Sequence[Path]],
    load: Callable[[Place, Path, str], Loaded],
    hold: str = "hold captions of the same images",
    withheld: bool = False,
) -> list[Part]:
    """Return a part for the one file of each split; `files`: split word -> files, of which several `hold` the same.

    withheld: whether a test file may have no texts in it.
    """
    found = []
    for split, paths in files.items():
        path = sole(place, paths, hold)
        hidden = withheld and split_of(split) == "test" and is_hidden(path)
        task = partial(load, place, path, split)
        found.append(Part(files=(path,), load=task, split=split, has_texts=not hidden, images=True))
    return found


def listing(folder: Path, most: int = 8) -> str:
    """Name what lies in a folder, for error messages."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return shown or "nothing"


def beside_images(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted, without image files, of which there may be a hundred thousand."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() not in SUFFIXES)


def first_of_list(path: Path) -> dict[str, Any] | None:
    """Return the first object of a JSON file that is a list of objects, and no other kind of file."""
    if path.suffix != ".json":
        return None
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(_PEEK).lstrip()
        found = json.JSONDecoder().raw_decode(text[1:].lstrip())[0] if text.startswith("[") else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def split_files(place: Place, fits: Callable[[Path], str | None]) -> dict[str, list[Path]]:
    """Return split word -> files of a folder, its `annotations/` and its `data/`, sorted; `fits` gives a file's word."""
    folder = place.folder
    found: dict[str, list[Path]] = {}
    below = [path for path in beside_images(folder) if path.name.lower() in HOMES]  # as VizWiz has them
    for home in (folder, *(path for path in below if path.is_dir())):
        for path in beside_images(home):
            named = not place.only or re.fullmatch(place.only, path.name)
            if named and path.is_file() and (word := fits(path)) is not None:
                found.setdefault(word, []).append(path)
    return found
