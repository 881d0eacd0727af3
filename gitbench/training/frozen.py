"""A frozen image encoder: never trained, never in training mode, and on CPUs every image goes through it once.

What it makes of the images of a split is kept in the cache, for all runs whose encoder is the same: the first run that
needs it makes it, the others wait for it or find it, with the seconds it took. Each image is encoded by itself (matrix
products of other shapes add in another order; 1 and 2 threads were found to give the same bits), so that reuse changes
nothing. On GPUs a batch is encoded when it comes.

N images, S tokens, D width.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from gitbench.data.base import content_hash
from gitbench.data.cache import cached_array
from gitbench.files import load_json, local_cache_dir, write_json
from gitbench.machine import cpu_name
from gitbench.models.encoder import ImageEncoder
from gitbench.training.data import CaptionData
from gitbench.variants.encoder import EncoderSpec

FEATURE_LIMIT = 2 * 2**30  # bytes of features kept of a split; those of a larger one are made each time
CHUNK = 64  # images that are made ready at a time
FEATURES_VERSION = 2  # raise when the same encoder would make something else of an image


class FrozenEncoder(ImageEncoder):
    """`ImageEncoder` with the same parameters under the same names, none of which has a gradient.

    `features` holds what is kept, set of images -> float32 (images, S, D); it is used only within `known`, which says
    which images a batch holds.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__(spec)
        self.requires_grad_(False)
        self.features: dict[str, np.ndarray] = {}
        self._batch: tuple[str, list[int]] | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module.features.clear())  # of the old weights
        self.eval()

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stay in eval mode, whatever the model around it does."""
        return super().train(False)

    @contextmanager
    def known(self, image_set: str | None, numbers: Sequence[int]) -> Iterator[None]:
        """Say that the next images are `numbers` of `image_set`; None (augmented images) reuses nothing."""
        self._batch = None if image_set is None else (image_set, list(numbers))
        try:
            yield
        finally:
            self._batch = None

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Encode or look up images (N, 3, H, W): (N, S, D), without gradient."""
        if self._batch is not None:
            image_set, numbers = self._batch
            if image_set in self.features and len(numbers) == len(images):
                return torch.from_numpy(self.features[image_set][numbers])
        return self.encode(images)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, 3, H, W), on CPUs one at a time: (N, S, D)."""
        if images.device.type != "cpu":
            return super().forward(images)
        return torch.cat([super(FrozenEncoder, self).forward(image[None]) for image in images])

    def keep(self, dataset: CaptionData, prepare: Callable[[Tensor], Tensor]) -> float:
        """Keep what the encoder makes of a data set's images from now on; nothing on GPUs, of crops, or beyond the limit.

        prepare: uint8 pixels (N, 3, H, W) -> what the encoder reads, pixel by pixel. Call it when the encoder has its values.
        Returns the seconds that it took, in whichever run made it: 0 where nothing is kept, NaN where its note was lost.
        """
        name, device = dataset.image_set, self.pos_embed.device
        if name is None or device.type != "cpu":
            return 0.0
        images = dataset.images.reshape(-1, *dataset.images.shape[-3:])  # the frames of films one after the other
        shape = (len(images), self.pos_embed.shape[1], self.spec.width)
        if 4 * np.prod(shape, dtype=np.int64) > FEATURE_LIMIT:
            return 0.0
        path = local_cache_dir() / "features" / f"{name}-{self._key(dataset, prepare)}.npy"
        notes = path.with_suffix(".json")

        def parts() -> Iterator[np.ndarray]:
            began = time.monotonic()
            for start in range(0, len(images), CHUNK):
                pixels = torch.from_numpy(images[start : start + CHUNK].copy()).movedim(-1, -3)
                yield self.encode(prepare(pixels)).numpy()
            write_json(notes, {"seconds": time.monotonic() - began})  # before the array is there, under its lock

        self.features[name] = np.asarray(cached_array(path, shape, np.float32, parts))
        return (load_json(notes) or {}).get("seconds", math.nan)

    def _key(self, dataset: CaptionData, prepare: Callable[[Tensor], Tensor]) -> str:
        """Hash everything that decides the bits of a data set's features."""
        tensors = [(name, tensor.numpy().tobytes()) for name, tensor in sorted(self.state_dict().items())]
        levels = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, -1)  # every value that a pixel can have
        return content_hash(
            [
                json.dumps(dataclasses.asdict(self.spec), sort_keys=True),
                *(part for named in tensors for part in named),
                prepare(levels).numpy().tobytes(),
                f"{dataset.source.image_fingerprint()} {dataset.source.task.frames} {dataset.store_size}",
                f"{cpu_name()} {torch.__version__} {FEATURES_VERSION}",
            ]
        )[:20]
