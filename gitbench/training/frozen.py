"""A frozen image encoder: never trained, never in training mode, and every image goes through it once.

What an image becomes does not depend on its batch, so that reuse changes nothing: on the CPU images are encoded one at a
time, with reuse and without (matrix products of other shapes add in another order); on GPUs always as whole batches.

N images, S tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from gitbench.models.encoder import ImageEncoder
from gitbench.variants.encoder import EncoderSpec

FEATURE_LIMIT = 2 * 2**30  # bytes of features held; images beyond it are encoded each time


class FrozenEncoder(ImageEncoder):
    """`ImageEncoder` with the same parameters under the same names, none of which has a gradient.

    Features are reused only within `known`, which says which images a batch holds.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__(spec)
        self.requires_grad_(False)
        self.features: dict[tuple[str, int], Tensor] = {}  # (set of images, number in it) -> (S, D)
        self._batch: list[tuple[str, int]] | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module.features.clear())  # of the old weights
        self.eval()

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stay in eval mode, whatever the model around it does."""
        return super().train(False)

    @contextmanager
    def known(self, image_set: str | None, indices: Sequence[int]) -> Iterator[None]:
        """Say that the next images are numbers `indices` of `image_set`; None (augmented images) reuses nothing."""
        if image_set is not None:
            self._batch = [(image_set, index) for index in indices]
        try:
            yield
        finally:
            self._batch = None

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Encode or look up images (N, 3, H, W): (N, S, D), without gradient."""
        names = self._batch
        if names is None or len(names) != len(images):
            return self._encode(images)
        missing = [row for row, name in enumerate(names) if name not in self.features]
        if not missing:
            return torch.stack([self.features[name] for name in names])
        if images.device.type == "cpu":
            made = dict(zip(missing, self._encode(images[missing]), strict=True))
        else:  # the whole batch, so that a resumed run computes in the same shapes as an undisturbed one
            made = dict(enumerate(self._encode(images)))
        rows = [made[row] if row in made else self.features[name] for row, name in enumerate(names)]
        for row in missing:
            if (len(self.features) + 1) * made[row].nbytes <= FEATURE_LIMIT:
                self.features[names[row]] = made[row].clone()  # not a view, which would keep its whole batch
        return torch.stack(rows)

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        if images.device.type != "cpu":
            return super().forward(images)
        return torch.cat([super(FrozenEncoder, self).forward(image[None]) for image in images])
