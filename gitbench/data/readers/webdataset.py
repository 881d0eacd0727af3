"""WebDataset: tar shards (`train-000000.tar`, `00000.tar`), in the folder or in a folder a split; img2dataset writes such.

Members of one stem, the path up to the first dot of the name, are a sample: an image (jpg, jpeg, png, webp) with `txt` (its
caption), `json` (an object whose keys are columns, see `gitbench.data.columns`) or `cls` (its class: a text, or a number of
a line of `classnames.txt` beside the shards). Nothing is unpacked: images are read from where they lie in the archive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gitbench.data.columns import NEEDED, columns_of
from gitbench.data.items import Loaded, Part, Place, beside_images, read_lines
from gitbench.data.shards import is_shard, samples_of
from gitbench.data.splits import word_in
from gitbench.data.tables import captions_in, of_rows
from gitbench.errors import GitbenchError

NEEDS = {task: "tar shards of WebDataset, whose samples are an image and a txt, json or cls" for task in NEEDED}
COLUMNS = True


def fits(place: Place) -> bool:
    return bool(_shards(place.folder))


def parts(place: Place) -> list[Part]:
    by_split: dict[str, list[Path]] = {}
    for path, split in _shards(place.folder).items():
        if path.suffix != ".tar":
            raise GitbenchError(
                f"{path} is compressed, so that no image can be read on its own: unpack it to a plain .tar"
            )
        by_split.setdefault(split, []).append(path)
    return [
        Part(files=tuple(files), load=partial(_load, place, files, split), split=split)
        for split, files in by_split.items()
    ]


def _shards(folder: Path) -> dict[Path, str]:
    """Return the shards, each with the word of its split: its own, else its folder's, else ""."""
    below = [path for path in beside_images(folder) if path.is_dir() and (word_in(path.name) or path.name == "data")]
    found = {}
    for place in (folder, *below):
        archives = sorted((*place.glob("*.tar"), *place.glob("*.tar.*"), *place.glob("*.tgz")))
        kinds = {path: is_shard(path) for path in archives}
        for path in archives if any(kinds.values()) else ():
            if kinds[path] is not False:  # beside shards, a damaged archive is one
                own = word_in(path.name.split(".")[0])
                found[path] = own or (word_in(place.name) if place != folder else None) or ""
    return found


def _load(place: Place, files: Sequence[Path], split: str) -> Loaded:
    where = f"{place.where} ({split})" if split else place.where
    samples: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in files:
        for stem, sample in samples_of(path).items():
            if stem in samples:
                raise GitbenchError(
                    f"{where}: {samples[stem][0].name} and {path.name} both have a sample {stem}: name one anew"
                )
            samples[stem] = (path, sample)
    pictures = [sample.pop("image") for _, sample in samples.values()]
    rows = [{**sample, "image": stem, "__key__": stem} for stem, (_, sample) in samples.items()]
    places = [f"{path}, sample {stem}" for stem, (path, _) in samples.items()]
    names = list(dict.fromkeys(name for row in rows for name in row))
    chosen = columns_of(names, place.task, place.address.columns, where, pixels=["image"])
    if chosen.image_id is None:
        chosen = dataclasses.replace(chosen, image_id="__key__")
    listed = place.folder / "classnames.txt"
    classes = read_lines(listed) if chosen.label == "cls" and listed.is_file() else None
    loaded = of_rows(place, rows, chosen, where, split, lambda number, *_: pictures[number], classes, places)
    if "txt" in names and place.task == "caption" and "captions" not in place.address.columns:
        _refuse_two_captions(rows, chosen.captions, places)
    return loaded


def _refuse_two_captions(rows: Sequence[dict[str, Any]], captions: Sequence[str], places: Sequence[str]) -> None:
    """Refuse samples whose txt says something else than the captions in their json: which is meant?"""
    for row, where in zip(rows, places, strict=True):
        said = [text for name in captions for text in captions_in(row.get(name))]
        if row.get("txt") and row["txt"] not in said:
            name = captions[0]
            raise GitbenchError(f"{where}: its txt and its {name} differ: say which with --columns captions={name}")
