"""Tables of image files and their texts: `*.csv`, `*.tsv`, `*.jsonl`, Kaggle's `captions.txt`, and JSON lists of objects.

1. One table for all images, as `captions.txt` of Flickr8k (image,caption), `results.csv` of Flickr30k (image_name|
   comment_number| comment), `flickr_annotations_30k.csv` (a JSON list in a cell), or `metadata.jsonl` of an ImageFolder.
2. One table a split: `train.csv`, `captions_val.tsv`, `test.jsonl`, or LAVIS's `coco_karpathy_train.json`. Both lie in the
   folder, in its `annotations/` or `data/`.
3. An ImageFolder's `metadata.jsonl` or `metadata.csv` in `images/` or in each split's folder, whose `file_name` starts there.

Columns: see `gitbench.data.columns`. A table is known by its columns; `captions.*` and those named after splits alone by
their names, too, so that a column that is called otherwise is asked for.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from gitbench.data.columns import NEEDED, columns_of
from gitbench.data.items import Loaded, Part, Place, beside_images, first_of_list
from gitbench.data.pictures import Picture
from gitbench.data.rows import rows_of, texts_in
from gitbench.data.splits import split_of, word_in
from gitbench.data.tables import image_name, of_rows
from gitbench.errors import GitbenchError

NEEDS = {
    task: f"a table, such as captions.csv, train.tsv or metadata.jsonl, with the columns 'file_name' and '{column}'"
    for task, column in NEEDED.items()
}
COLUMNS = True
_SUFFIXES = (".csv", ".tsv", ".jsonl")


def fits(place: Place) -> bool:
    return bool(_tables(place))


def parts(place: Place) -> list[Part]:
    by_split: dict[str, Path] = {}
    for path, split in _tables(place).items():
        if (other := by_split.setdefault(split, path)) != path:
            raise GitbenchError(
                f"{place.folder}: {' and '.join(str(each.relative_to(place.folder)) for each in (other, path))} are tables "
                "of the same images: leave one"
            )
    return [
        Part(
            files=(path,),
            load=partial(_load, place, path, split),
            split=split,
            has_texts=not (split_of(split) == "test" and _lacks_texts(place, _names(path))),
            images=True,
        )
        for split, path in by_split.items()
    ]


def _tables(place: Place) -> dict[Path, str]:
    """Return the tables for the task, each with the word of its split, "" where its name says none."""
    roots = [root for root in (place.folder, place.folder / "annotations", place.folder / "data") if root.is_dir()]
    files = {path: word_in(path.stem) or "" for root in roots for path in beside_images(root)}
    for folder in [path for path in files if path.is_dir() and (files[path] or path.name == "images")]:
        files.update({path: files[folder] for path in sorted(folder.glob("metadata.*"))})
    tables = [path for path in files if path.suffix in _SUFFIXES or path.name == "captions.txt"]
    if place.task != "vqa":  # for which `questions` reads such lists
        tables += [path for path in files if first_of_list(path) is not None]
    able = {path: [task for task in NEEDED if _suits(place, _names(path), task)] for path in tables}
    named = [path for path in tables if not able[path] and (path.stem == "captions" or split_of(path.stem))]
    suited = [path for path in tables if place.task in able[path]]
    if suited:  # the others are faulty, or a test set without texts
        named = [path for path in named if files[path]]
    return {path: files[path] for path in suited + named} if suited or not any(able.values()) else {}


def _suits(place: Place, names: list[str], task: str) -> bool:
    try:
        return bool(columns_of(names, task, place.address.columns, ""))
    except GitbenchError:
        return False


def _lacks_texts(place: Place, names: list[str]) -> bool:
    """Tell whether a table has all that the task needs but its texts."""
    whole = list(dict.fromkeys((*names, NEEDED[place.task], "answers")))
    return not _suits(place, names, place.task) and _suits(place, whole, place.task)


def _names(path: Path) -> list[str]:
    """Return the columns of the first row; none of a file that cannot be read."""
    if first := first_of_list(path):
        return list(first)
    try:
        return list(next(rows_of(path, []))[1])
    except (GitbenchError, StopIteration):
        return []


def _load(place: Place, path: Path, split: str) -> Loaded:
    mended: list[int] = []
    numbered = list(rows_of(path, mended))
    if not numbered:
        raise GitbenchError(f"{path} has no rows: fill or remove it")
    rows, unit = [row for _, row in numbered], "row" if path.suffix == ".json" else "line"
    places = [f"{path}, {unit} {number}" for number, _ in numbered]
    chosen = columns_of(
        list(dict.fromkeys(name for row in rows for name in row)), place.task, place.address.columns, str(path)
    )
    if path.suffix not in (".json", ".jsonl"):
        for row, where in zip(rows, places, strict=True):
            row.update({name: texts_in(row[name], where) for name in (*chosen.captions, chosen.answers) if name})
    subfolder = str(path.parent.relative_to(place.folder))

    def picture(number: int, row: dict[str, Any], stated: str) -> Picture:
        return place.picture(image_name(row.get(chosen.image), places[number]), stated, subfolder)

    loaded = of_rows(place, rows, chosen, str(path), split, picture, places=places)
    note = f"{path.name}: the last bar is missing in {len(mended)} of its lines (first: {mended[:1]}) and was put in"
    return dataclasses.replace(loaded, notes=(*loaded.notes, note)) if mended else loaded
