"""ICDAR's word recognition in its own files (Karatzas et al. 2013 and 2015): cut-out words, and what they say in a text file.

A line of `gt.txt` in the folder of the images, or of `Challenge4_Test_Task3_GT.txt` beside it, is `word_1.png, "Text"`, with
`\\"` for a quotation mark. The names of folder or file state train and test (`TrainingSet/`, `ch4_training_word_images_gt/`).
"""

from __future__ import annotations

import re
from pathlib import Path

from gitbench.data.items import Item, Loaded, Part, Place, beside_images, file_parts, read_lines
from gitbench.data.splits import word_in
from gitbench.errors import GitbenchError

NEEDS = {"read": "ICDAR's gt.txt in the folders of its images of words, or Challenge4_Test_Task3_GT.txt beside them"}
_NAME = re.compile(r"gt\.txt|Challenge\d_\w+_Task3_GT\.txt", re.IGNORECASE)
_LINE = re.compile(r'([^,"]+\.\w+)\s*,\s*"(.*)"')


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    return file_parts(place, _files(place), _load, "hold words of the same images")


def _files(place: Place) -> dict[str, list[Path]]:
    """Return split word -> files of words, in the folder and in those below it; "" where no name says a split."""
    homes = [place.folder, *(path for path in beside_images(place.folder) if path.is_dir())]
    found: dict[str, list[Path]] = {}
    for path in (path for home in homes for path in beside_images(home) if _NAME.fullmatch(path.name)):
        above = "" if path.parent == place.folder else path.parent.name
        if _LINE.fullmatch(read_lines(path)[0]):  # and not the boxes of other tasks
            found.setdefault(word_in(path.stem) or word_in(above) or "", []).append(path)
    return found


def _load(place: Place, path: Path, split: str) -> Loaded:
    subfolder = str(path.parent.relative_to(place.folder))
    items = []
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}, line {number}"
        found = _LINE.fullmatch(line)
        if found is None:
            raise GitbenchError(f"{where}: '{line}' is no word of ICDAR: write NAME.png, \"TEXT\"")
        name, text = found[1], re.sub(r'\\(["\\])', r"\1", found[2])
        picture = place.picture(name, split, subfolder)
        items.append(
            Item(image_id=name, captions=(text,), where=where, picture=picture, key=name.encode(), split=split)
        )
    return Loaded(items=items)
