"""The note beside a pre-trained encoder in the cache: how long it took to make, and of what; read without torch.

`training.contrastive` writes it. An estimate counts weights without a note as still to be made.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gitbench.files import cache_dir, load_json, write_json
from gitbench.spec import ContrastiveSpec, DataSpec, TextSpec
from gitbench.variants.encoder import EncoderSpec


def description(
    encoder: EncoderSpec, recipe: ContrastiveSpec, data_spec: DataSpec, text: TextSpec, *, data: str, seed: int
) -> dict[str, Any]:
    """Say what a pre-trained encoder is of, as JSON values; `data` is the fingerprint of the training split."""
    values = {
        "encoder": dataclasses.asdict(encoder),
        "recipe": dataclasses.asdict(recipe),
        "image_size": data_spec.image_size,
        "crop_scale": data_spec.crop_scale,
        "text": [text.vocab_size, text.max_tokens],
        "data": data,
        "seed": seed,
    }
    return json.loads(json.dumps(values))


def write_note(weights: Path, seconds: float | None, of: dict[str, Any]) -> None:
    """Write the note of a file of weights, before the file itself takes its name."""
    write_json(weights.with_suffix(".json"), {"seconds": seconds, "of": of})


def noted_seconds(weights: Path) -> float | None:
    """Return what a file of weights took to make; None where there is no whole note."""
    return (load_json(weights.with_suffix(".json")) or {}).get("seconds")


def kept() -> Iterator[tuple[dict[str, Any], float]]:
    """Yield (description, seconds) of every pre-trained encoder in the cache that has a note."""
    for weights in sorted((cache_dir() / "encoders").glob("contrastive-*.pth")):
        seconds = noted_seconds(weights)
        if seconds is not None:
            yield load_json(weights.with_suffix(".json"))["of"], seconds
