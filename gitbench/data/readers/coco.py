"""COCO layout: a folder `images/` and caption JSON, in one of three forms.

1. One file per split: `train.json`, `captions_train2017.json`, ... (also in `annotations/`), as COCO publishes them.
2. One file whose images carry `split`, as Karpathy's `dataset_coco.json` (restval counts as train) or COCO's form
   with that field, when train, val and test are all there.
3. One file without usable splits: divided 80/10/10 by a hash of the image's file name: adding images moves none.

Images are looked for in `images/`, in `images/<split folder>/`, and in the folder itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from gitbench.data.readers.parquet import ALIASES
from gitbench.data.readers.photos import PhotoSource, Row, files_below, image_folders, read_image_file, split_by_hash
from gitbench.errors import GitbenchError

_SPLIT_NAMES = {name: split for split, names in ALIASES.items() for name in names} | {"restval": "train"}
_SINGLE = ("captions.json", "annotations.json", "dataset.json", "dataset_coco.json", "dataset_*.json")


def split_file(folder: Path, split: str) -> Path | None:
    """Return the caption file of one split, if the folder has one per split."""
    for place in (folder, folder / "annotations"):
        for name in ALIASES[split]:
            for pattern in (f"{name}.json", f"captions_{name}.json", f"captions_{name}[0-9_-]*.json"):
                found = sorted(place.glob(pattern))
                if found:
                    return found[-1]  # the newest year
    return None


def single_file(folder: Path) -> Path | None:
    """Return the caption file that holds all splits."""
    for place in (folder, folder / "annotations"):
        for pattern in _SINGLE:
            found = sorted(place.glob(pattern))
            if found:
                return found[0]
    return None


def hashed_split(file_name: str) -> str:
    """Return the split of an image by its file name: about 80 % train, 10 % val, 10 % test."""
    return split_by_hash(Path(file_name).name.encode())


class CocoSource(PhotoSource):
    """One split of a COCO folder."""

    @property
    def _json(self) -> tuple[Path, bool]:
        """The caption file, and whether it holds this split alone."""
        own = split_file(self.folder, self.split)
        if own:
            return own, True
        shared = single_file(self.folder)
        if shared is None:
            raise GitbenchError(f"{self.folder} has no caption file for {self.split}: add {self.split}.json")
        return shared, False

    def files(self) -> Iterable[Path]:
        images = self.folder / "images"
        return [self._json[0], *files_below(images if images.is_dir() else self.folder)]

    @cached_property
    def _images(self) -> list[tuple[dict[str, Any], tuple[object, ...]]]:
        """The images of the split with their captions, in the file's order."""
        path, alone = self._json
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            images = content["images"]
            by_image: dict[Any, list[object]] = {}
            for note in content.get("annotations", ()):
                by_image.setdefault(note["image_id"], []).append(note["caption"])
            pairs = [(image, _captions(image, by_image)) for image in images]
            names = [_file_name(image) for image in images]
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise GitbenchError(f"{path} is not whole JSON: write it again") from None
        except (KeyError, TypeError, AttributeError) as error:
            fix = "it needs 'images' and 'annotations', or Karpathy's 'sentences'"
            raise GitbenchError(f"{path} is not a COCO caption file ({type(error).__name__}: {error}): {fix}") from None
        if alone:
            return pairs
        told = [_SPLIT_NAMES.get(str(image.get("split"))) for image in images]
        if {"train", "val", "test"} <= set(told):
            return [pair for pair, split in zip(pairs, told, strict=True) if split == self.split]
        return [pair for pair, name in zip(pairs, names, strict=True) if hashed_split(name) == self.split]

    def load_rows(self) -> list[Row]:
        path = self._json[0]
        rows = []
        for image, captions in self._images:
            name = _file_name(image)
            own = image.get("cocoid", image.get("id", image.get("imgid", name)))
            rows.append(Row(image_id=str(own), captions=captions, where=f"{path}, image {name}"))
        return rows

    def _find(self, index: int) -> Path:
        """Return where an image lies; the first candidate if it lies nowhere."""
        image = self._images[index][0]
        name, below = _file_name(image), str(image.get("filepath", ""))
        candidates = [self.folder / "images" / name, self.folder / "images" / below / name, self.folder / below / name]
        candidates += [path / name for path in self._folders]
        return next((path for path in candidates if path.is_file()), candidates[0])

    @cached_property
    def _folders(self) -> list[Path]:
        return image_folders(self.folder)

    def raw_image(self, index: int) -> bytes:
        return read_image_file(self._find(index), self.rows[index].where)

    def check(self) -> None:
        """Check captions and ids, and that every image file is there."""
        super().check()
        for index, row in enumerate(self.rows):
            path = self._find(index)
            if not path.is_file():
                raise GitbenchError(f"{row.where}: image {path} is missing: add it or remove its row")


def _file_name(image: dict[str, Any]) -> str:
    return str(image["file_name"] if "file_name" in image else image["filename"])


def _captions(image: dict[str, Any], by_image: dict[Any, list[object]]) -> tuple[object, ...]:
    if "sentences" in image:
        return tuple(sentence["raw"] for sentence in image["sentences"])
    return tuple(by_image.get(image["id"], ()))
