"""COCO layout: a folder `images/` and caption JSON, in one of three forms.

1. One file per split: `train.json`, `captions_train2017.json`, ... (also in `annotations/`), as COCO publishes them.
2. One file whose images carry `split`, as Karpathy's `dataset_coco.json` (restval counts as train) or COCO's form
   with that field, when train, val and test are all there.
3. One file without usable splits: divided 80/10/10 by a hash of the image's file name: adding images moves none.

Images are looked for in `images/`, in `images/<split folder>/`, and in the folder itself.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from gitbench.data.base import SPLITS
from gitbench.data.photos import (
    SPLIT_WORDS,
    PhotoFileSource,
    Row,
    no_split,
    read_texts_file,
    shared_file,
    split_by_hash,
    split_file,
)
from gitbench.errors import GitbenchError

NEEDS = {"caption": "images/ with captions.json"}
_PER_SPLIT = ("{}.json", "captions_{}.json", "captions_{}[0-9_-]*.json")
_SHARED = ("captions.json", "annotations.json", "dataset.json", "dataset_coco.json", "dataset_flickr*.json")
_SPLIT_OF = {word: split for split, words in SPLIT_WORDS.items() for word in words} | {"restval": "train"}


def fits(folder: Path, task: str) -> bool:
    """Tell whether a folder has a caption file, of one split or of all."""
    return shared_file(folder, _SHARED) is not None or any(split_file(folder, name, _PER_SPLIT) for name in SPLITS)


def open_split(folder: Path, split: str, limit: int | None, task: str) -> CocoSource:
    """Open a split of a folder in COCO layout."""
    if split_file(folder, split, _PER_SPLIT) is None and any(split_file(folder, name, _PER_SPLIT) for name in SPLITS):
        raise no_split(folder, split, f"{split}.json")
    return CocoSource(folder, split, limit)


class CocoSource(PhotoFileSource):
    """One split of a COCO folder."""

    @property
    def text_file(self) -> Path:
        path = split_file(self.folder, self.split, _PER_SPLIT) or shared_file(self.folder, _SHARED)
        assert path is not None, "open_split has looked"
        return path

    @cached_property
    def _images(self) -> list[tuple[dict[str, Any], tuple[object, ...]]]:
        """The images of the split with their captions, in the file's order."""
        path = self.text_file
        content = read_texts_file(path)
        try:
            images = content["images"]
            by_image: dict[Any, list[object]] = {}
            for note in content.get("annotations", ()):
                by_image.setdefault(note["image_id"], []).append(note["caption"])
            pairs = [(image, _captions(image, by_image)) for image in images]
            names = [_file_name(image) for image in images]
        except (KeyError, TypeError, AttributeError) as error:
            fix = "it needs 'images' and 'annotations', or Karpathy's 'sentences'"
            raise GitbenchError(f"{path} is not a COCO caption file ({type(error).__name__}: {error}): {fix}") from None
        if path == split_file(self.folder, self.split, _PER_SPLIT):
            return pairs
        told = [_SPLIT_OF.get(str(image.get("split"))) for image in images]
        splits = told if set(SPLITS) <= set(told) else [split_by_hash(Path(name).name.encode()) for name in names]
        return [pair for pair, split in zip(pairs, splits, strict=True) if split == self.split]

    def load_rows(self) -> list[Row]:
        path = self.text_file
        rows = []
        for image, captions in self._images:
            name = _file_name(image)
            own = image.get("cocoid", image.get("id", image.get("imgid", name)))
            rows.append(Row(image_id=str(own), captions=captions, where=f"{path}, image {name}"))
        return rows

    def candidates(self, index: int) -> list[Path]:
        image = self._images[index][0]
        name, below = _file_name(image), str(image.get("filepath", ""))
        told = [self.folder / "images" / name, self.folder / "images" / below / name, self.folder / below / name]
        return told + [place / name for place in self.image_folders]


def _file_name(image: dict[str, Any]) -> str:
    return str(image["file_name"] if "file_name" in image else image["filename"])


def _captions(image: dict[str, Any], by_image: dict[Any, list[object]]) -> tuple[object, ...]:
    if "sentences" in image:
        return tuple(sentence["raw"] for sentence in image["sentences"])
    return tuple(by_image.get(image["id"], ()))
