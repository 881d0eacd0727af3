"""A path given as `--data`: find out which layout the folder has and open the split asked for."""

from __future__ import annotations

from pathlib import Path

from gitbench.data.base import SPLITS, check_split
from gitbench.data.coco import CocoSource, single_file, split_file
from gitbench.data.parquet import ParquetSource, shards
from gitbench.data.photos import PhotoSource
from gitbench.errors import GitbenchError


def open_folder(folder: Path, split: str, limit: int | None = None) -> PhotoSource:
    """Open a split of a folder with Parquet shards or in COCO layout; a folder without it raises GitbenchError."""
    check_split(split)
    if not folder.is_dir():
        raise GitbenchError(f"{folder} is not a folder: pass the folder with the Parquet shards or COCO files")
    if any(shards(folder, name) for name in SPLITS):
        if shards(folder, split):
            return ParquetSource(folder, split, limit)
        raise _no_split(folder, split, f"{split}.parquet")
    if split_file(folder, split) or (single_file(folder) and not any(split_file(folder, name) for name in SPLITS)):
        return CocoSource(folder, split, limit)
    if any(split_file(folder, name) for name in SPLITS):
        raise _no_split(folder, split, f"{split}.json")
    raise GitbenchError(
        f"{folder} holds no data that is known: expected train.parquet, val.parquet, test.parquet, or images/ with "
        f"captions.json; found: {_listing(folder)}"
    )


def _no_split(folder: Path, split: str, wanted: str) -> GitbenchError:
    return GitbenchError(f"{folder} has no {split} split: add {wanted}; found: {_listing(folder)}")


def _listing(folder: Path, most: int = 8) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return shown or "nothing"
