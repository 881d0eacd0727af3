"""Folders of classes: `train/cat/1.jpg`, or `cat/1.jpg`, which is divided. The label is the folder's name.

All images lie equally deep. A folder that holds tables is no such folder: they say what an image is.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from gitbench.data.items import Item, Loaded, Part, Place, beside_images
from gitbench.data.splits import split_in
from gitbench.errors import GitbenchError

NEEDS = {"classify": "a folder of images for every class, alone or in train/, val/ and test/"}
_TABLES = frozenset((".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".mat", ".tar"))


def fits(place: Place) -> bool:
    homes = [place.folder, *(path for path in beside_images(place.folder) if path.is_dir())]
    tables = (name for home in homes for name in os.listdir(home) if os.path.splitext(name)[1] in _TABLES)
    return next(tables, None) is None and len(_classes(place)) > 1


def parts(place: Place) -> list[Part]:
    depth = 3 if _splits(place) else 2
    for path in place.images.paths:
        if (depth_of := len(_below(place, path))) != depth:
            expected = "SPLIT/CLASS/FILE" if depth == 3 else "CLASS/FILE"
            raise GitbenchError(
                f"{path} lies {'deeper' if depth_of > depth else 'less deep'} than the folders of classes, {expected}: "
                "move it into one, or away"
            )
    classes = tuple(_classes(place))
    return [
        Part(files=(), load=partial(_load, place, split, classes), split=split, images=True)
        for split in _splits(place) or [""]
    ]


def _below(place: Place, path: Path) -> tuple[str, ...]:
    """Return the folders and the name of an image below the one that was named first."""
    folder = next(folder for folder in place.images.folders if path.is_relative_to(folder))
    return path.relative_to(folder).parts


def _splits(place: Place) -> list[str]:
    """Return the folders of splits; [] where the first folders are classes, be one called `train` among them."""
    found = [_below(place, path) for path in place.images.paths]
    first = sorted({parts[0] for parts in found if len(parts) > 1})
    return first if all(map(split_in, first)) else []


def _classes(place: Place) -> list[str]:
    """Return the names of all classes, sorted."""
    at = 1 if _splits(place) else 0
    found = (_below(place, path) for path in place.images.paths)
    return sorted({parts[at] for parts in found if len(parts) == at + 2})


def _load(place: Place, split: str, classes: tuple[str, ...]) -> Loaded:
    items = []
    for path in place.images.paths:
        *above, label, name = _below(place, path)
        if above == ([split] if split else []):
            own = f"{label}/{name}"
            picture = place.picture(str(path.absolute()), split)
            items.append(Item(image_id=own, captions=(label,), where=str(path), picture=picture, key=own.encode()))
    return Loaded(items=items, class_names=classes)
