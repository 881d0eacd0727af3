"""MSVD in its own files (Chen and Dolan 2011): `AllVideoDescriptions.txt`, and films of some seconds in `YouTubeClips/`.

A line is the name of a clip and one of its about forty captions; lines with # are remarks. Names may have the ending of a
film. Splits are those of Venugopalan et
al. 2015 (1,200, 100 and 670 clips): `train_list.txt`, `val_list.txt` and `test_list.txt` with a clip a line; or, where
`youtube_mapping.txt` numbers the clips (`CLIP vid7`), its first 1,200, the next 100 and the others. A film has the name of its
clip or its number.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from gitbench.data.films import FILM_SUFFIXES
from gitbench.data.items import Item, Loaded, Part, Place, read_lines, sole, split_files
from gitbench.errors import GitbenchError

NEEDS = {"video": "films with MSVD's AllVideoDescriptions.txt, and train_list.txt, val_list.txt and test_list.txt"}
_LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
_TRAIN, _VAL = 1200, 1300  # the last numbers of train and val


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    path = sole(place, _files(place), "describe the same films")
    beside = [path.with_name(name) for name in (*_LISTS.values(), "youtube_mapping.txt")]
    files = (path, *(file for file in beside if file.is_file()))
    return [Part(files=files, load=partial(_load, place, path), images=True)]


def _files(place: Place) -> list[Path]:
    return split_files(place, lambda path: "" if path.name == "AllVideoDescriptions.txt" else None).get("", [])


def _load(place: Place, path: Path) -> Loaded:
    captions: dict[str, list[object]] = {}
    for line in _lines(path):
        clip, _, text = line.partition(" ")
        captions.setdefault(_bare(clip), []).append(text)
    mapping = [line.partition(" ") for line in _lines(path, "youtube_mapping.txt")]
    numbers = {_bare(clip): _bare(name) for clip, _, name in mapping}
    splits = _splits(path, numbers)
    left_out = [clip for clip in captions if splits and clip not in splits]
    stems = {film.stem for film in place.images.paths}
    items = [
        Item(
            image_id=clip,
            captions=tuple(said),
            where=f"{path}, clip {clip}",
            picture=place.picture(clip if clip in stems else numbers.get(clip, clip), splits.get(clip, "")),
            key=clip.encode(),
            split=splits.get(clip, ""),
        )
        for clip, said in captions.items()
        if not splits or clip in splits
    ]
    notes = (f"{path.name}: {len(left_out)} clips that are in no split are left out",) if left_out else ()
    return Loaded(items=items, notes=notes)


def _lines(path: Path, name: str = "") -> list[str]:
    """Return the lines of a file, or of that called `name` beside it, without remarks; [] where it is not there."""
    path = path.with_name(name) if name else path
    lines = read_lines(path) if path.is_file() else []
    return [line for line in lines if line and not line.startswith("#")]


def _bare(name: str) -> str:
    """Return the name of a clip without the ending of a film."""
    stem, dot, ending = name.rpartition(".")
    return stem if dot + ending.lower() in FILM_SUFFIXES else name


def _splits(path: Path, numbers: dict[str, str]) -> dict[str, str]:
    """Return clip -> split, as lists or else numbers say it. Errors: a clip in two lists, a number that is none."""
    found: dict[str, str] = {}
    for split, name in _LISTS.items():
        for clip in map(_bare, _lines(path, name)):
            if found.setdefault(clip, split) != split:
                raise GitbenchError(f"{path.parent}: clip {clip} is in {_LISTS[found[clip]]} and in {name}: leave one")
    for clip, name in numbers.items() if not found else ():
        if not (number := re.fullmatch(r"vid(\d+)", name)):
            raise GitbenchError(f"{path.with_name('youtube_mapping.txt')}: '{clip} {name}' is not 'CLIP vidNUMBER'")
        found[clip] = "train" if int(number[1]) <= _TRAIN else "val" if int(number[1]) <= _VAL else "test"
    return found
