"""The file in which `gitbench caption` leaves captions: JSON lines (the image's path is its id), or COCO's results format.

FILE appears when all captions are there. Until then they stand in FILE.part, one a line, below a line that says what makes
them; the same command goes on from there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import explain_os_errors, make_dir, write_json, write_text


class CaptionFile:
    """Captions of image files on their way to FILE; a context manager, which leaves FILE.part where it holds any."""

    def __init__(self, path: Path, files: Sequence[Path], made_by: Mapping[str, Any]) -> None:
        """Begin FILE.part, or take the captions that are in it, if they were `made_by` the same.

        Errors: GitbenchError where it cannot be written, was made by something else or is damaged; for .json, two files
        with one id.
        """
        self.path, self.part = path, path.with_name(f"{path.name}.part")
        self.files = list(dict.fromkeys(files))
        self.ids = coco_ids(self.files) if path.suffix == ".json" else {file: _utf8(file) for file in self.files}
        if path.is_dir():
            raise GitbenchError(f"{path} is a folder: name a file")
        make_dir(path.parent)
        heading = _line(made_by).encode(errors="backslashreplace")  # a path that is no UTF-8
        with explain_os_errors(self.part):
            held = self.part.read_bytes() if self.part.exists() else b""
            lines = held.split(b"\n")[:-1]  # what follows the last is half a line
            if lines and lines[0] != heading:
                raise GitbenchError(
                    f"{self.part} holds what was captioned so far with other weights or options: remove it, or name another "
                    "file"
                )
            found = self._found(lines[1:])
            with open(self.part, "ab") as part:
                part.truncate(sum(len(line) + 1 for line in lines))
                part.write(b"" if lines else heading + b"\n")
        self.captions = {file: found[name] for file in self.files if (name := _utf8(os.path.abspath(file))) in found}

    def _found(self, lines: Sequence[bytes]) -> dict[str, str]:
        try:
            return {name: text for name, text in map(json.loads, lines)}
        except (ValueError, TypeError):
            raise GitbenchError(f"{self.part} is damaged: remove it and run again") from None

    def __enter__(self) -> CaptionFile:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.captions:
            self.part.unlink()

    @property
    def left(self) -> list[Path]:
        """The files that have no caption yet, in order."""
        return [file for file in self.files if file not in self.captions]

    def add(self, file: Path, caption: str) -> None:
        """Write a caption to FILE.part."""
        with explain_os_errors(self.part), open(self.part, "ab") as part:
            part.write(_line([_utf8(os.path.abspath(file)), caption]).encode() + b"\n")
        self.captions[file] = caption

    def finish(self, question: str | None = None) -> None:
        """Write FILE, in the order of the files, in place of FILE.part; `question` is what captions answer."""
        rows = [(self.ids[file], self.captions[file]) for file in self.files if file in self.captions]
        if self.path.suffix == ".json":
            write_json(self.path, [{"image_id": name, "caption": text} for name, text in rows])
        else:
            asked = {} if question is None else {"prefix": question}
            lines = [_line({"image_id": name, "caption": text, **asked}) for name, text in rows]
            write_text(self.path, "".join(f"{line}\n" for line in lines))
        self.captions = {}


def coco_ids(files: Sequence[Path]) -> dict[Path, int | str]:
    """Return what COCO calls the images of files: the number at the end of a name, as in COCO_val2014_000000391895.jpg.

    A name without one is the id itself. Errors: GitbenchError for two files with one id.
    """
    found: dict[Path, int | str] = {}
    owners: dict[int | str, Path] = {}
    for file in files:
        number = re.search(r"[0-9]+$", file.stem)
        name = int(number[0]) if number else _utf8(file.stem)
        if name in owners:
            raise GitbenchError(
                f"{owners[name]} and {file} are both image {name} to COCO: write JSON lines (.jsonl) instead"
            )
        found[file], owners[name] = name, file
    return found


def _utf8(name: str | Path) -> str:
    """Return a file's name as text; bytes of it that are no UTF-8 are written out, as in caf\\xe9.png."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
