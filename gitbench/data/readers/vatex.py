"""VATEX in its own files (Wang et al. 2019): films of ten seconds with ten English captions each.

`vatex_training_v1.0.json`, `vatex_validation_v1.0.json` and `vatex_public_test_english_v1.1.json`: lists of {videoID, enCap};
their Chinese captions (`chCap`) are not read. A film is `VIDEOID.mp4`. The captions of the private test set are hidden: it
is not looked at.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from gitbench.data.items import Item, Loaded, Part, Place, read_texts_file, sole, split_files
from gitbench.data.splits import word_in
from gitbench.errors import GitbenchError

NEEDS = {"video": "films with VATEX's vatex_training_v1.0.json and its files of validation and of the public test"}
_NAME = re.compile(r"vatex_(training|validation|public_test)\w*(\.\d+)*\.json", re.IGNORECASE)


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    found = []
    for split, paths in _files(place).items():
        path = sole(place, paths, "hold captions of the same films")
        load = partial(_load, place, path, split)
        found.append(Part(files=(path,), load=load, split=split, images=True))
    return found


def _files(place: Place) -> dict[str, list[Path]]:
    return split_files(place, lambda path: word_in(path.stem) if _NAME.fullmatch(path.name) else None)


def _load(place: Place, path: Path, split: str) -> Loaded:
    try:
        items = [
            Item(
                image_id=film["videoID"],
                captions=tuple(film["enCap"]),
                where=f"{path}, film {film['videoID']}",
                picture=place.picture(film["videoID"], split),
                key=film["videoID"].encode(),
            )
            for film in read_texts_file(path)
        ]
    except (KeyError, TypeError, AttributeError) as error:
        fix = "it needs a list of {videoID, enCap}"
        raise GitbenchError(f"{path} is not a file of VATEX ({type(error).__name__}: {error}): {fix}") from None
    return Loaded(items=items)
