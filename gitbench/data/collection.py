"""A folder seen through a reader: what there is to read, and how train, val and test are made of it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from functools import cached_property

from gitbench.data.base import content_hash
from gitbench.data.items import Item, Loaded, Part, Place, listing
from gitbench.data.splits import Division, Take, divided, division, split_of
from gitbench.errors import GitbenchError
from gitbench.files import explain_unreadable


class Collection:
    """A folder seen through a reader: its parts, and how they become train, val and test."""

    def __init__(self, place: Place, parts: Sequence[Part], takes_for: str):
        by_column = "split" in place.address.columns  # and not by the names of files
        self.parts = [dataclasses.replace(part, split="") for part in parts] if by_column else parts
        self.place, self.takes_for = place, takes_for
        self.where = place.where

    @cached_property
    def _loaded(self) -> dict[int, Loaded]:
        return {}

    @cached_property
    def _states(self) -> dict[tuple[int, ...], str]:
        return {}

    def load(self, number: int) -> Loaded:
        """Read a part, once. Errors: images that state another split than the name of their file."""
        if number not in self._loaded:
            part = self.parts[number]
            with explain_unreadable():
                loaded = part.load()
            named, stated = split_of(part.split), {item.split for item in loaded.items}
            others = {word for word in stated if split_of(word) not in (None, named)}
            if named and others and not self.place.address.split:
                item = next(item for item in loaded.items if item.split in others)
                text = f"{item.where} states the split {item.split}, and its file is named after {part.split}"
                fix = f"pass --split {named}={part.split},... to go by files, or --columns split=NAME"
                raise GitbenchError(f"{text}: {fix}")
            self._loaded[number] = loaded
        return self._loaded[number]

    @cached_property
    def by_file(self) -> bool:
        """Tell whether the names of files state the splits; else their items do, or nothing does."""
        named = [part for part in self.parts if part.split]
        if named and len(named) < len(self.parts):
            other = next(part for part in self.parts if not part.split)
            raise GitbenchError(
                f"{self.where}: {named[0].files[0].name} is named after a split and {other.files[0].name} is not: leave "
                "files of one kind"
            )
        return bool(named)

    @cached_property
    def division(self) -> Division:
        """How train, val and test are made."""
        stated: dict[str, bool] = {}
        if self.by_file:
            for part in self.parts:
                stated[part.split] = stated.get(part.split, False) or part.has_texts
        else:
            for number in range(len(self.parts)):
                for item in self.load(number).items:
                    stated[item.split] = stated.get(item.split, False) or item.has_texts
        return division(stated, self.place.address.split, self.where) if stated else Division(takes={})

    def take(self, split: str) -> Take:
        """Return what becomes a split. Errors: GitbenchError where there is nothing for it."""
        if split not in self.division.takes:
            stated = sorted({part.split for part in self.parts} - {""})
            found = f"files of {', '.join(stated)}" if stated else listing(self.place.folder)
            raise GitbenchError(
                f"{self.where} has no {split} split: add one, or say with --split which is; found: {found}"
            )
        return self.division.takes[split]

    def numbers(self, split: str) -> list[int]:
        """Return which parts a split is made of."""
        if not self.by_file:
            return list(range(len(self.parts)))
        stated = self.take(split).stated
        return [number for number, part in enumerate(self.parts) if part.split in stated]

    def class_names(self, number: int) -> tuple[str, ...] | None:
        """Return the names of the classes that a part tells; None where its texts are all there is."""
        return self.load(number).class_names

    def items(self, split: str) -> list[Item]:
        """Return the items of a split, in the order of the data."""
        numbers = self.numbers(split)
        found = [
            dataclasses.replace(item, split=self.parts[number].split or item.split)
            for number in numbers
            for item in self.load(number).items
        ]
        if not found:
            return []
        take = self.take(split)
        found = [item for item in found if item.split in take.stated]
        if take.shares is None:
            return found
        digests = [hashlib.sha256(item.key or item.picture.read(item.where)).digest() for item in found]
        splits = divided(digests, self.where, take.shares)
        return [item for item, digest in zip(found, digests, strict=True) if splits[digest] == take.own]

    def notes(self, split: str) -> tuple[str, ...]:
        """Return what was done to a split's data that the user should know."""
        notes = [note for number in self.numbers(split) for note in self.load(number).notes]
        return tuple(dict.fromkeys([*filter(None, [self.division.note]), *notes]))

    def state(self, split: str) -> str:
        """Return a hash of the paths, sizes and times of every file that a split may depend on."""
        numbers = tuple(self.numbers(split))
        if numbers not in self._states:  # splits are often made of the same parts, with a hundred thousand files
            self._states[numbers] = self._state([self.parts[number] for number in numbers])
        return self._states[numbers]

    def _state(self, parts: Sequence[Part]) -> str:
        images = self.place.images.paths if any(part.images for part in parts) else []
        found: list[str] = []
        for file in sorted([*(file for part in parts for file in part.files), *images]):
            status = file.stat() if file.exists() else file.lstat()  # of a link to nothing
            found += [os.path.realpath(file), str(status.st_size), str(status.st_mtime_ns)]
        return content_hash(found)
