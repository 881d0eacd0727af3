"""Where the bytes of an image lie, and how they become pixels."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from gitbench.errors import GitbenchError

# Endings that image files have; others are not looked at when images are searched by name.
SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".jp2",
        ".avif",
    )
)
_MOST_16 = 65535
_END = 64  # bytes


class Missing(GitbenchError):
    """An image that the data name is not there."""


class Picture(Protocol):
    """An image as it is stored. Errors of both: GitbenchError that names `where`, the row that wants it."""

    def read(self, where: str) -> bytes:
        """Return the bytes of the image file."""

    def check(self, where: str) -> None:
        """Raise if the image is not there, as far as that shows without reading it."""

    def mark(self, where: str) -> object:
        """Return what tells the image from most others, without reading it whole where that can be avoided."""


@dataclass(frozen=True)
class MemberPicture:
    """An image inside an uncompressed archive: `size` bytes from `offset`."""

    archive: Path
    offset: int
    size: int

    def read(self, where: str) -> bytes:
        try:
            with open(self.archive, "rb") as file:
                file.seek(self.offset)
                return file.read(self.size)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise GitbenchError(f"{where}: {self.archive} cannot be read ({reason}): check the file") from None

    def check(self, where: str) -> None:
        """The archive has been read."""

    def mark(self, where: str) -> object:
        return hashlib.sha256(self.read(where)).digest()


@dataclass(frozen=True)
class ImageColumn:
    """A column of a `datasets.Dataset` whose images are not decoded: bytes, or paths of files."""

    table: Any
    name: str

    @cached_property
    def marks(self) -> list[int]:
        """A hash of each image's length with its first and last bytes, or of its path.

        Where pixels differ, so do the ends of a JPEG or PNG (its checksum). What lies between is not read.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        values = self.table.select_columns([self.name]).with_format("arrow")[:][self.name]
        paths: list[Any] = [None] * len(values)
        if pa.types.is_struct(values.type):
            if values.type.get_field_index("path") >= 0:
                paths = pc.struct_field(values, "path").to_pylist()
            values = pc.struct_field(values, "bytes")
        ends = (pc.binary_slice(values, 0, _END), pc.binary_slice(values, -_END, None))
        columns = (pc.binary_length(values).to_pylist(), *(end.to_pylist() for end in ends))
        return [
            hash(path if mark[0] is None else mark)
            for path, mark in zip(paths, zip(*columns, strict=True), strict=True)
        ]


@dataclass(frozen=True)
class TablePicture:
    """An image in a column of images."""

    column: ImageColumn
    row: int
    named: Callable[[str], Picture]  # finds an image file

    def read(self, where: str) -> bytes:
        value = self.column.table[self.row][self.column.name]
        if isinstance(value, dict):
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str) or not value:
            raise GitbenchError(f"{where}: there is no image: add it or remove the row")
        return self.named(value).read(where)

    def check(self, where: str) -> None:
        """The table has been read, and is not read a second time for this."""

    def mark(self, where: str) -> object:
        return self.column.marks[self.row]


def read_image_file(path: Path, where: str) -> bytes:
    """Return the bytes of an image file. Errors: a missing or unreadable one, with the row that wants it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Missing(f"{where}: image {path} is missing: add it or remove its row") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise GitbenchError(f"{where}: image {path} cannot be read ({reason}): check the file") from None


def decode_image(data: bytes, where: str, upright: bool = True) -> np.ndarray:
    """Decode an image file to uint8 (H, W, 3), RGB; what cannot be decoded is an error that names its place.

    upright: turned as its EXIF orientation says, as `datasets.Image` and transformers do; False leaves it as it is
    stored, as the official code does. Grey images of 16 bits, and of floats from 0 to 1, are scaled to 8 bits.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = _eight_bits(opened, where)
            picture = ImageOps.exif_transpose(picture) if upright else picture
            pixels = np.asarray(picture.convert("RGB"))
        reason = "" if pixels.size else "without pixels"
    except GitbenchError:
        raise
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error and more on damaged files
        too_large = isinstance(error, Image.DecompressionBombError)
        reason = "too large" if too_large else "cut short" if "truncated" in str(error) else "unreadable"
    if reason:
        raise GitbenchError(f"{where}: the image is {reason if data else 'empty (0 bytes)'}: replace or remove it")
    return pixels


def _eight_bits(picture: Image.Image, where: str) -> Image.Image:
    """Scale a grey image of more than 8 bits, which Pillow would clip: 16 bits by 1/257, floats from 0 to 1 by 255."""
    if picture.mode not in ("I", "F") and not picture.mode.startswith("I;16"):
        return picture
    values, top = np.asarray(picture, dtype=np.float64), 1 if picture.mode == "F" else _MOST_16
    within = not values.size or (np.isfinite(values).all() and values.min() >= 0 and values.max() <= top)
    if not within or (picture.mode == "I" and picture.format not in ("PNG", "PPM")):  # these two mean 16 bits by it
        kind = "floats beyond 0 to 1" if picture.mode == "F" else "whole numbers of 32 bits"
        raise GitbenchError(f"{where}: the image holds {kind}, whose white is unknown: store it with 8 or 16 bits")
    scaled = Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
    scaled.info.update(picture.info)  # which hold its orientation
    return scaled
