"""Parquet shards as Hugging Face `datasets` writes them: `train*.parquet`, `val*.parquet`, `test*.parquet`.

Columns: `image` (struct of bytes and path), `captions` (list of text; or `caption`, text or list), optionally
`image_id`. Classes and words to be read come in a column `label` or `text` in place of the captions. The `datasets`
library reads them without the hub and leaves the images undecoded.

Where the folder's only Parquet file has no split in its name (`words.parquet`), its rows are divided by the images'
bytes (see `photos.divided`).
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

from gitbench.data.base import SPLITS, clean_caption
from gitbench.data.photos import SPLIT_OF, PhotoSource, Row, divided, no_split, read_image_file
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, make_dir

COLUMNS = {"caption": ("captions", "caption"), "read": ("text",), "classify": ("label",)}  # the first that is there
NEEDS = {
    task: f"train.parquet, val.parquet and test.parquet with the columns 'image' and '{names[0]}'"
    for task, names in COLUMNS.items()
}


def fits(folder: Path, task: str) -> bool:
    return any(_shards(folder, split) for split in SPLITS)


def open_split(folder: Path, split: str, limit: int | None, task: str) -> ParquetSource:
    """Open a split of a folder of Parquet files; the task decides which column is read."""
    if not _shards(folder, split):
        raise no_split(folder, split, f"{split}.parquet")
    kind = ParquetSource if task == "caption" else LabelSource
    return kind(folder, split, limit, COLUMNS[task])


def _shards(folder: Path, split: str) -> list[Path]:
    """Return a split's Parquet files, sorted by name: those named after it, or the only file if none names a split.

    They lie in the folder or in a `data/` folder below.
    """
    places = [sorted(place.glob("*.parquet")) for place in (folder, folder / "data")]
    if any(_split_of(file) for files in places for file in files):
        named = ([file for file in files if _split_of(file) == split] for files in places)
        return next(filter(None, named), [])
    first = next(filter(None, places), [])
    return first if len(first) == 1 else []


def _split_of(file: Path) -> str | None:
    """Return the split in the name of a file: train.parquet, validation-00000-of-00001.parquet, ..."""
    found = re.fullmatch(r"([A-Za-z]+)(?:[-_.].*)?\.parquet", file.name)
    return SPLIT_OF.get(found[1].lower()) if found else None


class ParquetSource(PhotoSource):
    """Images with texts in the first of `columns` that is there."""

    def __init__(self, folder: Path, split: str, limit: int | None, columns: tuple[str, ...]):
        super().__init__(folder, split, limit)
        self.columns, self.holds = columns, f"{columns[-1]}s"

    def files(self) -> list[Path]:
        return _shards(self.folder, self.split)

    @cached_property
    def _table(self) -> Any:
        """The shards as a `datasets.Dataset` with undecoded images."""
        import datasets

        paths = [str(path) for path in self.files()]
        datasets.disable_progress_bars()
        cache = make_dir(cache_dir() / "datasets")
        try:
            table = datasets.load_dataset("parquet", data_files={"train": paths}, split="train", cache_dir=str(cache))
        except Exception as error:  # the library wraps what the reader says in its own errors
            if isinstance(error, OSError) and error.errno is not None:  # of the file system: cache full or read-only
                text = (
                    f"{self.where}: {error.strerror} while reading into {cache}: set GITBENCH_CACHE to another folder"
                )
                raise GitbenchError(text) from None
            fix = f"check that the {len(paths)} files from {Path(paths[0]).name} on are whole and have the same columns"
            raise GitbenchError(f"{self.where}: not readable as Parquet ({type(error).__name__}): {fix}") from None
        found = set(table.column_names)
        fitting = [task for task, names in COLUMNS.items() if "image" in found and found & set(names)]
        if "image" not in found or not found & set(self.columns):
            hint = f"; for these pass --task {fitting[0]}" if fitting else ""
            needed = f"columns 'image' and '{self.columns[0]}' are needed"
            raise GitbenchError(f"{self.where}: {needed}, found: {', '.join(table.column_names)}{hint}")
        if type(table.features["image"]).__name__ == "Image":
            table = table.cast_column("image", datasets.Image(decode=False))
        return table

    @cached_property
    def _numbers(self) -> list[int]:
        """The table's row numbers that belong to the split."""
        if _split_of(self.files()[0]):
            return list(range(len(self._table)))
        images = map(_stored, self._table["image"])
        keys = [image if isinstance(image, bytes) else str(image or "").encode() for image in images]
        splits = divided(keys, str(self.folder))
        return [number for number, key in enumerate(keys) if splits[key] == self.split]

    def load_rows(self) -> list[Row]:
        table = self._table
        column = next(name for name in self.columns if name in table.column_names)
        texts, ids = table[column][:], table["image_id"][:] if "image_id" in table.column_names else None
        rows = []
        for number in self._numbers:
            where = f"{self.where}, row {number}"
            name = f"{self.split}-{number}" if ids is None or ids[number] is None else str(ids[number])
            rows.append(Row(image_id=name, texts=self.read_texts(texts[number], where), where=where))
        return rows

    def read_texts(self, value: Any, where: str) -> tuple[object, ...]:
        return tuple(value) if isinstance(value, (list, tuple)) else () if value is None else (value,)

    def raw_image(self, index: int) -> bytes:
        image, where = _stored(self._table[self._numbers[index]]["image"]), self.rows[index].where
        if isinstance(image, bytes):
            return image
        if not isinstance(image, str) or not image:
            raise GitbenchError(f"{where}: there is no image: add it or remove the row")
        return read_image_file(self.folder / image, where)


class LabelSource(ParquetSource):
    """Images with one text each: the name of a class (column `label`) or the words to be read (column `text`).

    A label is text, or a number with names as `datasets.ClassLabel` stores it. Items have it as their only caption.
    """

    @cached_property
    def class_names(self) -> tuple[str, ...] | None:
        """The cleaned names of a ClassLabel column, in the order of its numbers; None for a column of text."""
        names = getattr(self._table.features[self.columns[0]], "names", None)
        return None if names is None else tuple(clean_caption(name, self.where, "class name") for name in names)

    def read_texts(self, value: Any, where: str) -> tuple[object, ...]:
        """Return the one text, cleaned; a number without a name is an error."""
        names = self.class_names
        if names is not None:
            if value is None or not 0 <= value < len(names):
                raise GitbenchError(f"{where}: label {value} names none of the {len(names)} classes: correct the row")
            return (names[value],)
        if isinstance(value, int):
            text = f"{where}: {self.columns[0]} {value} is a number without a name"
            raise GitbenchError(f"{text}: store the column as text or as datasets.ClassLabel with names")
        return (clean_caption(value, where, self.columns[0]),)

    def labels(self) -> set[str]:
        """Return the labels of the split: all names of a ClassLabel, else those that occur."""
        return set(self.class_names or (str(row.texts[0]) for row in self.rows))


def _stored(value: Any) -> Any:
    """Return the bytes of an image in a table, or else its path."""
    if isinstance(value, dict):
        return value.get("path") if value.get("bytes") is None else value["bytes"]
    return value
