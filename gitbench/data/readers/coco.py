"""COCO layout: a folder `images/` and caption JSON, in one of three forms.

1. One file per split: `train.json`, `captions_train2017.json`, ... (also in `annotations/`), as COCO publishes them.
2. One file whose images carry `split`, as Karpathy's `dataset_coco.json` (restval counts as train) or COCO's form
   with that field, when train, val and test are all there.
3. One file without usable splits: divided by the images' file names (see `photos.divided`).

Images are looked for in `images/`, in `images/<split folder>/`, and in the folder itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gitbench.data.base import SPLITS
from gitbench.data.photos import (
    SPLIT_OF,
    PhotoFileSource,
    Row,
    divided,
    read_texts_file,
    shared_file,
    split_file,
)
from gitbench.errors import GitbenchError

NEEDS = {"caption": "images/ with captions.json"}
_PER_SPLIT = ("{}.json", "captions_{}.json", "captions_{}[0-9_-]*.json")
_SHARED = ("captions.json", "annotations.json", "dataset.json", "dataset_coco.json", "dataset_flickr*.json")
_SPLIT_OF = SPLIT_OF | {"restval": "train"}  # Karpathy's word for training images that were COCO's validation


def fits(folder: Path, task: str) -> bool:
    return any(_caption_file(folder, split) for split in SPLITS)


def open_split(folder: Path, split: str, limit: int | None, task: str) -> CocoSource:
    return CocoSource(folder, split, limit, _caption_file(folder, split))


def _caption_file(folder: Path, split: str) -> Path | None:
    """Return the caption file of a split: its own, or where no split has one, that of all splits."""
    if any(split_file(folder, name, _PER_SPLIT) for name in SPLITS):
        return split_file(folder, split, _PER_SPLIT)
    return shared_file(folder, _SHARED)


class CocoSource(PhotoFileSource):
    """One split of a COCO folder."""

    def load_rows(self) -> list[Row]:
        path = self.text_file
        content = read_texts_file(path)
        try:
            images = content["images"]
            by_image: dict[Any, list[object]] = {}
            for note in content.get("annotations", ()):
                by_image.setdefault(note["image_id"], []).append(note["caption"])
            rows = [_row(image, by_image, path) for image in images]
        except (KeyError, TypeError, AttributeError) as error:
            fix = "it needs 'images' and 'annotations', or Karpathy's 'sentences'"
            raise GitbenchError(f"{path} is not a COCO caption file ({type(error).__name__}: {error}): {fix}") from None
        if path != shared_file(self.folder, _SHARED):
            return rows
        told = [_SPLIT_OF.get(str(image.get("split"))) for image in images]
        if not set(SPLITS) <= set(told):
            keys = [Path(row.file).name.encode() for row in rows]
            told = list(map(divided(keys, str(path)).get, keys))
        return [row for row, split in zip(rows, told, strict=True) if split == self.split]


def _row(image: dict[str, Any], by_image: dict[Any, list[object]], path: Path) -> Row:
    name = str(image["file_name"] if "file_name" in image else image["filename"])
    own = image.get("cocoid", image.get("id", image.get("imgid", name)))
    karpathy = "sentences" in image
    said = [sentence["raw"] for sentence in image["sentences"]] if karpathy else by_image.get(image["id"], [])
    return Row(
        image_id=str(own),
        texts=tuple(said),
        where=f"{path}, image {name}",
        file=name,
        subfolder=str(image.get("filepath", "")),
    )
