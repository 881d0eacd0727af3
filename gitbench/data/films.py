"""Films as files: which frames of one are seen, decoded by OpenCV with FFmpeg.

A film is cut into F parts of equal length and the middle frame of each is taken, in training and in evaluation: of n frames,
number floor((i + 1/2) n / F). The official code has no sampling of its own (it gets frames); the paper samples 6 frames of
equal distance. A film of fewer frames than F repeats some. Frames are counted by decoding: what a film's head says is not
always true.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from gitbench.errors import GitbenchError

FILM_SUFFIXES = frozenset(
    (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".ogv", ".3gp")
)
_WHOLE = 0.9  # a film that ends before this share of the frames that its head promises is cut short


def film_frames(path: Path, count: int, where: str) -> np.ndarray:
    """Return `count` equally spaced frames of a film: uint8 (F, H, W, 3), RGB, upright.

    Errors: GitbenchError that names `where` for a film that cannot be decoded, or is cut short.
    """
    total = _total(path, where)
    numbers = [(2 * place + 1) * total // (2 * count) for place in range(count)]
    found = dict(_decoded(path, set(numbers)))
    if missing := [number for number in numbers if number not in found]:
        raise GitbenchError(f"{where}: frame {missing[0]} of the film {path} cannot be decoded: replace or remove it")
    return np.stack([found[number] for number in numbers])


def _total(path: Path, where: str) -> int:
    """Return how many frames a film has, by going through it."""
    import cv2

    film = _opened(path)
    told, total = film.get(cv2.CAP_PROP_FRAME_COUNT), 0
    while film.grab():
        total += 1
    film.release()
    if not total:
        raise GitbenchError(f"{where}: the film {path} cannot be decoded: replace or remove it")
    if total < _WHOLE * told:
        text = f"the film {path} is cut short, after {total} of {told:.0f} frames"
        raise GitbenchError(f"{where}: {text}: replace or remove it")
    return total


def _decoded(path: Path, wanted: set[int]) -> list[tuple[int, np.ndarray]]:
    """Return the wanted frames of a film with their numbers, as far as they can be decoded."""
    import cv2

    film, found = _opened(path), []
    for number in range(max(wanted) + 1):
        if not film.grab():
            break
        if number in wanted:
            whole, frame = film.retrieve()
            if whole:
                found.append((number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
    film.release()
    return found


def _opened(path: Path) -> Any:
    """Open a film through FFmpeg, which OpenCV brings along, without words of theirs on stderr: errors are ours, in one line."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when FFmpeg is first used
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
