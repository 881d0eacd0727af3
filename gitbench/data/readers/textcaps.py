"""TextCaps in its own files (textvqa.org/textcaps): `TextCaps_0.1_train.json`, `..._val.json` and `..._test.json`.

{"data": [{image_id, caption_str, reference_strs, ...}]}, one row a caption; an image is the file whose stem is `image_id`, in
`train_images/` (of val too) or `test_images/`. `reference_strs` repeats all captions of the image in each of its rows, so it is
read once; without it the captions are those of the image's rows. The captions of test are hidden.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gitbench.data.items import Loaded, Part, Place, file_parts, read_texts_file, split_files, taken_for

NEEDS = {"caption": "TextCaps_0.1_train.json, TextCaps_0.1_val.json and TextCaps_0.1_test.json with image files"}
_NAME = re.compile(r"TextCaps_(?:[0-9.]+_)?(train|val|test)\.json")


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    return file_parts(place, _files(place), _load, withheld=True)


def _files(place: Place) -> dict[str, list[Path]]:
    return split_files(place, lambda path: named[1] if (named := _NAME.fullmatch(path.name)) else None)


def _load(place: Place, path: Path, split: str) -> Loaded:
    rows: dict[str, list[dict[str, Any]]] = {}
    with taken_for(path, "a file of TextCaps", "'data', a list of {image_id, caption_str}"):
        for row in read_texts_file(path)["data"]:
            rows.setdefault(str(row["image_id"]), []).append(row)
        said = [(image, _captions(group)) for image, group in rows.items()]
        return Loaded(items=[place.item(name, f"{path}, image {name}", split, captions=each) for name, each in said])


def _captions(rows: list[dict[str, Any]]) -> tuple[object, ...]:
    return tuple(rows[0].get("reference_strs") or [row["caption_str"] for row in rows if "caption_str" in row])
