"""Captions of made-up systems: references from a few words, and captions that are a reference with words exchanged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

SAID = "a red blue small large dog cat ball on under near the green grass house runs sits jumps with"
WORDS = SAID.split()


def references_of(images: int, seed: int = 0) -> dict[str, list[str]]:
    """Return three references an image, of 5 to 9 words."""
    rng = np.random.default_rng(seed)
    return {str(image): [" ".join(rng.choice(WORDS, rng.integers(5, 10))) for _ in range(3)] for image in range(images)}


def system(references: dict[str, list[str]], wrong: float, seed: int) -> dict[str, str]:
    """Caption each image by its first reference, each word exchanged with probability `wrong`."""
    rng = np.random.default_rng(seed)
    said = {}
    for image, texts in references.items():
        words = [str(rng.choice(WORDS)) if rng.random() < wrong else word for word in texts[0].split()]
        said[image] = " ".join(words)
    return said


def write_lines(path: Path, rows: list[dict]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_system(path: Path, captions: dict[str, str], references: dict[str, list[str]] | None = None) -> Path:
    """Write captions as JSON lines, with their references where given."""
    beside = {image: {"references": texts} for image, texts in (references or {}).items()}
    rows = [{"image_id": image, "caption": text, **beside.get(image, {})} for image, text in captions.items()]
    return write_lines(path, rows)
