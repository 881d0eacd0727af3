"""Flickr8k and Flickr30k as their authors publish them: a line a caption, `NAME.jpg#2<tab>A girl in a pink dress .`

Files: `Flickr8k.token.txt` or `results_20130124.token`, in the folder or one below, and images anywhere below. Lists
of names beside it (`Flickr_8k.trainImages.txt`, `...devImages.txt`, `...testImages.txt`) say the splits; images in none are
left out.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from gitbench.data.items import Loaded, Part, Place, beside_images, read_lines, sole
from gitbench.data.splits import word_in
from gitbench.errors import GitbenchError
from gitbench.formats import plural

NEEDS = {"caption": "Flickr8k.token.txt with image files"}
_LINE = re.compile(r"(?P<name>.+)#\d+\t(?P<caption>.*)")
_FILES = re.compile(r"(Flickr8k\.token\.txt|results_\d+\.token)", re.IGNORECASE)


def fits(place: Place) -> bool:
    return bool(_token_files(place.folder))


def parts(place: Place) -> list[Part]:
    files = _token_files(place.folder)
    path = sole(place, files)
    lists = {each: word for each in sorted(path.parent.glob("*Images.txt")) if (word := word_in(each.stem))}
    return [Part(files=(path, *lists), load=partial(_load, place, path, lists), images=True)]


def _token_files(folder: Path) -> list[Path]:
    """Return the files of captions in a folder and in those below it."""
    places = [folder, *(path for path in beside_images(folder) if path.is_dir())]
    return [path for place in places for path in sorted(place.glob("*.token*")) if _FILES.fullmatch(path.name)]


def _load(place: Place, path: Path, lists: dict[Path, str]) -> Loaded:
    split_of_name: dict[str, str] = {}
    for file, word in lists.items():
        for name in filter(None, read_lines(file)):
            if split_of_name.setdefault(name, word) != word:
                raise GitbenchError(f"{file}: {name} is in the list of {split_of_name[name]} too: leave it in one")
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines(path), 1):
        found = _LINE.fullmatch(line)
        if found is None and line.strip():
            raise GitbenchError(f"{path}, line {number}: write a caption as NAME#NUMBER, a tab and the text")
        if found:
            captions.setdefault(found["name"], []).append(found["caption"])
    listed = [name for name in captions if not lists or name in split_of_name]
    left_out = len(captions) - len(listed)
    notes = (f"{path.name}: {plural(left_out, 'image')} in no list of a split left out",) if left_out else ()
    items = [
        place.item(name, f"{path}, image {name}", split_of_name.get(name, ""), captions=tuple(captions[name]))
        for name in listed
    ]
    return Loaded(items=items, notes=notes)
