"""Caption image files with the weights of a finished run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from gitbench.data.photos import decode_image, read_image_file
from gitbench.data.transforms import centre_square
from gitbench.training.run import load_run


def caption_files(paths: list[Path], weights: Path, beam_size: int) -> Iterator[tuple[Path, str]]:
    """Yield (path, caption) of each image, in order. Errors: one line for unreadable images and weights."""
    model, tokenizer = load_run(weights)
    size = model.git.encoder.spec.image_size
    for path in paths:
        photograph = decode_image(read_image_file(path, str(path)), str(path))
        pixels = torch.from_numpy(centre_square(photograph, size).copy()).permute(2, 0, 1)[None]
        images = model.data_preprocessor({"images": pixels})["images"]
        with torch.inference_mode():
            sequences, _ = model.git.generate(images, **{**model.generation, "beam_size": beam_size})
        yield path, tokenizer.decode(sequences[0].tolist())
