"""Captioners that ship, each in a folder beside this file that `gitbench export` wrote."""

from __future__ import annotations

from pathlib import Path

from gitbench.errors import GitbenchError

FOLDER = Path(__file__).resolve().parent
CONTENTS = {  # name -> SHA-256 of model.safetensors
    "scenes-captioner": "3aff34cfaf6aa74c7becc2d755d204f0827f19115831a5388af1413b81bfc697",
}


def weights_at(path: Path) -> Path:
    """Return the folder of the captioner that ships under this name, unless something else lies there; else the path as it is."""
    return FOLDER / path if str(path) in CONTENTS and not path.exists() else path


def existing_weights(path: Path) -> Path:
    """Return the path of weights, or of a captioner that ships. Errors: GitbenchError where there is neither."""
    if not (found := weights_at(path)).exists():
        raise GitbenchError(
            f"{path} does not exist: pass the folder of a finished run, or of a downloaded checkpoint, or "
            f"{', '.join(CONTENTS)}, which ships"
        )
    return found
