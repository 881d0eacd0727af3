"""Folders in the layouts of published sets, a few items each, for tests: photographs and films of noise at any path."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from helpers_data import SPLITS, opened, photo

from gitbench.spec import TaskSpec

os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # as `films` sets it, but before the first film is written


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


def film(path: Path, frames: int = 12, size: tuple[int, int] = (64, 48), codec: str = "MJPG") -> Path:
    """Write a film whose frame k of n is grey all over, of value 20 k, with a red left half where k is even."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10.0, size)
    assert writer.isOpened()
    for number in range(frames):
        frame = np.full((size[1], size[0], 3), 20 * number, dtype=np.uint8)
        if number % 2 == 0:
            frame[:, : size[0] // 2] = (0, 0, 255)  # OpenCV writes blue, green, red
        writer.write(frame)
    writer.release()
    return path


def shown(frame: np.ndarray) -> int:
    """Return which frame of `film` an image is, after checking its colours."""
    number = round(float(frame[:, -frame.shape[1] // 4 :].mean()) / 20)
    left = frame[:, : frame.shape[1] // 4].reshape(-1, 3).mean(0)
    expected = (255, 0, 0) if number % 2 == 0 else (20 * number,) * 3
    assert np.abs(left - expected).max() < 12
    return number
