"""Training images that lie on the GPU: what a batch brings there is which ones, and no process has to make it.

They are the data set's own uint8 pixels, taken and normalised there, so that a run has the same bits as with images that come
from the host. `gitbench.study.config` decides which runs have them: those on GPUs without random crops, of as many images as
fit `RESIDENT_LIMIT`.

n images, H x W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from mmengine.hooks import Hook

from gitbench.registry import HOOKS
from gitbench.training.distributed import captioner

CHUNK = 256  # images that are copied at a time


@HOOKS.register_module()
class ResidentImagesHook(Hook):
    """Before training, give the model the pixels that its batches come without, if they do; after it, give back their memory."""

    priority = "VERY_HIGH"  # so that their copying does not count as training

    def before_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        preprocess, data = captioner(runner).data_preprocessor, runner.train_dataloader.dataset
        if not data.pixels:
            preprocess.resident = {data.image_set: copied(data.images, preprocess.device)}

    def after_train(self, runner) -> None:  # type: ignore[no-untyped-def]
        captioner(runner).data_preprocessor.resident = {}


def copied(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return stored images, uint8 (n, H, W, 3) or of films (n, F, H, W, 3), on a device."""
    made = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), CHUNK):
        made[start : start + CHUNK] = torch.from_numpy(
            images[start : start + CHUNK].copy()
        )  # a memory map is read-only
    return made
