"""Parquet shards as Hugging Face `datasets` writes them: `train*.parquet`, `val*.parquet`, `test*.parquet`.

They lie in the folder or in its `data/`. Columns: see `gitbench.data.columns`. The `datasets` library reads them without
the hub and leaves the images undecoded. Files whose names say no split (`words.parquet`, `0000.parquet`) are read
together: a column `split` says where a row belongs, else the images are divided.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gitbench.data.columns import NEEDED
from gitbench.data.items import Part, Place
from gitbench.data.splits import word_in
from gitbench.data.tables import pixel_columns, table_part
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, make_dir

NEEDS = {
    task: f"train.parquet, val.parquet and test.parquet with the columns 'image' and '{column}'"
    for task, column in NEEDED.items()
}
COLUMNS = True


def fits(place: Place) -> bool:
    return bool(_shards(place.folder))


def parts(place: Place) -> list[Part]:
    shards = _shards(place.folder)
    words = {path: word_in(path.stem.split("-of-")[0]) or "" for path in shards}
    found = []
    for split in dict.fromkeys(words.values()):
        files = [path for path in shards if words[path] == split]
        where = f"{place.where} ({split})" if split else place.where
        found.append(table_part(place, files, split, partial(read_shards, files, where), partial(_rows, files)))
    return found


def _shards(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder, else those of its `data/`."""
    places = [sorted(place.glob("*.parquet")) for place in (folder, folder / "data") if place.is_dir()]
    return next(filter(None, places), [])


def _rows(files: Sequence[Path]) -> tuple[Any, Iterator[Any]]:
    """Return the schema of some files, and what they hold beside images."""
    import pyarrow.parquet as pq

    tables = [pq.ParquetFile(file) for file in files]
    schema = tables[0].schema_arrow
    columns = [name for name in schema.names if name not in pixel_columns(schema)]
    return schema, (batch for table in tables for batch in table.iter_batches(columns=columns))


def read_shards(files: Sequence[Path], where: str) -> Any:
    """Read Parquet files as one `datasets.Dataset`. Errors: damaged files, files with other columns, a full cache."""
    import datasets
    import pyarrow.parquet as pq

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what it says of damaged files is ours to say
    cache = make_dir(cache_dir() / "datasets")
    paths = [glob.escape(str(path)) for path in files]  # the library takes paths for patterns
    if lost := [file for file in files if not os.access(file, os.R_OK)]:
        raise GitbenchError(f"{lost[0]} cannot be read: check its permissions, or where it links to")
    try:
        if not any(pq.read_metadata(file).num_rows for file in files):
            raise GitbenchError(f"{where} has no rows: fill or remove its Parquet files")
        return datasets.load_dataset("parquet", data_files={"train": paths}, split="train", cache_dir=str(cache))
    except GitbenchError:
        raise
    except Exception as error:  # the library wraps what the reader says in its own errors
        if isinstance(error, OSError) and error.errno is not None:  # of the file system: cache full or read-only
            text = f"{where}: {error.strerror} while reading into {cache}: set GITBENCH_CACHE to another folder"
            raise GitbenchError(text) from None
        fix = f"check that the {len(paths)} files from {files[0].name} on are whole and have the same columns"
        raise GitbenchError(f"{where}: not readable as Parquet ({type(error).__name__}): {fix}") from None
