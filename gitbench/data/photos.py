"""Photographs with texts by people: one split of a folder, whatever reader reads it.

Opening a folder only looks at file names; texts are read on first use, images when they are asked for.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from gitbench.data.base import SPLITS, Example, clean_caption, content_hash
from gitbench.data.cache import cached
from gitbench.data.collection import Collection
from gitbench.data.films import film_frames
from gitbench.data.image_files import NamedPicture
from gitbench.data.items import Item
from gitbench.data.pictures import Missing, decode_image
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, read_json, write_json

FINGERPRINT_VERSION = 2  # raise when the same files would give other texts or pixels


class PhotoSource:
    """One split of a folder of photographs with captions, or with what the task has for texts."""

    def __init__(self, collection: Collection, split: str, limit: int | None):
        self.collection, self.split, self.limit = collection, split, limit
        self.folder = collection.place.folder
        self.name, self.where = collection.place.name, f"{collection.where} ({split})"
        self.task = collection.place.task

    @cached_property
    def rows(self) -> list[Item]:
        rows = self.collection.items(self.split)
        if not rows:
            holds = "questions" if self.task == "vqa" else "captions" if self.task == "caption" else "labels"
            raise GitbenchError(f"{self.where} holds no images with {holds}: fill the split or pass other data")
        names = (item.image_id or f"{self.split}-{number}" for number, item in enumerate(rows))
        rows = [dataclasses.replace(item, image_id=name) for item, name in zip(rows, names, strict=True)]
        if (
            self.limit is not None and self.task == "classify"
        ):  # data are often sorted by class: the first may be of one
            rows.sort(key=lambda row: content_hash([str(row.image_id)]))
        return rows[: self.limit]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the data that the user should know: how splits were made, what was left out."""
        return self.collection.notes(self.split)

    def __len__(self) -> int:
        return len(self.rows)

    def image_id(self, index: int) -> str:
        return str(self.rows[index].image_id)

    def example(self, index: int) -> Example:
        """Return the cleaned texts of an item. Errors: an image without one, an empty one."""
        row = self.rows[index]
        if not row.has_texts:
            raise GitbenchError(f"{row.where}: the image has no caption: add one or remove the row")
        what = "caption" if self.task in ("caption", "vqa") else "text" if self.task == "read" else "label"
        captions = tuple(clean_caption(text, row.where, what) for text in row.captions)
        return Example(image_id=self.image_id(index), captions=captions, questions=row.questions)

    @property
    def moving(self) -> bool:
        """Tell whether it is a split of films."""
        return self.collection.place.films and bool(self.collection.place.images.paths)

    def image(self, index: int) -> np.ndarray:
        """Decode an image, turned upright, or the middle frame of a film: uint8 (H, W, 3), RGB."""
        if self.collection.place.films:
            return self.frames(index, 1)[0]
        return decode_image(self.raw_image(index), self.rows[index].where)

    def stored_image(self, index: int) -> np.ndarray:
        """Decode an image as it is stored, whatever its EXIF orientation: uint8 (H, W, 3), RGB."""
        return decode_image(self.raw_image(index), self.rows[index].where, upright=False)

    def frames(self, index: int, count: int) -> np.ndarray:
        """Decode equally spaced frames of a film: uint8 (count, H, W, 3), RGB. Errors: an item that is no film."""
        row = self.rows[index]
        return film_frames(_film(row).path(row.where), count, row.where)

    def raw_image(self, index: int) -> bytes:
        """Return the bytes of an image file. Errors: a missing one."""
        return self.rows[index].picture.read(self.rows[index].where)

    def labels(self) -> set[str]:
        """Return the labels of the split, for the tasks "read" and "classify": all names of classes, else those that occur."""
        names = [self.collection.class_names(number) for number in self.collection.numbers(self.split)]
        told = {clean_caption(name, self.where, "class name") for each in names for name in each or ()}
        return told or {self.example(index).captions[0] for index in range(len(self))}

    def check(self) -> None:
        """Read every text and id, and see that every image file is there; what is in it is checked when it is decoded."""
        for index in range(len(self)):
            self.example(index)
        absent: list[Missing] = []
        for row in self.rows:
            try:
                (_film(row) if self.collection.place.films else row.picture).check(row.where)
            except Missing as error:
                absent.append(error)
        if len(absent) > 1:
            raise Missing(
                f"{absent[0]} ({len(absent):,} of {len(self):,} {self.collection.place.images.kind}s are missing)"
            )
        if absent:
            raise absent[0]
        ids = ((self.image_id(index), row.where) for index, row in enumerate(self.rows))
        refuse_repeats(ids, "image id", "put all captions of an image into one row")
        asked = ((question.question_id, row.where) for row in self.rows for question in row.questions)
        refuse_repeats(asked, "question id", "give every question its own")

    # ---- fingerprint ---------------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """Hash ids, cleaned texts and image bytes of all rows in use; cached by the files' paths, sizes and times."""
        return self._hashes[0]

    def image_hashes(self) -> Counter[str]:
        """Return how often each image occurs, by a hash of its bytes."""
        return Counter(self._hashes[1])

    @cached_property
    def _hashes(self) -> tuple[str, list[str]]:
        address = dataclasses.replace(self.collection.place.address, name=str(self.folder.resolve()))
        parts = [str(FINGERPRINT_VERSION), self.task, self.split, str(self.limit), str(address)]
        parts += [self.collection.takes_for, self.collection.state(self.split)]
        path = cache_dir() / "fingerprints" / f"{content_hash(parts)}.json"
        images: list[str] = []

        def content() -> Iterable[str | bytes]:
            yield str(FINGERPRINT_VERSION)
            for index in range(len(self)):
                yield self.image_id(index)
                yield from _texts(self.example(index))
                data = self.raw_image(index)
                images.append(content_hash([data])[:16])
                yield data

        def save(temporary: Path) -> None:
            images.clear()
            write_json(temporary, {"fingerprint": content_hash(content()), "images": images})

        def load(path: Path) -> tuple[str, list[str]]:
            found = read_json(path)
            return found["fingerprint"], found["images"]

        return cached(path, save, load)


def _film(row: Item) -> NamedPicture:
    """Return an item's film. Errors: an image in a table or an archive."""
    if not isinstance(row.picture, NamedPicture):
        raise GitbenchError(f"{row.where} is no film in a file of its own, which --task video needs: pass other data")
    return row.picture


def _texts(example: Example) -> Iterable[str]:
    yield from example.captions
    for question in example.questions:
        yield from (question.question_id, question.text, question.answer, *question.answers)


def refuse_repeats(ids: Iterable[tuple[str, str]], what: str, fix: str) -> None:
    """Refuse an id that two places of the data have; each id comes with its place."""
    seen: dict[str, str] = {}
    for name, where in ids:
        if name in seen:
            raise GitbenchError(f"{where}: {what} '{name}' already used at {seen[name]}: {fix}")
        seen[name] = where


def shared_images(sources: Sequence[Any]) -> list[str]:
    """Return what is to be said about images that two splits share; byte for byte. Errors: a test that is all in train.

    Sources that are no photographs have nothing to say.
    """
    found = {source.split: source.image_hashes() for source in sources if hasattr(source, "image_hashes")}
    said = []
    for one, other in combinations([split for split in SPLITS if split in found], 2):
        count = sum((found[other] & Counter(dict.fromkeys(found[one], len(found[other])))).values())
        whole = sum(found[other].values())
        if not count:
            continue
        if (one, other) == ("train", "test") and count == whole:
            raise GitbenchError(
                f"all {whole} images of test are in train too: nothing is held out; give test its own images"
            )
        said.append(f"{count} of the {whole} images of {other} are in {one} too")
    return said
