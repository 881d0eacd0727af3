"""Folders in the layouts of published sets, a few items each, for tests: photographs and films of noise at any path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers_data import SPLITS, opened, photo

from gitbench.spec import TaskSpec


def put(folder: Path, numbers: dict[str, int]) -> Path:
    """Write photographs: path below the folder -> number of the photograph."""
    for name, number in numbers.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(number))
    return folder


def write(folder: Path, name: str, content: Any) -> None:
    """Write a JSON file below the folder."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def said(images: dict[int, str], captions: int = 2, **more: Any) -> dict[str, Any]:
    """Return COCO's captions of images: id -> file name."""
    listed = [{"id": number, "file_name": name, **more} for number, name in images.items()]
    notes = [{"id": 10 * number + k, "image_id": number, "caption": f"caption {k} of {number}"}
             for number in images for k in range(captions)]  # fmt: skip
    return {"info": {}, "licenses": [], "images": listed, "annotations": notes}


def ids(folder: Path | str, task: TaskSpec | None = None) -> dict[str, list[str]]:
    """Return split -> ids of its images."""
    sources = {split: opened(folder, split, task=task) for split in SPLITS}  # type: ignore[arg-type]
    return {split: [source.image_id(index) for index in range(len(source))] for split, source in sources.items()}
