"""Captions that any system wrote, and references, from files: for comparing systems that were never trained here.

Captions: JSON lines, an object a line with `image_id` and `caption` (`predictions.jsonl` of a run has `references` too), or
COCO's results format, a JSON list of such objects. References: COCO's annotations (`captions_val2014.json`), or JSON
lines with `image_id` and either `references` or `captions` (a list) or `caption` (one of them; the image may have several
lines). Image ids are texts or whole numbers; 42 and "42" are the same image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.data.base import HALVES
from gitbench.errors import GitbenchError
from gitbench.files import write_json

_LISTS = ("references", "captions")  # keys of a list of references
Texts = dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One caption an image, image id -> text, and the references that stand beside them, where there are any."""

    path: Path
    captions: dict[str, str]
    references: Texts | None


def read_predictions_file(path: Path) -> Predictions:
    """Read one system's captions. Errors: GitbenchError with the place, for what is no caption of an image, or a second one."""
    content = _content(path)
    if isinstance(content, dict):
        raise GitbenchError(
            f"{path} is no file of captions: pass JSON lines or a JSON list of objects with image_id and caption "
            "(annotations go to --references)"
        )
    captions: dict[str, str] = {}
    references: Texts = {}
    for row, where in _rows(content, path):
        image, caption = _image_id(row, where), _text(row.get("caption"), "caption", where)
        if row.get("prefix") or "closed" in row:
            raise GitbenchError(
                f"{where} is an answer: pass captions of images, for answers are scored by another measure"
            )
        if image in captions:
            raise GitbenchError(f"{where}: image {image} has a caption already: leave one caption an image")
        captions[image] = caption
        if "references" in row:
            references[image] = _texts(row["references"], "references", where)
    if not captions:
        raise GitbenchError(f"{path} holds no captions: pass a file that does")
    if references and len(references) < len(captions):
        raise GitbenchError(
            f"{path}: {len(captions) - len(references)} of {len(captions)} images have no references: add them, or pass "
            "--references"
        )
    return Predictions(path=path, captions=captions, references=references or None)


def write_results(path: Path, rows: Sequence[Mapping[str, Any]], task: str) -> None:
    """Write rows of a `predictions.jsonl` in COCO's results format, of questions in VQAv2's; an id of digits as a number."""
    keys = ("question_id", "answer") if task == "vqa" else ("image_id", "caption")

    def number(name: str) -> int | str:
        return int(name) if re.fullmatch(r"0|[1-9][0-9]*", name) else name

    write_json(path, [{keys[0]: number(str(row["image_id"])), keys[1]: row["caption"]} for row in rows])


def read_references_file(path: Path) -> Texts:
    """Read references, image id -> texts. Errors: as `read_predictions_file`."""
    content = _content(path)
    found: Texts = {}
    if isinstance(content, dict):
        if not isinstance(content.get("annotations"), list):
            raise GitbenchError(f"{path} has no list of 'annotations': pass COCO's annotations or JSON lines")
        content = content["annotations"]
    whole: set[str] = set()  # images whose references were given as a list
    for row, where in _rows(content, path):
        image, keys = _image_id(row, where), [key for key in (*_LISTS, "caption") if key in row]
        if "references" in keys and "caption" in keys:
            keys.remove("caption")  # a line of `predictions.jsonl`, whose caption is a model's
        if len(keys) != 1:
            raise GitbenchError(f"{where} needs one of references, captions or caption, and has {len(keys)}: leave one")
        is_list = keys[0] in _LISTS
        if image in whole or (is_list and image in found):
            raise GitbenchError(f"{where}: image {image} has a list of references already: put all into one line")
        texts = _texts(row[keys[0]], keys[0], where) if is_list else [_text(row[keys[0]], "caption", where)]
        found.setdefault(image, []).extend(texts)
        whole |= {image} if is_list else set()
    if not found:
        raise GitbenchError(f"{path} holds no references: pass a file that does")
    return found


def _content(path: Path) -> Any:
    """Return one JSON value, or the values of lines, each with its place."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise GitbenchError(f"{path} cannot be read ({reason}): pass a file of captions") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and lines[0][1].strip().startswith("{") and lines[0][1].strip().endswith("}"):
        return _Lines([(_json(line, f"{path}, line {number}"), f"{path}, line {number}") for number, line in lines])
    whole = _json(text, str(path))
    is_row = isinstance(whole, dict) and "image_id" in whole
    return _Lines([(whole, f"{path}, line {lines[0][0]}")]) if is_row else whole


class _Lines(list[tuple[Any, str]]):
    """Values of JSON lines with their places."""


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON; a number of thousands of digits; thousands of brackets
        reason = getattr(error, "msg", None) or str(error).split(":")[0]
        raise GitbenchError(f"{where} is not whole JSON ({reason}): write it again") from None


def _rows(content: Any, path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    if not isinstance(content, list):
        raise GitbenchError(f"{path} is neither JSON lines nor a JSON list: pass one of them")
    placed = (
        content if isinstance(content, _Lines) else [(row, f"{path}, entry {n}") for n, row in enumerate(content, 1)]
    )
    for row, where in placed:
        if not isinstance(row, dict):
            raise GitbenchError(f"{where} is no object with image_id and caption: write it as one")
        yield row, where


def _image_id(row: dict[str, Any], where: str) -> str:
    image = row.get("image_id")
    if isinstance(image, bool) or not isinstance(image, str | int) or image == "":
        raise GitbenchError(f"{where} has no image_id that is a text or a whole number: add it")
    name = str(image)
    if HALVES.search(name):  # tables of scores hold no such name; captions may be any text
        raise GitbenchError(f"{where} has half a character (a lone surrogate) in its image_id: write it as UTF-8")
    return name


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise GitbenchError(f"{where} has no {key} that is a text: add it")
    return value


def _texts(values: Any, key: str, where: str) -> list[str]:
    if not isinstance(values, list) or not values:
        raise GitbenchError(f"{where}: {key} must be a list of at least one text")
    return [_text(value, key, where) for value in values]


# ---- what belongs together ---------------------------------------------------------------------------------------------


def check_together(files: Sequence[Predictions]) -> None:
    """Refuse files that cannot be compared: GitbenchError for one that is given twice, or for other images."""
    for place, file in enumerate(files):
        for other in files[:place]:
            if file.path.samefile(other.path):
                raise GitbenchError(f"{other.path} and {file.path} are one file: pass each file once")
    first = files[0]
    for file in files[1:]:
        lacking = [image for image in first.captions if image not in file.captions]
        extra = [image for image in file.captions if image not in first.captions]
        if lacking or extra:
            raise GitbenchError(
                f"{file.path} is about other images than {first.path}: {len(lacking)} are missing and {len(extra)} are "
                f"added (first: {(lacking or extra)[0]}); pass captions of the same images"
            )


def references_of(files: Sequence[Predictions], path: Path | None) -> Texts:
    """Return the references of the files' images, from the file `path` or from those of the files that hold any.

    Errors: GitbenchError where there are none, where an image has none, and where two files disagree.
    """
    images = list(files[0].captions)
    if path is None:
        holding = [file for file in files if file.references is not None]
        if not holding:
            raise GitbenchError(f"{files[0].path} holds no references: pass --references FILE")
        found = holding[0].references or {}
        for other in holding[1:]:
            wrong = [image for image in images if sorted((other.references or {})[image]) != sorted(found[image])]
            if wrong:
                raise GitbenchError(
                    f"{holding[0].path} and {other.path} have different references of {len(wrong)} images (first: "
                    f"{wrong[0]}): pass those that hold as --references FILE"
                )
    else:
        found = read_references_file(path)
        lacking = [image for image in images if image not in found]
        if lacking:
            raise GitbenchError(
                f"{path} has no references of {len(lacking)} of the {len(images)} images (first: {lacking[0]}): pass a "
                "file that has all"
            )
    return {image: found[image] for image in images}
