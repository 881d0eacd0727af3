"""The captioner that ships: its content, its name wherever weights are named, and what it says."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gitbench.captioners.shipped import CONTENTS, FOLDER, weights_at

NAME = "scenes-captioner"


def test_what_ships_is_what_was_made_and_small() -> None:
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(CONTENTS)
    for name, content in CONTENTS.items():
        assert hashlib.sha256((FOLDER / name / "model.safetensors").read_bytes()).hexdigest() == content
        assert sum(file.stat().st_size for file in (FOLDER / name).iterdir()) < 4_000_000
        assert "95 %" in (FOLDER / name / "README.md").read_text()
