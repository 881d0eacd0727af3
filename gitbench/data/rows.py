"""Rows of text tables: CSV with commas, semicolons, tabs or bars, JSON lines, JSON lists; with a byte order mark or none.

The first line of a CSV names its columns. Every row must have as many fields: one too many is a comma that was not quoted.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from gitbench.data.items import read_texts_file
from gitbench.errors import GitbenchError

_DELIMITERS = ",|\t;"


def rows_of(path: Path, mended: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the rows of a table, each with the number of its line; those that had to be mended are added to `mended`.

    Those of a JSON list have their numbers in it, from 0.
    """
    if path.suffix == ".json":
        yield from _listed(path)
        return
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from _json_rows(file, path) if path.suffix == ".jsonl" else _csv_rows(file, path, mended)
    except UnicodeDecodeError:
        raise GitbenchError(f"{path} is not in UTF-8: save it with that encoding") from None
    except (csv.Error, OSError) as error:
        raise GitbenchError(f"{path} cannot be read ({error}): correct or replace it") from None


def _listed(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(read_texts_file(path)):
        if not isinstance(row, dict):
            raise GitbenchError(f"{path}, row {number}: not a JSON object: write one image or question a row")
        yield number, row


def _json_rows(file: Iterable[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(file, 1):
        if text.strip():
            try:
                row = json.loads(text)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise GitbenchError(f"{path}, line {line}: not a JSON object: write one image or question a line")
            yield line, row


def _csv_rows(file: TextIO, path: Path, mended: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    first = file.readline()
    file.seek(0)
    delimiter = "\t" if path.suffix == ".tsv" else max(_DELIMITERS, key=first.count)
    # Flickr30k's captions, between bars, have quotes of their own
    quoting: Any = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    reader = csv.reader(file, delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True)
    names = [name.strip() for name in next(reader, [])]
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise GitbenchError(f"{path}: several columns are called {twice[0]}: give each its own name")
    for record in reader:
        # a line of Flickr30k's results.csv reads "2199200615.jpg| 4   A dog runs across the grass ."
        if delimiter == "|" and len(record) == len(names) - 1 and (found := re.fullmatch(r"(\d+)\s+(.+)", record[-1])):
            record[-1:] = found.groups()
            mended.append(reader.line_num)
        if record == [""] and len(names) > 1:  # a line of spaces
            continue
        if len(record) not in (0, len(names)):
            fix = "quote texts that hold the delimiter"
            raise GitbenchError(
                f"{path}, line {reader.line_num}: {len(record)} fields under {len(names)} columns: {fix}"
            )
        if record:
            yield reader.line_num, dict(zip(names, record, strict=True))


def texts_in(value: str, where: str) -> Any:
    """Return the texts in a cell: itself, or those of a list, as JSON or Python write it."""
    if not re.fullmatch(r"\[\s*([\"'{].*)?\]", value, re.DOTALL):
        return value
    if re.search(r"[\"']\s+[\"']", value):
        raise GitbenchError(f"{where}: a list without commas, as numpy prints it: write lists as JSON")
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError):
            return read(value)
    return value
