"""A contact sheet of scenes with what is said about them: `gitbench scenes --show 16 --out scenes.png`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gitbench.data import open_source
from gitbench.data.sheet import check_format, draw_sheet
from gitbench.errors import GitbenchError


def draw_contact_sheet(count: int, split: str, out: Path, size: int = 64, data: str = "scenes") -> None:
    """Draw the first `count` scenes of a split of `data`, at `size` pixels each as a model sees them, with three captions.

    Writes `out` atomically; its suffix decides the format.
    """
    if count < 1:
        raise GitbenchError(f"--show {count}: show at least 1 scene")
    if not 16 <= size <= 1024:
        raise GitbenchError(f"--size {size}: scenes are drawn at 16 to 1024 pixels")
    check_format(out)
    source: Any = open_source(data, split, count)
    draw_sheet([(source.render(place, size), source.example(place).captions) for place in range(count)], out)
