"""A frozen image encoder: never trained, never in training mode, and every image of a split goes through it once.

On CPUs what it makes of the images of a split is kept in the cache, for all runs whose encoder is the same: the first run
that needs it makes it, the others wait for it or find it, with the seconds it took. Each image is encoded by itself (matrix
products of other shapes add in another order; 1 and 2 threads were found to give the same bits), so that reuse changes
nothing.

On a GPU a run makes it when it starts and keeps it there, in the precision that the run computes in: of training images
that of training, of validation images float32. What is beyond the limit is encoded when it comes. Batches have one size and
follow the order of the data set, so that a resumed run makes the same bits.

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
from gitbench.training.device import autocast, on_device
from gitbench.variants.encoder import EncoderSpec

FEATURE_LIMIT = 2 * 2**30  # bytes of features kept of a split: on CPUs all of it or nothing, on GPUs its first images
CHUNK = 64  # images that are made ready at a time
FEATURES_VERSION = 2  # raise when the same encoder would make something else of an image

Prepare = Callable[[Tensor], Tensor]  # uint8 pixels (N, 3, H, W) -> what the encoder reads, pixel by pixel
Key = tuple[str | None, torch.dtype]  # a set of images, and the type in which the decoder would get its features


class FrozenEncoder(ImageEncoder):
    """`ImageEncoder` with the same parameters under the same names, none of which has a gradient.

    `features` holds what is kept, of a set of images the first: (images, S, D), on a GPU a tensor there. It is used only
    within `known`, which says which images a batch holds.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__(spec)
        self.requires_grad_(False)
        self.features: dict[Key, np.ndarray | Tensor] = {}
        self._batch: tuple[str | None, list[int]] = (None, [])
        self.register_load_state_dict_post_hook(lambda module, _: module.features.clear())  # of the old weights
        self.eval()

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stay in eval mode, whatever the model around it does."""
        return super().train(False)

    @contextmanager
    def known(self, image_set: str | None, numbers: Sequence[int]) -> Iterator[None]:
        """Say that the next images are `numbers` of `image_set`; None (augmented images) reuses nothing."""
        self._batch = (image_set, list(numbers))
        try:
            yield
        finally:
            self._batch = (None, [])

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Encode or look up images (N, 3, H, W): (N, S, D), without gradient."""
        image_set, numbers = self._batch
        kept = self.features.get((image_set, self._type()))
        if kept is None or len(numbers) != len(images):
            return self.encode(images)
        if isinstance(kept, np.ndarray):
            return torch.from_numpy(kept[numbers])
        found = kept[on_device(kept.device, [min(number, len(kept) - 1) for number in numbers])]
        if places := [place for place, number in enumerate(numbers) if number >= len(kept)]:
            missing = on_device(kept.device, places)
            found.index_copy_(0, missing, self.encode(images[missing]).to(found.dtype))
        return found

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (N, 3, H, W), on CPUs one at a time: (N, S, D)."""
        if images.device.type != "cpu":
            return super().forward(images)
        return torch.cat([super(FrozenEncoder, self).forward(image[None]) for image in images])

    def _type(self) -> torch.dtype:
        """Return the type in which a decoder gets the features now: that of autocast where it is on."""
        device = self.pos_embed.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32

    def keep(self, dataset: CaptionData, prepare: Prepare, precision: str = "float32") -> float:
        """Keep what the encoder makes of a data set's images from now on; nothing of crops, or (on CPUs) beyond the limit.

        `precision` is the one in which the images will be asked for. Call it when the encoder has its values.
        Returns the seconds that it took, in whichever run made it: 0 where nothing is kept, NaN where its note was lost.
        """
        name, device = dataset.image_set, self.pos_embed.device
        if name is None:
            return 0.0
        images = dataset.images.reshape(-1, *dataset.images.shape[-3:])  # the frames of films one after the other
        shape = (len(images), self.pos_embed.shape[1], self.spec.width)
        if device.type != "cpu":
            return self._keep_on_device(name, images, prepare, precision)
        if 4 * np.prod(shape, dtype=np.int64) > FEATURE_LIMIT:
            return 0.0
        path = local_cache_dir() / "features" / f"{name}-{self._key(dataset, prepare)}.npy"
        notes = path.with_suffix(".json")

        def parts() -> Iterator[np.ndarray]:
            began = time.monotonic()
            for pixels in _chunks(images):
                yield self.encode(prepare(pixels)).numpy()
            write_json(notes, {"seconds": time.monotonic() - began})  # before the array is there, under its lock

        self.features[name, torch.float32] = np.asarray(cached_array(path, shape, np.float32, parts))
        return (load_json(notes) or {}).get("seconds", math.nan)

    def _keep_on_device(self, name: str, images: np.ndarray, prepare: Prepare, precision: str) -> float:
        """Encode the first images of a set, as many as the limit allows, and keep them there; returns the seconds."""
        began, device, dtype = time.monotonic(), self.pos_embed.device, getattr(torch, precision)
        tokens, width = self.pos_embed.shape[1], self.spec.width
        count = min(len(images), FEATURE_LIMIT // (dtype.itemsize * tokens * width) // CHUNK * CHUNK)
        if not count:
            return 0.0
        kept = torch.empty(count, tokens, width, dtype=dtype, device=device)
        with autocast(device.type, precision):
            for start, pixels in enumerate(_chunks(images[:count])):
                kept[start * CHUNK : (start + 1) * CHUNK] = self.encode(prepare(pixels))
        self.features[name, dtype] = kept
        kept[-1, 0, 0].item()  # waits for what is measured
        return time.monotonic() - began

    def _key(self, dataset: CaptionData, prepare: Prepare) -> str:
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


def _chunks(images: np.ndarray) -> Iterator[Tensor]:
    """Yield stored images (n, S, S, 3) as uint8 (N, 3, S, S), in order."""
    for start in range(0, len(images), CHUNK):
        yield torch.from_numpy(images[start : start + CHUNK].copy()).movedim(-1, -3)
