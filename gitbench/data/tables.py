"""Tables of images and texts, whatever file they come from: rows to items, by columns (see `columns`)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from gitbench.data.answers import references
from gitbench.data.base import Question, clean_caption
from gitbench.data.columns import NEEDED, Columns, columns_of
from gitbench.data.items import Item, Loaded, Place
from gitbench.data.pictures import Picture, TablePicture
from gitbench.errors import GitbenchError


def of_dataset(place: Place, table: Any, where: str, split: str = "") -> Loaded:
    """Return the items of a `datasets.Dataset`; its images stay undecoded, or are files that are searched by name."""
    import datasets

    pixels = [name for name, kind in table.features.items() if _holds_pixels(kind)]
    chosen = columns_of(table.column_names, place.task, place.address.columns, where, pixels)
    kind = table.features[chosen.image]
    if isinstance(kind, datasets.Image):
        table = table.cast_column(chosen.image, datasets.Image(decode=False))
    others = table.select_columns([name for name in table.column_names if name not in pixels])
    rows = [dict(zip(others.column_names, values, strict=True)) for values in zip(*others[:].values(), strict=True)]
    rows = rows or [{} for _ in range(len(table))]

    def picture(number: int, row: dict[str, Any], stated: str) -> Picture:
        if chosen.image in pixels:
            return TablePicture(table, number, chosen.image, partial(place.picture, split=stated))
        return place.picture(_name(row[chosen.image], where, number), stated)

    names = getattr(table.features[chosen.label], "names", None) if chosen.label else None
    return of_rows(place, rows, chosen, where, split, picture, names)


def of_rows(
    place: Place,
    rows: Sequence[dict[str, Any]],
    chosen: Columns,
    where: str,
    split: str,
    picture: Callable[[int, dict[str, Any], str], Picture],
    class_names: Sequence[str] | None = None,
) -> Loaded:
    """Return the items of rows: column -> value. `picture` gives a row's image from its number, itself and its split."""
    items = []
    for number, row in enumerate(rows):
        place_of = f"{where}, row {number}"
        stated = split or (str(row.get(chosen.split) or "") if chosen.split else "")
        own = row.get(chosen.image_id) if chosen.image_id else None
        image = row.get(chosen.image)
        items.append(
            Item(
                image_id=None if own is None else str(own),
                picture=picture(number, row, stated),
                where=place_of,
                key=image.replace("\\", "/").rsplit("/", 1)[-1].encode() if isinstance(image, str) else None,
                split=stated,
                **_texts(place.task, row, chosen, place_of, number, class_names),
            )
        )
    labels = tuple(class_names) if class_names is not None else None
    if not _one_text_a_row(place.task, rows, chosen):
        return Loaded(items=items, class_names=labels)
    grouped = grouped_by_image(items, chosen.image_id)
    note = f"{where}: {len(items)} rows are {len(grouped)} images: rows of one image are put together"
    return Loaded(items=grouped, notes=(note,) if len(grouped) < len(items) else (), class_names=labels)


def _texts(
    task: str, row: dict[str, Any], chosen: Columns, where: str, number: int, names: Sequence[str] | None
) -> dict[str, Any]:
    """Return the texts of a row as `Item` takes them."""
    if task == "vqa":
        own = row.get(chosen.question_id) if chosen.question_id else None
        said, answer = references(row.get(chosen.answers or ""), where, bool(row.get("set_valued")))
        text = clean_caption(row.get(chosen.question or ""), where, "question")
        asked = Question(question_id=str(number if own is None else own), text=text, answers=said, answer=answer)
        return {"questions": (asked,)}
    if task == "caption":
        return {"captions": tuple(text for name in chosen.captions for text in _captions(row.get(name)))}
    value, role = row.get(getattr(chosen, NEEDED[task])), NEEDED[task]
    if names is not None:
        if value is None or not 0 <= value < len(names):
            raise GitbenchError(f"{where}: label {value} names none of the {len(names)} classes: correct the row")
        return {"captions": (names[value],)}
    if isinstance(value, int):
        text = f"{where}: {role} {value} is a number without a name"
        raise GitbenchError(f"{text}: store the column as text or as datasets.ClassLabel with names")
    return {"captions": (clean_caption(value, where, role),)}


def _captions(value: Any) -> Iterable[object]:
    """Return the captions in a cell: a text, a list of texts, or Karpathy's sentences with `raw`, one or a list."""
    if value is None:
        return ()
    if isinstance(value, dict):
        raw = value.get("raw")
        return raw if isinstance(raw, list) else (raw,)
    if isinstance(value, (list, tuple)):
        return [each.get("raw") if isinstance(each, dict) else each for each in value]
    return (value,)


def _one_text_a_row(task: str, rows: Sequence[dict[str, Any]], chosen: Columns) -> bool:
    """Tell whether an image may have several rows: one caption each, or one question each."""
    if task == "vqa":
        return True
    if task != "caption" or len(chosen.captions) > 1:
        return False
    return all(not isinstance(row.get(chosen.captions[0]), (list, tuple)) for row in rows)


def grouped_by_image(items: Sequence[Item], id_column: str | None) -> list[Item]:
    """Put the texts of one image's items together, in the place of the first: by id, else by file name or bytes.

    Errors: GitbenchError for an id of two pictures.
    """
    groups: dict[object, list[Item]] = {}
    for item in items:
        key = (item.split, item.image_id) if id_column and item.image_id is not None else (item.split, identity(item))
        groups.setdefault(key, []).append(item)
    found = []
    for group in groups.values():
        first = group[0]
        if first.image_id is not None and len(group) > 1 and len({identity(item) for item in group}) > 1:
            raise GitbenchError(
                f"{first.where}: {id_column} '{first.image_id}' has several pictures: give each its own id"
            )
        captions = tuple(text for item in group for text in item.captions)
        questions = tuple(asked for item in group for asked in item.questions)
        found.append(dataclasses.replace(first, captions=captions, questions=questions))
    return found


def identity(item: Item) -> object:
    """Return what is the same for rows of one image: the name of its file, or a hash of its bytes."""
    named = getattr(item.picture, "name", None)
    return named if named is not None else hashlib.sha256(item.picture.read(item.where)).digest()


def _holds_pixels(kind: Any) -> bool:
    """Tell whether a column holds images: `datasets.Image`, a struct with bytes, or bytes."""
    if type(kind).__name__ == "Image":
        return True
    if isinstance(kind, dict):
        return "bytes" in kind
    return getattr(kind, "dtype", None) in ("binary", "large_binary")


def _name(value: Any, where: str, number: int) -> str:
    if not isinstance(value, str) or not value:
        raise GitbenchError(f"{where}, row {number}: there is no image: add it or remove the row")
    return value
