"""Data: the embedded world `scenes`, and folders of photographs with captions.

A data set is named by one string: a registered name or a folder's path. Registering one means adding a file to this
package that says `NAMES = ("...",)` and defines `open_split(name, split, limit) -> Source`; it is found by that line.
Importing this package imports no torch (`dataset` does).
"""

from __future__ import annotations

import ast
import importlib
import re
from functools import lru_cache
from pathlib import Path

from gitbench.data.base import SPLITS, Example, Source, check_split, content_hash
from gitbench.errors import GitbenchError, unknown_name
from gitbench.spec import DataSpec, TaskSpec

__all__ = [
    "CAPTIONS", "SPLITS", "Example", "Source", "check_source", "data_label", "data_names", "limit_of", "open_source",
    "study_fingerprint",
]  # fmt: skip


CAPTIONS = TaskSpec()  # the task where none is named


@lru_cache(maxsize=1)
def _registry() -> dict[str, str]:
    """Map each registered name to its module, read from the files' text so that none is imported."""
    found: dict[str, str] = {}
    for file in sorted((Path(__file__).parent / "scenes").glob("*.py")):
        text = file.read_text(encoding="utf-8")
        if "NAMES = " not in text:
            continue  # parsing all of them takes 0.1 s
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == ["NAMES"]:
                found |= {name: f"{__name__}.scenes.{file.stem}" for name in ast.literal_eval(node.value)}
    return found


def data_names() -> tuple[str, ...]:
    """Return the registered names."""
    return tuple(_registry())


def open_source(data: str, split: str, limit: int | None = None, task: str = "caption") -> Source:
    """Open a split ("train", "val", "test") of a data set: a registered name, or the path of a folder.

    A limit takes the first items; it is an upper bound for folders and the size itself for computed data. The task's
    name says which files of a folder are meant; `tasks.open_task` also turns what they hold into the task's texts.
    """
    check_split(split)
    module = _registry().get(data)
    if module:
        return importlib.import_module(module).open_split(data, split, limit)
    path = Path(data).expanduser()
    if path.exists():
        from gitbench.data.readers.folder import open_folder

        return open_folder(path, split, limit, task)
    if "/" in data or "\\" in data:
        raise GitbenchError(f"data folder {data} does not exist: check the path, or use {', '.join(data_names())}")
    raise GitbenchError(f"{unknown_name('data set', data, data_names())}; or pass the path of a folder")


def data_label(data: str) -> str:
    """Return a short name fit for file names: the registered name, or the folder's."""
    if data in _registry():
        return data
    name = Path(data).expanduser().resolve().name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "data"


def limit_of(spec: DataSpec, split: str) -> int | None:
    """Return how many images of a split a spec takes (None: all)."""
    return {"train": spec.train_images, "val": spec.val_images, "test": spec.test_images}[split]


def study_fingerprint(data: str, spec: DataSpec, task: TaskSpec = CAPTIONS) -> str:
    """Hash the content of the three splits as used. Enters every run key; image size and crops are in the spec."""
    from gitbench.data.tasks import open_task

    return content_hash([open_task(data, split, limit_of(spec, split), task).fingerprint() for split in SPLITS])


def check_source(source: Source) -> None:
    """Raise GitbenchError for what is wrong with a split, as far as that shows without decoding images."""
    source.check()
