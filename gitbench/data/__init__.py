"""Data: the embedded world `scenes`, data sets that a plugin registers, and folders of photographs with texts.

A data set is named by one string: a registered name, a folder's path or `hub:OWNER/NAME`, with options (see `address`). A name is
registered with `register`; a layout of folders is a file in `readers/`. Importing this package imports no torch
(`dataset` does).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

from gitbench.data.address import parse, resolved
from gitbench.data.base import PRETRAIN, SPLITS, Example, Source, content_hash
from gitbench.errors import GitbenchError, unknown_name
from gitbench.spec import DataSpec, TaskSpec

__all__ = [
    "CAPTIONS", "SPLITS", "Example", "Source", "content_hash", "data_label", "data_names", "limit_of", "on_scenes", "open_source",
    "pretrain_data", "read_once", "register", "resolved",
]  # fmt: skip

T = TypeVar("T")
OpenSplit = Callable[[str, str, int | None], Source]
CAPTIONS = TaskSpec()  # the task where none is named
_opened: dict[Hashable, object] | None = None  # what was opened in a block of `read_once`


def _open_scenes(name: str, split: str, limit: int | None) -> Source:
    from gitbench.data.scenes.world import Scenes

    return Scenes(name, split, limit)


WORLDS = ("scenes", "scenes-motion", "scenes-shifted")
_REGISTERED: dict[str, OpenSplit] = dict.fromkeys(WORLDS, _open_scenes)


def register(name: str, open_split: OpenSplit) -> None:
    """Give a data set a name in this process; `open_split(name, split, limit)` returns one split of it.

    Call it in a module that every process imports (a plugin). A name that is taken or unfit for file names is an error.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise GitbenchError(f"data set name '{name}': use letters, digits, '.', '_' and '-'")
    if _REGISTERED.setdefault(name, open_split) is not open_split:
        raise GitbenchError(f"the data set name '{name}' is taken: register yours under another one")


def data_names() -> tuple[str, ...]:
    return tuple(_REGISTERED)


def open_source(data: str, split: str, limit: int | None = None, task: str = "caption") -> Source:
    """Open a split ("train", "val", "test") of a data set: a registered name, a folder's path, or one on the hub.

    A limit takes the first items; it is an upper bound for folders and the size itself for computed data. The task's
    name says which files of a folder are meant; `tasks.open_task` also turns what they hold into the task's texts.
    """
    if split not in SPLITS and (data, split) != ("scenes", PRETRAIN):
        raise GitbenchError(f"unknown split '{split}': known: {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise GitbenchError(f"{data} ({split}): a limit of {limit} images leaves nothing: use at least 1")
    if data in _REGISTERED:
        return _REGISTERED[data](data, split, limit)
    address = parse(data)
    if address.name in _REGISTERED and not address.published:
        raise GitbenchError(f"{data}: {address.name} takes no options: leave out what follows the question mark")
    if address.on_hub:
        if task == "video":
            raise GitbenchError(f"{data}: films are read from a folder alone: download them, and pass that")
        from gitbench.data.hub import HubCollection
        from gitbench.data.photos import PhotoSource

        copy = _once((data, task, limit, HubCollection), lambda: HubCollection(address, task, limit))
        return _once((data, task, limit, split), lambda: PhotoSource(copy, split, limit))
    if address.config:
        raise GitbenchError(f"{data}: a data set on the hub alone has configurations: leave config out")
    if address.published:
        from gitbench.data.published import published_set

        published_set(address.published)
    if os.path.exists(address.path):
        from gitbench.data.items import Place
        from gitbench.data.photos import PhotoSource
        from gitbench.data.published_folder import open_published
        from gitbench.data.readers import open_folder

        films = task == "video"  # whose texts are captions
        place = Place(folder=address.path, task="caption" if films else task, address=address, films=films)
        found = _once((data, task, Place), lambda: (open_published if address.published else open_folder)(place))
        return _once((data, task, limit, split), lambda: PhotoSource(found, split, limit))
    if address.published or "/" in address.name or "\\" in address.name:
        raise GitbenchError(
            f"data folder {address.name} does not exist: check the path, or use {', '.join(data_names())}"
        )
    raise GitbenchError(
        f"{unknown_name('data set', address.name, data_names())}; or pass the path of a folder, or hub:OWNER/NAME"
    )


@contextlib.contextmanager
def read_once() -> Iterator[None]:
    """Read files once for all splits that are opened within the block, however often; they must stay as they are."""
    global _opened
    before = _opened
    _opened = {} if before is None else before
    try:
        yield
    finally:
        _opened = before


def _once(key: Hashable, make: Callable[[], T]) -> T:
    """Return what `make` makes, in a block of `read_once` the same for the same key."""
    if _opened is None:
        return make()
    if key not in _opened:
        _opened[key] = make()
    return _opened[key]  # type: ignore[return-value]


def data_label(data: str) -> str:
    """Return a short name fit for file names: the registered name, or the folder's."""
    if data in _REGISTERED:
        return data
    address = parse(data)
    name = address.published or address.path.resolve().name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "data"


def pretrain_data(data: str) -> tuple[str, str]:
    """Return the data set and the split on which an encoder for a data set is pre-trained.

    For all kinds of scenes that is a stream of still scenes of its own; for any other data its training split.
    """
    return ("scenes", PRETRAIN) if on_scenes(data) else (data, "train")


def on_scenes(data: str) -> bool:
    """Tell whether a data set is the embedded world: still, moving or shifted."""
    return data in WORLDS


def limit_of(spec: DataSpec, split: str) -> int | None:
    """Return how many images of a split a spec takes (None: all)."""
    return {PRETRAIN: spec.train_images, "train": spec.train_images, "val": spec.val_images, "test": spec.test_images}[
        split
    ]
