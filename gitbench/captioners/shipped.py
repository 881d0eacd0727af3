"""Captioners that ship, each a folder beside this file that `gitbench export` wrote: weights are named by a path or by its name."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CONTENTS = {"scenes-captioner": "3aff34cfaf6aa74c7becc2d755d204f0827f19115831a5388af1413b81bfc697"}  # name -> SHA-256 of model.safetensors


def weights_at(path: Path) -> Path:
    """Return the folder of a captioner that ships, for its name where nothing lies under it; any other path as it is."""
    return FOLDER / path if not path.exists() and str(path) in CONTENTS else path
