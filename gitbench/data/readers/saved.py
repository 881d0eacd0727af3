"""Folders that `datasets` writes with `save_to_disk`: a `DatasetDict` with its splits, or a single `Dataset`.

A `DatasetDict` is known by `dataset_dict.json` and has a folder a split, a `Dataset` by `state.json` beside
`dataset_info.json`; the rows lie in `data-00000-of-0000N.arrow`. Columns: see `gitbench.data.columns`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from gitbench.data.columns import NEEDED
from gitbench.data.items import Part, Place, read_texts_file
from gitbench.data.tables import pixel_columns, table_part
from gitbench.errors import GitbenchError

NEEDS = {
    task: f"a folder of datasets.save_to_disk with the columns 'image' and '{column}'"
    for task, column in NEEDED.items()
}
COLUMNS = True


def fits(place: Place) -> bool:
    return bool(_folders(place.folder))


def parts(place: Place) -> list[Part]:
    found = []
    for split, folder in _folders(place.folder).items():
        if not folder.is_dir():
            raise GitbenchError(f"{place.folder}: the split {split} has no folder: save the data set again")
        files = sorted(path for path in folder.iterdir() if path.is_file())
        found.append(table_part(place, files, split, partial(_table, folder), partial(_rows, folder)))
    return found


def _folders(folder: Path) -> dict[str, Path]:
    """Return split -> folder of its rows; "" for a single `Dataset`."""
    if (folder / "dataset_dict.json").is_file():
        names = read_texts_file(folder / "dataset_dict.json").get("splits", [])
        return {name: folder / name for name in names}
    single = all((folder / name).is_file() for name in ("state.json", "dataset_info.json"))
    return {"": folder} if single else {}


def _rows(folder: Path) -> tuple[Any, list[Any]]:
    """Return the schema of a data set, and what it holds beside images."""
    table = _table(folder)
    schema = table.features.arrow_schema
    columns = [name for name in schema.names if name not in pixel_columns(schema)]
    return schema, table.data.table.select(columns).to_batches()


def _table(folder: Path) -> Any:
    """Return the rows of a folder, mapped from the disk. Errors: files that are missing or damaged."""
    import datasets

    if folder.is_dir() and not any(folder.glob("*.arrow")):
        raise GitbenchError(f"{folder} has no rows: save the data set again, without this split")
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # Arrow and JSON have their own ones
        text = f"{folder}: not readable as a data set on disk ({type(error).__name__})"
        raise GitbenchError(f"{text}: save it again with datasets.save_to_disk") from None
