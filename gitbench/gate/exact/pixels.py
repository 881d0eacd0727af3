"""Pixels: photographs and scenes as evaluation and as training see them, up to what an image encoder reads.

Pillow resizes in whole numbers, so pixels are compared exactly, by sums and a hash.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

from gitbench.data.image_processor import (
    huggingface_processor,
    official_processor,
    random_crop,
    square_processor,
    stored_size,
)
from gitbench.data.random_stream import Stream
from gitbench.data.scenes.world import Scenes
from gitbench.files import write_json
from gitbench.gate.exact.constant import photograph
from gitbench.gate.exact.subject import Place
from gitbench.gate.exact.values import Values
from gitbench.training.caption_model import ImagePreprocessor

PROCESSOR = {
    "size": {"shortest_edge": 20},
    "crop_size": {"height": 18, "width": 16},
    "image_mean": [0.25, 0.5, 0.75],
    "image_std": [0.5, 0.25, 0.125],
    "resample": 2,
}


def add(values: Values, place: Place) -> None:
    """Add what becomes of pixels."""
    wide, tall = photograph("wide", 30, 47), photograph("tall", 53, 32)
    for name, image in (("wide", wide), ("tall", tall)):
        values.equal(f"a {name} photograph, resized and cropped to 24 px", told(square_processor(24).resized(image)))
    values.near("a photograph, normalised", _few(square_processor(24).pixels(wide)), precision="float32")
    _processors(values, place, wide)
    square = square_processor(stored_size(24, (0.5, 1.0))).resized(tall)
    crops = [told(random_crop(square, 24, (0.5, 1.0), Stream("crop", 3, number))) for number in range(3)]
    values.equal("random crops by sample number", crops)
    values.equal(
        "sides at which images are stored", [stored_size(64, scale) for scale in (None, (0.9, 1.0), (0.2, 1.0))]
    )
    _scenes(values)
    batch = torch.from_numpy(np.stack([square_processor(16).resized(image) for image in (wide, tall)]))
    made = ImagePreprocessor()({"images": batch.movedim(-1, -3).contiguous(), "image_ids": ["wide", "tall"]})
    values.near("pixels as the image encoder reads them", _few(made["images"].numpy()), precision="float32")


def told(image: np.ndarray) -> dict[str, Any]:
    """Return what tells uint8 pixels (..., H, W, 3) from others: shape, the sums of their channels, a hash."""
    return {
        "shape": list(image.shape),
        "sums": image.reshape(-1, image.shape[-1]).astype(np.int64).sum(0).tolist(),
        "hash": hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16],
    }


def _few(pixels: np.ndarray) -> np.ndarray:
    """Return the means and some entries of the channels of normalised pixels (..., 3, H, W)."""
    channels = np.moveaxis(pixels.astype(np.float64), -3, 0)
    return np.concatenate([channels.reshape(3, -1).mean(1), channels.reshape(3, -1)[:, ::97].reshape(-1)])


def _processors(values: Values, place: Place, image: np.ndarray) -> None:
    """Add how the processors of the two published implementations treat a photograph."""
    for name, parameters in (("official", {}), ("official, of questions", {"test_respect_ratio_max": 30})):
        rule = official_processor({"test_crop_size": 24, **parameters}, 16)
        values.equal(f"a photograph, {name}", [rule.target(30, 47), rule.target(300, 40), told(rule.resized(image))])
    write_json(place.folder / "preprocessor_config.json", PROCESSOR)
    rule = huggingface_processor(place.folder, 16)
    values.equal("a photograph, Hugging Face", told(rule.resized(image)))
    values.near("a photograph, Hugging Face, normalised", _few(rule.pixels(image)), precision="float32")


def _scenes(values: Values) -> None:
    """Add scenes, still and moving: pixels, texts and graphs."""
    still, moving = Scenes("scenes", "train", 4), Scenes("scenes-motion", "val", 2)
    values.equal("scenes", [told(still.image(index)) for index in range(3)])
    values.equal("a scene at 24 px", told(still.render(1, 24)))
    values.equal("captions of a scene", [*still.example(1).captions, still.ceiling_caption(1)])
    asked = [[each.text, each.answer] for each in still.example(1).questions]
    values.equal("questions about a scene", asked)
    graph = still.example(1).graph
    values.equal(
        "facts of a scene", {kind: sorted(map(list, facts)) for kind, facts in graph.facts().items()} if graph else {}
    )
    values.equal("frames of a film in their order", [told(frame) for frame in moving.frames(0, 4, 24)])
    values.equal("captions of a film", list(moving.example(0).captions))
