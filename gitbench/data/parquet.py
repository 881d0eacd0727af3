"""Parquet shards as Hugging Face `datasets` writes them: `train*.parquet`, `val*.parquet`, `test*.parquet`.

Columns: `image` (struct of bytes and path), `captions` (list of text; or `caption`, text or list), optionally
`image_id`. Read through the `datasets` library without the hub; images are decoded here, so that the same Pillow
decodes every kind of data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from gitbench.data.photos import PhotoSource, Row, read_image_file
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, make_dir

ALIASES = {"train": ("train", "training"), "val": ("val", "validation", "valid", "dev"), "test": ("test",)}


def shards(folder: Path, split: str) -> list[Path]:
    """Return a split's Parquet files, also from a `data/` folder below, sorted by name."""
    names = "|".join(ALIASES[split])
    pattern = re.compile(rf"(?:{names})(?:[-_.].*)?\.parquet", re.IGNORECASE)
    for place in (folder, folder / "data"):
        found = sorted(file for file in place.glob("*.parquet") if pattern.fullmatch(file.name))
        if found:
            return found
    return []


class ParquetSource(PhotoSource):
    """One split of Parquet shards."""

    def files(self) -> Iterable[Path]:
        return shards(self.folder, self.split)

    @cached_property
    def _table(self) -> Any:
        """Load the shards as a `datasets.Dataset` with undecoded images."""
        import datasets

        paths = [str(path) for path in self.files()]
        where = f"{self.folder} ({self.split})"
        shown = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        cache = make_dir(cache_dir() / "datasets")
        try:
            table = datasets.load_dataset("parquet", data_files={"train": paths}, split="train", cache_dir=str(cache))
        except OSError as error:
            if error.errno is not None:  # of the file system: cache full or read-only
                text = f"{where}: {error.strerror} while reading into {cache}: set GITBENCH_CACHE to another folder"
                raise GitbenchError(text) from None
            raise GitbenchError(f"{where}: not readable as Parquet: write the shards again") from None
        except Exception as error:  # the library wraps what the reader says in its own errors
            fix = f"check that {_names(paths)} are whole and have the same columns"
            raise GitbenchError(f"{where}: not readable as Parquet ({type(error).__name__}): {fix}") from None
        finally:
            if shown:
                datasets.enable_progress_bars()
        self._check_columns(table.column_names, where)
        if type(table.features["image"]).__name__ == "Image":
            table = table.cast_column("image", datasets.Image(decode=False))
        return table

    def _check_columns(self, columns: list[str], where: str) -> None:
        if "image" not in columns or not {"captions", "caption"} & set(columns):
            raise GitbenchError(f"{where}: columns 'image' and 'captions' are needed, found: {', '.join(columns)}")

    def load_rows(self) -> list[Row]:
        table = self._table
        captions = table["captions" if "captions" in table.column_names else "caption"][:]
        ids = table["image_id"][:] if "image_id" in table.column_names else [None] * len(captions)
        rows = []
        for number, (own, said) in enumerate(zip(ids, captions, strict=True)):
            where = f"{self.folder} ({self.split}), row {number}"
            texts = tuple(said) if isinstance(said, (list, tuple)) else () if said is None else (said,)
            name = f"{self.split}-{number}" if own is None else str(own)
            rows.append(Row(image_id=name, captions=texts, where=where))
        return rows

    def raw_image(self, index: int) -> bytes:
        value, where = self._table[index]["image"], self.rows[index].where
        if isinstance(value, bytes):
            return value
        if isinstance(value, dict) and value.get("bytes") is not None:
            return value["bytes"]
        path = value.get("path") if isinstance(value, dict) else value
        if not isinstance(path, str) or not path:
            raise GitbenchError(f"{where}: there is no image: add it or remove the row")
        return read_image_file(self.folder / path, where)


def _names(paths: list[str]) -> str:
    names = [Path(path).name for path in paths]
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} ... {names[-1]}"
