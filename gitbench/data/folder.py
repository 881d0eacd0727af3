"""A path given as `--data`: find the reader whose layout the folder has, and open the split asked for."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import gitbench.data.readers as package
from gitbench.data.base import Source
from gitbench.data.photos import listing
from gitbench.errors import GitbenchError


@lru_cache(maxsize=1)
def readers() -> dict[str, Any]:
    """Return the modules in `gitbench.data.readers` by name; that package says what a reader offers."""
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return {name: importlib.import_module(f"{package.__name__}.{name}") for name in names}


def open_folder(folder: Path, split: str, limit: int | None = None, task: str = "caption") -> Source:
    """Open a split of a folder for a task.

    Errors: a folder whose layout no reader of the task knows, or more than one; a split that is not there.
    """
    if not folder.is_dir():
        raise GitbenchError(f"{folder} is not a folder: pass the folder with the Parquet shards or COCO files")
    able = {name: reader for name, reader in readers().items() if task in reader.NEEDS}
    fitting = [name for name, reader in able.items() if reader.fits(folder, task)]
    if len(fitting) > 1:
        text = f"{folder} can be read in several ways ({', '.join(fitting)}): leave the files of one of these layouts"
        raise GitbenchError(f"{text}; found: {listing(folder)}")
    if fitting:
        return able[fitting[0]].open_split(folder, split, limit, task)
    needs = ", or ".join(reader.NEEDS[task] for reader in able.values())
    others = {other for reader in readers().values() for other in reader.NEEDS if reader.fits(folder, other)}
    hint = f" (what is there may suit --task {' or '.join(sorted(others))})" if others else ""
    raise GitbenchError(f"{folder} holds nothing for --task {task}{hint}: add {needs}; found: {listing(folder)}")
