"""Where things are, read from the patch tokens of the encoders that ship in their order, and of the same before training.

    python docs/tools/places.py        (ten minutes of one core)

The probe of place on the encoders' page reads class token and mean patch, which hold no order. This one is the same
regression on all patch tokens one after another. Prints a share right for each encoder; `reports/results/encoders/failed.md`
has the numbers.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from gitbench.data.cache import decoded_split
from gitbench.data.tasks import open_task
from gitbench.encoders.manifest import FOLDER, manifest
from gitbench.models.encoder import ImageEncoder
from gitbench.models.init import initial_value, initialise
from gitbench.spec import TaskSpec
from gitbench.training.caption_model import ImagePreprocessor
from gitbench.training.encoder_init import encoder_weights
from gitbench.training.probes import BATCH, SCENES, Quality, probed


@torch.no_grad()
def in_order(encoder: nn.Module, images: np.ndarray) -> torch.Tensor:
    """Return the patch tokens of stored images (N, S, S, 3), one after another: (N, patches x D)."""
    prepare, pixels = ImagePreprocessor().normalised, torch.from_numpy(images).movedim(-1, 1)
    return torch.cat([encoder(prepare(batch))[:, 1:].flatten(1).float() for batch in pixels.split(BATCH)])


def main() -> None:
    """Print the shares."""
    quality = functools.cache(lambda pixels: Quality(pixels))
    for name, entry in manifest().items():
        size = entry.encoder
        place = next(probe for probe in quality(size.image_size).probes if probe.name == "place")
        scenes = decoded_split(open_task("scenes", "val", SCENES, TaskSpec(name="caption")), size.image_size)
        images, classes = np.array(scenes[place.images]), torch.from_numpy(place.classes)
        before, trained = ImageEncoder(size).eval(), ImageEncoder(size).eval()
        initialise(before, 0, lambda key, shape, generator: initial_value(f"encoder.{key}", shape, generator))
        trained.load_state_dict(encoder_weights(str(FOLDER / f"{name}.safetensors"), size))
        right = [probed(in_order(one, images), classes, place.trained).float().mean() for one in (trained, before)]
        print(f"{name}: {100 * right[0]:.1f} %, before training {100 * right[1]:.1f} %", flush=True)


if __name__ == "__main__":
    main()
