"""Random crops for training, and the size at which images are kept for them. Pillow's bicubic, as in the official code.

* In training, as the official example: a random square crop of `crop_scale` of the area, resized bicubic; no flip,
  because captions say left and right. Without `crop_scale` the test transform is used, `image_processor`'s square.
* Known gap: the official crop is drawn from the whole photograph, and is the centre square where no square of that
  area fits (at 4:3, any of 75 % of the area or more). Here it is always drawn from the centre square, so that images
  can be decoded once and kept as squares.

Normalisation is done by the model on its device; images stay uint8 until then (a quarter of the bytes to move).
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from gitbench.data.random_stream import Stream

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MOST_STORED = 1.15  # stored side at most, relative to the image size


def stored_size(image_size: int, crop_scale: tuple[float, float] | None) -> int:
    """Return the side at which training images are kept.

    With random crops, the smallest crop should still have `image_size` pixels, else it would be enlarged and blurred:
    image_size / sqrt(smallest area). Beyond 1.15 times the image size the memory costs more than the blur.
    """
    if crop_scale is None:
        return image_size
    return min(math.ceil(image_size / math.sqrt(crop_scale[0])), math.ceil(MOST_STORED * image_size))


def random_crop(image: np.ndarray, size: int, crop_scale: tuple[float, float], stream: Stream) -> np.ndarray:
    """Cut a random square that covers a share of the area, resize it bicubic: (S, S, 3) -> (size, size, 3) uint8."""
    full = image.shape[0]
    side = min(full, max(1, round(full * math.sqrt(stream.uniform(*crop_scale)))))
    left, top = stream.integer(full - side + 1), stream.integer(full - side + 1)
    cut = image[top : top + side, left : left + side]
    if side == size:
        return cut
    # cut before resizing: Pillow's box argument would let pixels from outside the crop in at its edges
    return np.asarray(Image.fromarray(np.ascontiguousarray(cut)).resize((size, size), Image.Resampling.BICUBIC))
