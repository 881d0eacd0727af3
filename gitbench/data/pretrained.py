"""The note beside a pre-trained encoder in the cache: how long it took to make, and of what; read without torch.

`training.contrastive` writes `contrastive-<hash>.json` beside the weights of that name. Weights without a note have an
unknown cost.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from gitbench.files import load_json, write_json
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
    note = load_json(weights.with_suffix(".json"))
    seconds = note.get("seconds") if isinstance(note, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else None
