"""VATEX in its own files (Wang et al. 2019): films of ten seconds with ten English captions each.

`vatex_training_v1.0.json`, `vatex_validation_v1.0.json` and `vatex_public_test_english_v1.1.json`: lists of {videoID, enCap};
their Chinese captions (`chCap`) are not read. A film is `VIDEOID.mp4`. The captions of the private test set are hidden: it
is not looked at.
"""

from __future__ import annotations

import re
from pathlib import Path

from gitbench.data.items import Loaded, Part, Place, file_parts, read_texts_file, split_files, taken_for
from gitbench.data.splits import word_in

NEEDS = {"video": "films with VATEX's vatex_training_v1.0.json and its files of validation and of the public test"}
_NAME = re.compile(r"vatex_(training|validation|public_test)\w*(\.\d+)*\.json", re.IGNORECASE)


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    return file_parts(place, _files(place), _load, "hold captions of the same films")


def _files(place: Place) -> dict[str, list[Path]]:
    return split_files(place, lambda path: word_in(path.stem) if _NAME.fullmatch(path.name) else None)


def _load(place: Place, path: Path, split: str) -> Loaded:
    with taken_for(path, "a file of VATEX", "a list of {videoID, enCap}"):
        films = [(film["videoID"], tuple(film["enCap"])) for film in read_texts_file(path)]
        return Loaded(items=[place.item(name, f"{path}, film {name}", split, captions=said) for name, said in films])
