"""A path given as `--data`: find out which layout the folder has and open the split asked for."""

from __future__ import annotations

from pathlib import Path

from gitbench.data.base import SPLITS, check_split
from gitbench.data.readers.coco import CocoSource, single_file, split_file
from gitbench.data.readers.parquet import LabelSource, ParquetSource, shards, single_shard
from gitbench.data.readers.photos import PhotoSource
from gitbench.data.readers.questions import QuestionSource, question_file
from gitbench.errors import GitbenchError

COLUMNS = {"read": "text", "classify": "label"}  # task -> the column of a Parquet file that it learns


def open_folder(folder: Path, split: str, limit: int | None = None, task: str = "caption") -> PhotoSource:
    """Open a split of a folder for a task; a folder without what the task needs raises GitbenchError.

    Captions (also of "video", which no folder has): Parquet shards or COCO layout; "vqa": question files; "read" and
    "classify": Parquet with a column `text` or `label`.
    """
    check_split(split)
    if not folder.is_dir():
        raise GitbenchError(f"{folder} is not a folder: pass the folder with the Parquet shards or COCO files")
    if task == "vqa":
        return _questions(folder, split, limit)
    if task in COLUMNS:
        return _labels(folder, split, limit, COLUMNS[task], task)
    if _has_parquet(folder, split):
        return ParquetSource(folder, split, limit)
    if split_file(folder, split) or (single_file(folder) and not any(split_file(folder, name) for name in SPLITS)):
        return CocoSource(folder, split, limit)
    if any(split_file(folder, name) for name in SPLITS):
        raise _no_split(folder, split, f"{split}.json")
    if any(question_file(folder, name) for name in SPLITS):
        raise GitbenchError(f"{folder} holds questions and no captions: pass --task vqa, or add captions.json")
    raise GitbenchError(
        f"{folder} holds no data that is known: expected train.parquet, val.parquet, test.parquet, or images/ with "
        f"captions.json; found: {_listing(folder)}"
    )


def _questions(folder: Path, split: str, limit: int | None) -> PhotoSource:
    if question_file(folder, split):
        return QuestionSource(folder, split, limit)
    if any(question_file(folder, name) for name in SPLITS):
        raise _no_split(folder, split, f"{split}_questions.json")
    raise GitbenchError(
        f"{folder} holds no questions, which --task vqa needs: add questions.json or {split}_questions.json beside "
        f"images/; found: {_listing(folder)}"
    )


def _labels(folder: Path, split: str, limit: int | None, column: str, task: str) -> PhotoSource:
    if _has_parquet(folder, split):
        return LabelSource(folder, split, limit, column)
    raise GitbenchError(
        f"{folder} holds no {column}s, which --task {task} needs: add train.parquet, val.parquet and test.parquet with "
        f"the columns 'image' and '{column}'; found: {_listing(folder)}"
    )


def _has_parquet(folder: Path, split: str) -> bool:
    """Tell whether a split is there as Parquet; a folder with other splits only raises GitbenchError."""
    if shards(folder, split) or single_shard(folder):
        return True
    if any(shards(folder, name) for name in SPLITS):
        raise _no_split(folder, split, f"{split}.parquet")
    return False


def _no_split(folder: Path, split: str, wanted: str) -> GitbenchError:
    return GitbenchError(f"{folder} has no {split} split: add {wanted}; found: {_listing(folder)}")


def _listing(folder: Path, most: int = 8) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return shown or "nothing"
