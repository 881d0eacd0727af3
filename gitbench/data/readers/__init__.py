"""Folders of data, one reader a layout: a module in this package, found by its file name. A reader has these names.

* `NEEDS`: for each task that it reads ("caption", "vqa", "read", "classify"), the files that a folder needs, in words; films
  with captions are read by whatever reads captions, and by what reads "video" alone;
* `fits(place) -> bool`: whether a folder has this layout for the task, judged by file names, and where those cannot tell by
  the first lines of a small file (see `items.Place`);
* `parts(place) -> list[Part]`: what there is to read, by files. Splits, ids, checks and fingerprints are the same for
  all readers (see `photos`);
* `COLUMNS = True`: only where it chooses columns, so that `--columns` means something.

One of your own is handed to `register`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from functools import lru_cache
from pathlib import Path
from typing import Any

from gitbench.data.collection import Collection
from gitbench.data.items import HOMES, Place, listing
from gitbench.errors import GitbenchError
from gitbench.files import explain_unreadable

COMMON = ("classes", "coco", "lists", "parquet", "questions")  # layouts that are named where a folder has none


class Nothing(GitbenchError):
    """A folder in which no reader finds anything for a task."""


@lru_cache(maxsize=1)
def readers() -> dict[str, Any]:
    """Return all readers by name: the modules of this package, and what is registered."""
    return {found.name: importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)}


def register(name: str, reader: Any) -> None:
    """Add a reader: a module, or any object with the three names. Errors: GitbenchError for a name that is taken."""
    if readers().setdefault(name, reader) is not reader:
        raise GitbenchError(f"there are two readers of folders called {name}: give one of them another name")


def open_folder(place: Place) -> Collection:
    """Open a folder for a task. Errors: a folder whose layout no reader of the task knows, or more than one."""
    with explain_unreadable():
        return _opened(place)


def _opened(place: Place) -> Collection:
    folder, task = place.folder, "video" if place.films else place.task
    if not folder.is_dir():
        raise GitbenchError(f"{folder} is not a folder: pass the folder in which it lies")
    able = {name: reader for name, reader in readers().items() if {task, place.task} & set(reader.NEEDS)}
    fitting = [name for name, reader in able.items() if reader.fits(place)]
    if len(fitting) > 1:
        text = f"{folder} can be read in several ways ({', '.join(fitting)}): leave the files of one of these layouts"
        raise GitbenchError(f"{text}; found: {listing(folder)}")
    if fitting:
        if place.address.columns and not getattr(able[fitting[0]], "COLUMNS", False):
            text = f"{folder} is taken for {fitting[0]}, a layout without columns to choose"
            raise GitbenchError(f"{text}: leave --columns out, or leave the files of another layout")
        return Collection(place, able[fitting[0]].parts(place), fitting[0])
    wanted = [reader.NEEDS.get(task) or reader.NEEDS[place.task] for name, reader in able.items() if name in COMMON]
    needs = ", or ".join([*wanted, "another layout of docs/own_data.md"])
    others = {
        other
        for reader in readers().values()
        for other in set(reader.NEEDS) - {task, place.task}
        if reader.fits(dataclasses.replace(place, task=other))
    }
    hint = f" (what is there may suit --task {' or '.join(sorted(others))})" if others else ""
    found = listing(folder)
    if deeper := _deeper(folder):
        found += (
            f"; not looked into: {', '.join(deeper)} (where texts are meant, move them up, named after their splits)"
        )
    raise Nothing(f"{folder} holds nothing for --task {task}{hint}: add {needs}; found: {found}")


def _deeper(folder: Path) -> list[str]:
    """Return the names of two files of texts that lie in folders below, where none is looked for."""
    below = [path for path in sorted(folder.glob("*/*")) if path.suffix in (".json", ".jsonl", ".csv", ".tsv")]
    return [path.relative_to(folder).as_posix() for path in below if path.parent.name.lower() not in HOMES][:2]
