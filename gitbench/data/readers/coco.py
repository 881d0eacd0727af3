"""COCO layout: caption JSON, and image files anywhere below the folder.

1. One file per split: `train.json`, `captions_train2017.json`, ... (also in `annotations/`), as COCO publishes them.
2. One file for all (`captions.json`, `annotations.json`, `dataset.json`), whose images may carry `split`.
3. Karpathy's `dataset_coco.json`, `dataset_flickr30k.json`, ...: images with `sentences`, `split` and `filepath`.
4. nocaps: `nocaps_val_4500_captions.json`, and `nocaps_test_image_info.json`, whose captions are hidden.

Captions that VizWiz marks `is_rejected` or `is_precanned` are left out, as its own evaluation does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gitbench.data.items import (
    Item,
    Loaded,
    Part,
    Place,
    file_parts,
    first_of_list,
    read_texts_file,
    split_files,
    taken_for,
)
from gitbench.data.splits import word_in
from gitbench.errors import GitbenchError

NEEDS = {"caption": "image files with captions.json"}
_SHARED = ("captions.json", "annotations.json", "dataset.json")
# image_info: of test images, whose captions are hidden
_OF_SPLIT = re.compile(r"((captions|image_info)_)?[A-Za-z]+(-dev)?[_-]?\d*|nocaps_(val|test)_(\d+_captions|image_info)")


def fits(place: Place) -> bool:
    return bool(_files(place))


def parts(place: Place) -> list[Part]:
    # nocaps has infos of the images that have captions, too
    told = {
        split: [path for path in paths if "image_info" not in path.name] or paths
        for split, paths in _files(place).items()
    }
    return file_parts(place, told, _load, withheld=True)


def _files(place: Place) -> dict[str, list[Path]]:
    """Return split word -> caption files; "" for a file of all splits."""
    return split_files(place, _split_of_file)


def _split_of_file(path: Path) -> str | None:
    word = _word_of(path)
    return (
        word if word is not None and first_of_list(path) is None else None
    )  # a list of objects is a table, see `lists`


def _word_of(path: Path) -> str | None:
    if path.name in _SHARED or re.fullmatch(r"dataset_(coco|flickr)[a-z0-9]*\.json", path.name):
        return ""
    return word_in(path.stem) if path.suffix == ".json" and _OF_SPLIT.fullmatch(path.stem) else None


def _load(place: Place, path: Path, split: str) -> Loaded:
    content = read_texts_file(path)
    with taken_for(path, "a COCO caption file", "'images' and 'annotations', or Karpathy's 'sentences'"):
        images, notes = content["images"], content.get("annotations", ())
        used = [note for note in notes if not (note.get("is_rejected") or note.get("is_precanned"))]
        by_image: dict[str, list[object]] = {}
        for note in used:
            by_image.setdefault(str(note["image_id"]), []).append(note["caption"])
        items = [_item(place, image, by_image, path, split) for image in images]
        known = {str(image["id"]) for image in images if "id" in image}
    said: list[str] = []
    empty: list[Item] = []
    if strangers := sum(len(texts) for image, texts in by_image.items() if image not in known):
        if strangers == len(used):
            first = next(iter(by_image))
            raise GitbenchError(
                f"{path}: no caption belongs to an image (first image_id: {first}): match them with the ids"
            )
        said.append(f"{path.name}: {strangers} captions of images that it does not list are left out")
    if left_out := len(notes) - len(used):
        empty = [item for item in items if not item.has_texts]
        items = [item for item in items if item.has_texts]
        without = f", and {len(empty)} images that have no other" if empty else ""
        said.append(f"{path.name}: {left_out} captions marked as rejected or precanned are left out{without}")
    return Loaded(items=items, left_out=len(empty), notes=tuple(said))


def _item(place: Place, image: dict[str, Any], by_image: dict[str, list[object]], path: Path, split: str) -> Item:
    name = str(image["file_name"] if "file_name" in image else image["filename"])
    own = image.get("cocoid", image.get("id", image.get("imgid", name)))
    karpathy = "sentences" in image
    said = [sentence["raw"] for sentence in image["sentences"]] if karpathy else by_image.get(str(image["id"]), [])
    stated = str(image.get("split") or "")
    return Item(
        image_id=str(own),
        captions=tuple(said),
        where=f"{path}, image {name}",
        picture=place.picture(name, split or stated, str(image.get("filepath") or "")),
        key=Path(name).name.encode(),
        split=stated or split,
        domain=str(image.get("domain") or ""),
    )
