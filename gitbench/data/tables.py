"""Tables of images and texts, whatever file they come from: rows to items, by columns (see `columns`)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gitbench.data.answers import answers_are_in, in_tens, is_ten, question_of
from gitbench.data.base import AnswersAre, Question, clean_caption
from gitbench.data.columns import NEEDED, Columns, columns_of
from gitbench.data.image_files import plain
from gitbench.data.items import Item, Loaded, Part, Place
from gitbench.data.pictures import ImageColumn, Picture, TablePicture
from gitbench.data.splits import split_of, word_in
from gitbench.errors import GitbenchError


def of_dataset(place: Place, table: Any, where: str, split: str = "") -> Loaded:
    """Return the items of a `datasets.Dataset`; its images stay undecoded, or are files that are searched by name."""
    import datasets

    pixels = pixel_columns(table.features.arrow_schema)
    chosen = columns_of(table.column_names, place.task, place.address.columns, where, pixels)
    kind = table.features[chosen.image]
    if isinstance(kind, datasets.Image):
        table = table.cast_column(chosen.image, datasets.Image(decode=False))
    others = table.select_columns([name for name in table.column_names if name not in pixels])
    rows = [dict(zip(others.column_names, values, strict=True)) for values in zip(*others[:].values(), strict=True)]
    rows = rows or [{} for _ in range(len(table))]

    column = ImageColumn(table, chosen.image)

    def picture(number: int, row: dict[str, Any], stated: str) -> Picture:
        if chosen.image in pixels:
            return TablePicture(column, number, partial(place.picture, split=stated))
        return place.picture(image_name(row[chosen.image], f"{where}, row {number}"), stated)

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
    places: Sequence[str] | None = None,
) -> Loaded:
    """Return the items of rows: column -> value. `picture` gives a row's image from its number, itself and its split.

    places: what names each row in error messages, where its number is not what people count by.
    """
    items = []
    tens = place.task == "vqa" and in_tens(row.get(chosen.answers or "") for row in rows)
    for number, row in enumerate(rows):
        place_of = places[number] if places else f"{where}, row {number}"
        own = row.get(chosen.image_id) if chosen.image_id else None
        image = row.get(chosen.image)
        said = str(row.get(chosen.split) or "") if chosen.split else ""
        stated = split or said or ("" if chosen.split else _split_in_path(image))
        items.append(
            Item(
                image_id=None if own is None else str(own),
                picture=picture(number, row, stated),
                where=place_of,
                key=image.replace("\\", "/").rsplit("/", 1)[-1].encode() if isinstance(image, str) else None,
                split=said or stated,
                **_texts(place.task, row, chosen, place_of, number, class_names, tens),
            )
        )
    labels = tuple(class_names) if class_names is not None else None
    if not _one_text_a_row(place.task, rows, chosen):
        return Loaded(items=items, class_names=labels)
    grouped = grouped_by_image(items, chosen.image_id)
    note = f"{where}: {len(items)} rows are {len(grouped)} images: rows of one image are put together"
    return Loaded(items=grouped, notes=(note,) if len(grouped) < len(items) else (), class_names=labels)


def _texts(
    task: str, row: dict[str, Any], chosen: Columns, where: str, number: int, names: Sequence[str] | None, tens: bool
) -> dict[str, Any]:
    """Return the texts of a row as `Item` takes them; `tens`: see `question_in`."""
    if task == "vqa":
        own = row.get(chosen.question_id) if chosen.question_id else None
        return {"questions": (question_in(row, chosen, number if own is None else own, where, tens),)}
    if task == "caption":
        captions = [text for name in chosen.captions for text in captions_in(row.get(name))]
        several = len(chosen.captions) > 1  # of which some may be left empty
        return {"captions": tuple(text for text in captions if not several or text)}
    value, role = row.get(getattr(chosen, NEEDED[task])), NEEDED[task]
    if names is not None:
        if value is None or not 0 <= value < len(names):
            raise GitbenchError(f"{where}: label {value} names none of the {len(names)} classes: correct the row")
        return {"captions": (names[value],)}
    if isinstance(value, int):
        text = f"{where}: {role} {value} is a number without a name"
        raise GitbenchError(f"{text}: store the column as text or as datasets.ClassLabel with names")
    return {"captions": (clean_caption(value, where, role),)}


def question_in(row: dict[str, Any], chosen: Columns, own: object, where: str, tens: bool) -> Question:
    """Return the question of a row, whose id is `own`; `tens`: whether ten texts are votes in its table, see `answers`."""
    asked, answers = row.get(chosen.question or ""), row.get(chosen.answers or "")
    votes: AnswersAre | None = "votes" if tens and is_ten(answers) else None
    return question_of(own, asked, answers, where, answers_are_in(row, where) or votes)


def captions_in(value: Any) -> Iterable[object]:
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

    Images of an id are compared by their marks alone, and read whole only where without an id several share a mark.
    Errors: GitbenchError for an id of two pictures.
    """
    by_id = [id_column is not None and item.image_id is not None for item in items]
    marks = [None if known else item.picture.mark(item.where) for item, known in zip(items, by_id, strict=True)]
    count = Counter(marks)
    groups: dict[object, list[Item]] = {}
    for item, known, mark in zip(items, by_id, marks, strict=True):
        key = item.image_id if known else (mark, identity(item) if count[mark] > 1 else None)
        groups.setdefault((item.split, key), []).append(item)
    found = []
    for group in groups.values():
        first = group[0]
        if first.image_id is not None and len(group) > 1 and len({item.picture.mark(item.where) for item in group}) > 1:
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


def pixel_columns(schema: Any) -> list[str]:
    """Return which columns of an Arrow schema hold images: bytes, or a struct with bytes, as `datasets.Image` stores them."""
    from pyarrow import types

    def holds_bytes(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind)

    def holds_pixels(kind: Any) -> bool:
        return holds_bytes(kind) or (types.is_struct(kind) and kind.get_field_index("bytes") >= 0)

    return [field.name for field in schema if holds_pixels(field.type)]


def table_part(
    place: Place,
    files: Sequence[Path],
    split: str,
    load: Callable[[], Any],
    rows: Callable[[], tuple[Any, Iterable[Any]]],
) -> Part:
    """Return the part that is a table, a `datasets.Dataset` that `load` returns.

    rows: gives its Arrow schema, and what it holds beside images, in batches. They are read as far as it takes to tell
    whether the texts of a test set are withheld. Where the files are damaged, loading the part says so.
    """
    import pyarrow as pa

    where = f"{place.where} ({split})" if split else place.where
    images = hidden = False
    try:
        schema, batches = rows()
        pixels = pixel_columns(schema)
        images = not pixels or any(
            pa.types.is_struct(schema.field(name).type) for name in pixels
        )  # which may hold paths
        hidden = split_of(split) == "test" and not _has_texts(place, schema, batches, where)
    except (OSError, KeyError, pa.ArrowException):
        pass

    loaded = partial(_load, place, load, where, split)
    return Part(files=tuple(files), load=loaded, split=split, has_texts=not hidden, images=images)


def _load(place: Place, load: Callable[[], Any], where: str, split: str) -> Loaded:
    return of_dataset(place, load(), where, split)


def _has_texts(place: Place, schema: Any, batches: Iterable[Any], where: str) -> bool:
    """Tell whether any row has a text for the task: those of hidden test sets are null, empty, or of class -1."""
    try:
        chosen = columns_of(schema.names, place.task, place.address.columns, where, pixel_columns(schema))
    except GitbenchError:  # which loading the part raises again
        return True
    names = chosen.captions or (chosen.answers if place.task == "vqa" else getattr(chosen, NEEDED[place.task]),)
    return any(_says(value) for batch in batches for name in names for value in batch.column(name).to_pylist())


def _says(value: Any) -> bool:
    """Tell whether a cell holds a text: itself, in a list, in an annotator's `answer` or a sentence's `raw`."""
    if isinstance(value, dict):
        value = value.get("answer", value.get("raw"))
    return any(map(_says, value)) if isinstance(value, (list, tuple)) else value not in (None, "", -1)


def _split_in_path(image: object) -> str:
    """Return the word of the nearest folder in an image's path that says a split; "" without.

    The folders above a data set mean nothing: of an absolute path none is looked at.
    """
    if not isinstance(image, str) or Path(image).is_absolute():
        return ""
    return next(filter(None, map(word_in, plain(image).split("/")[-2::-1])), "")


def image_name(value: Any, where: str) -> str | int:
    """Return the name or number of an image file in a cell. Errors: an empty cell."""
    if isinstance(value, (list, dict)):
        raise GitbenchError(
            f"{where}: the image is a {type(value).__name__}, not one image or a file's name: store one a row"
        )
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise GitbenchError(f"{where}: there is no image: add it or remove the row")
    return value
