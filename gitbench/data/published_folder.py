"""A folder read as one of the published sets, see `published`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import partial

from gitbench.data.collection import Collection
from gitbench.data.items import Loaded, Part, Place, listing
from gitbench.data.published import published_set
from gitbench.data.readers import readers
from gitbench.data.splits import split_of
from gitbench.errors import GitbenchError


def open_published(place: Place) -> Collection:
    """Open a folder as a published set. Errors: another task, options that the set leaves no choice for, other files."""
    name = place.address.published
    known = published_set(name)
    task = "video" if place.films else place.task
    if task != known.task:
        raise GitbenchError(
            f"{name} is for --task {known.task}, not {task}: pass that, or the folder without '{name}:'"
        )
    if place.address.split or place.address.columns:
        fix = "pass the folder without it to choose otherwise"
        raise GitbenchError(f"{name} has splits and texts of its own, so --split and --columns mean nothing: {fix}")
    reader = readers()[known.reader]
    place = dataclasses.replace(place, only=known.files)
    if not place.folder.is_dir() or not reader.fits(place):
        found = listing(place.folder) if place.folder.is_dir() else "no folder"
        raise GitbenchError(f"{place.folder} is not {name}: it needs {known.needs}; found: {found}")
    parts = [dataclasses.replace(part, load=partial(_of_domain, part, known.domain)) for part in reader.parts(place)]
    return PublishedCollection(place, parts, name)


class PublishedCollection(Collection):
    """A folder that holds a published set: it also says where its splits are not of the published size."""

    def notes(self, split: str) -> tuple[str, ...]:
        known, found = published_set(self.takes_for), Counter[str]()
        for number in self.numbers(split):
            part, loaded = self.parts[number], self.load(number)
            for item in loaded.items:
                stated = split_of(part.split or item.split) or ""
                found[stated] += len(item.questions) if known.counted == "questions" else 1
            found[split_of(part.split) or ""] += loaded.left_out
        used = {split_of(word) for word in self.take(split).stated}
        said = [_difference(self.takes_for, each, found[each]) for each in known.counts if each in used]
        return (*super().notes(split), *filter(None, said))


def _difference(name: str, split: str, found: int) -> str:
    """Return what is to be said of a split's size; "" where it is as published."""
    known = published_set(name)
    published = known.counts[split]
    if found == published:
        return ""
    said = "a part of it" if found < published else "more than it has"
    return f"{found:,} of the {published:,} {known.counted} of {name}'s {split}: {said}"


def _of_domain(part: Part, domain: str) -> Loaded:
    """Return the items of a part that are of a domain; "" for all. Errors: a part without one."""
    loaded = part.load()
    items = [item for item in loaded.items if item.domain == domain] if domain else loaded.items
    if loaded.items and not items:
        raise GitbenchError(f"{part.files[0]} has no {domain} images: their domains are not in it")
    return dataclasses.replace(loaded, items=items)
