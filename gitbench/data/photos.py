"""What the readers of folders share: photographs with texts by people, the split of one file, and what can be wrong.

Opening a folder only looks at file names; texts are read on first use, images when they are asked for.
"""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gitbench.data.base import SPLITS, Example, clean_caption, content_hash
from gitbench.data.cache import cached
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, load_json, read_json, write_json

FINGERPRINT_VERSION = 1
SPLIT_WORDS = {"train": ("train", "training"), "val": ("val", "validation", "valid", "dev"), "test": ("test",)}
SPLIT_OF = {word: split for split, words in SPLIT_WORDS.items() for word in words}


@dataclass(frozen=True, kw_only=True)
class Row:
    """An image's id and its texts (captions, a label, questions) as they stand in the file."""

    image_id: str
    texts: tuple[Any, ...]
    where: str  # for error messages: file and row
    file: str = ""  # name of the image file, where images are files
    subfolder: str = ""  # where the data say that it lies


class PhotoSource(ABC):
    """One split of a folder of photographs with captions, or with other texts where a subclass says so."""

    holds = "captions"  # or what else the texts are, for messages

    def __init__(self, folder: Path, split: str, limit: int | None):
        self.folder, self.split, self.limit = folder, split, limit
        self.name, self.where = folder.resolve().name, f"{folder} ({split})"

    @abstractmethod
    def load_rows(self) -> list[Row]:
        """Read all rows of the split; called once."""

    @abstractmethod
    def raw_image(self, index: int) -> bytes:
        """Return the bytes of an image file; a missing one raises GitbenchError."""

    @abstractmethod
    def files(self) -> Iterable[Path]:
        """Return every file the split may depend on: while their sizes and times stay, so does the fingerprint."""

    @cached_property
    def rows(self) -> list[Row]:
        rows = self.load_rows()
        if not rows:
            raise GitbenchError(f"{self.where} holds no images with {self.holds}: fill the split or pass other data")
        return rows[: self.limit]

    def __len__(self) -> int:
        return len(self.rows)

    def image_id(self, index: int) -> str:
        return self.rows[index].image_id

    def example(self, index: int) -> Example:
        """Return the cleaned captions of an item. Errors: an image without one, an empty one."""
        row = self.rows[index]
        if not row.texts:
            raise GitbenchError(f"{row.where}: the image has no caption: add one or remove the row")
        return Example(image_id=row.image_id, captions=tuple(clean_caption(text, row.where) for text in row.texts))

    def texts_to_hash(self, index: int) -> Iterable[str]:
        """Return the texts of an item that enter the fingerprint."""
        return self.example(index).captions

    def image(self, index: int) -> np.ndarray:
        """Decode an image: uint8 (H, W, 3), RGB."""
        return decode_image(self.raw_image(index), self.rows[index].where)

    def check(self) -> None:
        """Read every text and id; images are checked when they are decoded."""
        for index in range(len(self)):
            self.example(index)
        ids = ((row.image_id, row.where) for row in self.rows)
        refuse_repeats(ids, "image id", "put all captions of an image into one row")

    def fingerprint(self) -> str:
        """Hash ids, cleaned texts and image bytes of all rows in use; cached by the files' paths, sizes and times."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        parts = [str(FINGERPRINT_VERSION), self.split, str(self.limit), str(self.folder.resolve())]
        parts += [] if self.holds == "captions" else [self.holds]  # one file can hold captions and labels
        for file in sorted(self.files()):
            status = file.stat()
            parts += [str(file.resolve()), str(status.st_size), str(status.st_mtime_ns)]
        path = cache_dir() / "fingerprints" / f"{content_hash(parts)}.json"

        def content() -> Iterable[str | bytes]:
            yield str(FINGERPRINT_VERSION)
            for index in range(len(self)):
                yield self.image_id(index)
                yield from self.texts_to_hash(index)
                yield self.raw_image(index)

        def save(temporary: Path) -> None:
            write_json(temporary, {"fingerprint": content_hash(content())})

        return cached(path, save, lambda path: read_json(path)["fingerprint"])


class PhotoFileSource(PhotoSource):
    """A split whose texts stand in a JSON file and whose photographs are files, in `images/` or the folder itself.

    A folder without a file for the split (None) raises GitbenchError.
    """

    ending = ".json"  # of the file's name after the split's, for the message

    def __init__(self, folder: Path, split: str, limit: int | None, text_file: Path | None):
        super().__init__(folder, split, limit)
        if text_file is None:
            raise no_split(folder, split, f"{split}{self.ending}")
        self.text_file = text_file

    def files(self) -> Iterable[Path]:
        images = self.folder / "images"
        tree = os.walk(images if images.is_dir() else self.folder, followlinks=True)
        return [self.text_file, *(Path(base) / name for base, _, names in tree for name in names)]

    @cached_property
    def image_folders(self) -> list[Path]:
        """Where images are looked for: `images/`, its subfolders by name, and the folder itself."""
        images = self.folder / "images"
        below = sorted(path for path in images.iterdir() if path.is_dir()) if images.is_dir() else []
        return [images, *below, self.folder]

    def image_path(self, index: int) -> Path:
        """Return where an image lies; in `images/` if it lies nowhere."""
        row, images = self.rows[index], self.folder / "images"
        places = [images, images / row.subfolder, self.folder / row.subfolder, *self.image_folders]
        return next((place / row.file for place in places if (place / row.file).is_file()), images / row.file)

    def raw_image(self, index: int) -> bytes:
        return read_image_file(self.image_path(index), self.rows[index].where)

    def check(self) -> None:
        """Check texts and ids, and that every image file is there."""
        super().check()
        for index, row in enumerate(self.rows):
            path = self.image_path(index)
            if not path.is_file():
                raise _missing(path, row.where)


def refuse_repeats(ids: Iterable[tuple[str, str]], what: str, fix: str) -> None:
    """Refuse an id that two places of the data have; each id comes with its place."""
    seen: dict[str, str] = {}
    for name, where in ids:
        if name in seen:
            raise GitbenchError(f"{where}: {what} '{name}' already used at {seen[name]}: {fix}")
        seen[name] = where


def decode_image(data: bytes, where: str) -> np.ndarray:
    """Decode an image file to uint8 (H, W, 3), RGB; what cannot be decoded is an error that names its place."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        reason = "" if pixels.size else "without pixels"
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error and more on damaged files
        too_large = isinstance(error, Image.DecompressionBombError)
        reason = "too large" if too_large else "cut short" if "truncated" in str(error) else "unreadable"
    if reason:
        raise GitbenchError(f"{where}: the image is {reason if data else 'empty (0 bytes)'}: replace or remove it")
    return pixels


def read_image_file(path: Path, where: str) -> bytes:
    """Return the bytes of an image file; a missing one is an error that names the row that wants it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path, where) from None
    except OSError as error:
        raise GitbenchError(f"{where}: image {path} cannot be read ({error.strerror}): check the file") from None


def _missing(path: Path, where: str) -> GitbenchError:
    return GitbenchError(f"{where}: image {path} is missing: add it or remove its row")


# ---- files of texts and their splits ----------------------------------------------------------------------------


def split_file(folder: Path, split: str, patterns: tuple[str, ...]) -> Path | None:
    """Return the file of one split, in the folder or its `annotations/`: `{}` in a pattern stands for the split's name."""
    for place in (folder, folder / "annotations"):
        for word in SPLIT_WORDS[split]:
            for pattern in patterns:
                if found := sorted(place.glob(pattern.format(word))):
                    return found[-1]  # the newest year
    return None


def shared_file(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    """Return the file that holds all splits, in the folder or its `annotations/`."""
    found = (sorted(place.glob(one)) for place in (folder, folder / "annotations") for one in patterns)
    return next((files[0] for files in found if files), None)


def read_texts_file(path: Path) -> Any:
    content = load_json(path)
    if content is None:
        raise GitbenchError(f"{path} is missing or not whole JSON: write it again")
    return content


def no_split(folder: Path, split: str, wanted: str) -> GitbenchError:
    """Build the error for a folder that lacks a split: `wanted` names the file to add."""
    return GitbenchError(f"{folder} has no {split} split: add {wanted}; found: {listing(folder)}")


def listing(folder: Path, most: int = 8) -> str:
    """Name what lies in a folder, for error messages."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return shown or "nothing"


def divided(keys: Iterable[bytes], where: str) -> dict[bytes, str]:
    """Divide images by a hash of their names or bytes: about 80 % train, 10 % val, 10 % test; adding moves none.

    Where a split is empty the largest one gives it an image.
    """
    shares = {key: hashlib.sha256(key).digest() for key in keys}
    ordered = sorted(shares, key=shares.__getitem__)
    if len(ordered) < len(SPLITS):
        raise GitbenchError(f"{where}: {len(ordered)} images cannot be divided into train, val and test: add images")
    limits = {"train": 0.8, "val": 0.9, "test": 1}
    splits = {key: next(name for name in SPLITS if shares[key][0] / 256 < limits[name]) for key in ordered}
    for split in SPLITS:
        if split not in splits.values():
            largest = Counter(splits.values()).most_common(1)[0][0]
            splits[[key for key in ordered if splits[key] == largest][-1]] = split
    return splits
