"""What data folders have in common: photographs in files, captions by people, and everything that can be wrong there.

Opening a folder only looks at file names; captions are read on first use, images when they are asked for. Each fault
of the data becomes one line that names file and row and the fix.
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

import numpy as np
from PIL import Image

from gitbench.data.base import SPLITS, Example, clean_caption, content_hash, used_length
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, read_json, write_json

FINGERPRINT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """An image's id and its captions (or its one label) as they stand in the file."""

    image_id: str
    captions: tuple[object, ...]
    where: str  # for error messages: file and row


class PhotoSource(ABC):
    """One split of a folder of photographs with captions, or with other texts in the classes built on this one."""

    holds = "captions"

    def __init__(self, folder: Path, split: str, limit: int | None):
        self.folder, self.split, self.limit = folder, split, limit
        self.name = folder.resolve().name

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
        what = f"{self.folder} ({self.split})"
        if not rows:
            raise GitbenchError(f"{what} holds no images with {self.holds}: fill the split or pass other data")
        return rows[: used_length(len(rows), self.limit, what)]

    def __len__(self) -> int:
        return len(self.rows)

    def image_id(self, index: int) -> str:
        return self.rows[index].image_id

    def example(self, index: int) -> Example:
        """Return the cleaned captions of an item."""
        row = self.rows[index]
        if not row.captions:
            raise GitbenchError(f"{row.where}: the image has no caption: add one or remove the row")
        return Example(image_id=row.image_id, captions=tuple(clean_caption(text, row.where) for text in row.captions))

    def texts_to_hash(self, index: int) -> Iterable[str]:
        """Return the cleaned texts of an item that enter the fingerprint."""
        return self.example(index).captions

    def image(self, index: int) -> np.ndarray:
        """Decode an image: uint8 (H, W, 3), RGB."""
        return decode_image(self.raw_image(index), self.rows[index].where)

    def check(self) -> None:
        """Read every caption and id; images are checked when they are decoded."""
        seen: dict[str, str] = {}
        for index, row in enumerate(self.rows):
            self.example(index)
            if row.image_id in seen:
                text = f"{row.where}: image id '{row.image_id}' already used at {seen[row.image_id]}"
                raise GitbenchError(f"{text}: put all captions of an image into one row")
            seen[row.image_id] = row.where

    def fingerprint(self) -> str:
        """Hash ids, cleaned captions and image bytes of all rows in use.

        Remembered in the cache under the files' paths, sizes and times, so that it is not computed again each time.
        """
        if self._fingerprint is None:
            self._fingerprint = self._remembered() or self._computed()
        return self._fingerprint

    _fingerprint: str | None = None

    def _memory(self) -> Path:
        parts = [str(FINGERPRINT_VERSION), self.split, str(self.limit), str(self.folder.resolve())]
        parts += [] if self.holds == "captions" else [self.holds]  # one file can hold captions and labels
        for file in sorted(self.files()):
            status = file.stat()
            parts += [str(file.resolve()), str(status.st_size), str(status.st_mtime_ns)]
        return cache_dir() / "fingerprints" / f"{content_hash(parts)}.json"

    def _remembered(self) -> str | None:
        path = self._memory()
        if not path.is_file():
            return None
        try:
            value = read_json(path)
        except GitbenchError:
            return None  # damaged: computed again
        return value.get("fingerprint") if isinstance(value, dict) else None

    def _computed(self) -> str:
        def parts() -> Iterable[str | bytes]:
            yield str(FINGERPRINT_VERSION)
            for index in range(len(self)):
                yield self.image_id(index)
                yield from self.texts_to_hash(index)
                yield self.raw_image(index)

        fingerprint = content_hash(parts())
        try:
            write_json(self._memory(), {"fingerprint": fingerprint, "folder": str(self.folder), "split": self.split})
        except (GitbenchError, OSError):
            return fingerprint  # a cache that cannot be written only costs time
        return fingerprint


def decode_image(data: bytes, where: str) -> np.ndarray:
    """Decode an image file to uint8 (H, W, 3), RGB; what cannot be decoded is an error that names its place."""
    fix = "replace or remove it"
    if not data:
        raise GitbenchError(f"{where}: the image is empty (0 bytes): {fix}")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            pixels = np.asarray(opened.convert("RGB"))
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error and more on damaged files
        too_large = isinstance(error, Image.DecompressionBombError)
        reason = "too large" if too_large else "cut short" if "truncated" in str(error) else "unreadable"
        raise GitbenchError(f"{where}: the image is {reason}: {fix}") from None
    if pixels.size == 0:
        raise GitbenchError(f"{where}: the image has no pixels ({pixels.shape[1]} x {pixels.shape[0]}): {fix}")
    return pixels


def read_image_file(path: Path, where: str) -> bytes:
    """Return the bytes of an image file; a missing one is an error that names the row that wants it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise GitbenchError(f"{where}: image {path} is missing: add it or remove its row") from None
    except OSError as error:
        raise GitbenchError(f"{where}: image {path} cannot be read ({error.strerror}): check the file") from None


def image_folders(folder: Path) -> list[Path]:
    """Return where images are looked for: `images/`, its subfolders by name, and the folder itself."""
    images = folder / "images"
    below = sorted(path for path in images.iterdir() if path.is_dir()) if images.is_dir() else []
    return [images, *below, folder]


def split_by_hash(key: bytes) -> str:
    """Return the split of an image by its name or bytes: about 80 % train, 10 % val, 10 % test; adding moves none."""
    share = hashlib.sha256(key).digest()[0] / 256
    return "train" if share < 0.8 else "val" if share < 0.9 else "test"


def divided(keys: Iterable[bytes], where: str) -> dict[bytes, str]:
    """Divide images by `split_by_hash`, whatever their order; where a split is empty the largest one gives it an image."""
    ordered = sorted(set(keys), key=lambda key: hashlib.sha256(key).digest())
    if len(ordered) < len(SPLITS):
        raise GitbenchError(f"{where}: {len(ordered)} images cannot be divided into train, val and test: add images")
    splits = {key: split_by_hash(key) for key in ordered}
    for split in SPLITS:
        if split not in splits.values():
            largest = Counter(splits.values()).most_common(1)[0][0]
            splits[[key for key in ordered if splits[key] == largest][-1]] = split
    return splits


def files_below(folder: Path) -> list[Path]:
    """Return all files of a folder tree, without following it out of the folder by name."""
    return [Path(base) / name for base, _, names in os.walk(folder, followlinks=True) for name in names]
