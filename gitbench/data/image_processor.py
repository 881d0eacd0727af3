"""From photographs to pixels: how a checkpoint wants them (size, crop, normalisation), and random crops for training.

* gitbench and most official models: short side to `size` (bicubic), centre crop of that size, CLIP's mean and std.
* Official VQA and TextVQA models (`test_respect_ratio_max` in parameter.yaml): short side to `size` unless the long one
  would pass the limit, then the long side to the limit; the aspect stays and nothing is cropped.
* Hugging Face: preprocessor_config.json, or the `image_processor` in processor_config.json. Its converted VQA models
  crop where the official ones do not; each is followed as it stands.
* Training crops, as the official example: a random square of `crop_scale` of the area, resized bicubic, never flipped.
  Known gap: the official crop is drawn from the whole photograph, and is the centre square where none of that area fits
  (at 4:3, from 75 % of the area up). Here it is always drawn from the centre square, so images are kept as squares.

* Photographs are turned upright by their EXIF orientation, as `datasets` and transformers do; the official code does not
  look at it, and so neither does what captions with an official checkpoint.

Pillow resizes throughout, as the official code does; Hugging Face's torchvision backend differs from it by up to 0.015
after normalisation, its Pillow backend by nothing. H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gitbench.data.random_stream import Stream
from gitbench.errors import GitbenchError
from gitbench.files import read_json

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
TO_ONE = 1 / 255  # from pixels of a photograph to numbers up to 1
MOST_STORED = 1.15  # stored side at most, relative to the image size
BICUBIC = int(Image.Resampling.BICUBIC)
# What is read of a parameter.yaml, and the least value that makes sense.
_PARAMETERS = {"test_crop_size": 1, "test_respect_ratio_max": 1, "num_image_with_embedding": 0}


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """From a photograph to the encoder's input."""

    size: int | tuple[int, int] | None  # the short side, or height and width whatever the aspect; None: not resized
    longest: int | None = None  # the long side's limit, where `size` is the short side
    crop: tuple[int, int] | None = None  # height and width of the centre that is kept
    resample: int = BICUBIC  # Pillow's number
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    upright: bool = True  # turned as the EXIF orientation says, before all else

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """Resize, crop and normalise: uint8 (H, W, 3) -> float32 (3, H', W')."""
        scale = np.float32(255)
        mean, std = (np.asarray(values, np.float32) * scale for values in (self.mean, self.std))
        return ((self.resized(image).astype(np.float32) - mean) / std).transpose(2, 0, 1)

    def resized(self, image: np.ndarray) -> np.ndarray:
        """Resize and crop: uint8 (H, W, 3) -> uint8 (H', W', 3)."""
        height, width = self.target(*image.shape[:2])
        picture = Image.fromarray(image)
        if (height, width) != image.shape[:2]:
            picture = picture.resize((width, height), Image.Resampling(self.resample))
        if self.crop:
            left, top = round((width - self.crop[1]) / 2.0), round((height - self.crop[0]) / 2.0)
            picture = picture.crop((left, top, left + self.crop[1], top + self.crop[0]))  # black where there is nothing
        return np.asarray(picture)

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that a photograph is resized to, before any crop."""
        if self.size is None:
            return height, width
        if isinstance(self.size, tuple):
            return self.size
        size, short, long = self.size, min(height, width), max(height, width)
        if self.longest and long / short * size > self.longest:
            size = max(1, round(self.longest * short / long))
        scaled = int(size * long / short)  # rounded down, as the official code and torchvision do
        return (scaled, size) if width <= height else (size, scaled)


def square_processor(size: int) -> ImageProcessor:
    """The short side to `size`, then the centre square."""
    return ImageProcessor(size=size, crop=(size, size))


def folders_of(file: Path) -> list[Path]:
    """Return where lies what belongs to a file of weights: in its folder, of a release's `snapshot` in the one above, too."""
    return [file.parent, file.parent.parent] if file.parent.name == "snapshot" else [file.parent]


def official_parameters(file: Path) -> dict[str, Any]:
    """Read the parameter.yaml beside an official checkpoint (or above its `snapshot` folder); {} where there is none."""
    import yaml

    path = next((found for folder in folders_of(file) if (found := folder / "parameter.yaml").is_file()), None)
    if path is None:
        return {}
    fix = "take it from the release again"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        values = {name: value for name, value in values.items() if value is not None}
    except (yaml.YAMLError, OSError, UnicodeDecodeError, AttributeError) as error:
        raise GitbenchError(f"{path} cannot be read ({type(error).__name__}): {fix}") from None
    for name, least in _PARAMETERS.items():
        value = values.get(name, least)
        if not isinstance(value, int) or value < least:
            raise GitbenchError(f"{path}: {name} is {value!r}, no whole number from {least} up: {fix}")
    return values


def official_processor(parameters: Mapping[str, Any], size: int) -> ImageProcessor:
    """What an official parameter.yaml says; `size` where it names none."""
    size = parameters.get("test_crop_size", size)
    if "test_respect_ratio_max" in parameters:
        return ImageProcessor(size=size, longest=parameters["test_respect_ratio_max"], upright=False)
    return ImageProcessor(size=size, crop=(size, size), upright=False)


def huggingface_processor(folder: Path, size: int) -> ImageProcessor:
    """Follow the image processor that `save_pretrained` left in a folder; without one, `square_processor(size)`."""
    for name, part in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        path = folder / name
        values = read_json(path) if path.is_file() else None
        if part and isinstance(values, dict):
            values = values.get(part)
        try:
            if values is not None:
                found = _from_processor(values)
                if values.get("do_rescale", True) and math.isclose(
                    values.get("rescale_factor", TO_ONE), TO_ONE, rel_tol=1e-6
                ):
                    return found
                raise GitbenchError(
                    f"{path} does not scale pixels from 0..255 to 0..1 (do_rescale, rescale_factor), as it is done here: "
                    "choose another checkpoint, or mend it"
                )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise GitbenchError(f"{path} states no image size, crop or mean that can be followed: mend it") from None
    return square_processor(size)


def _from_processor(values: Mapping[str, Any]) -> ImageProcessor:
    size, longest, crop = values.get("size"), None, values.get("crop_size")
    if isinstance(size, Mapping):
        longest = size.get("longest_edge")
        size = size["shortest_edge"] if "shortest_edge" in size else (size["height"], size["width"])
    if isinstance(crop, Mapping):
        crop = crop["height"], crop["width"]
    elif crop is not None:
        crop = crop, crop
    mean, std = values.get("image_mean", CLIP_MEAN), values.get("image_std", CLIP_STD)
    if not values.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    if not values.get("do_resize", True):
        size = longest = None
    elif size is None:
        raise KeyError("size")
    given = [*(size if isinstance(size, tuple) else (size,)), *(crop or ()), longest]
    if (
        not all(value is None or isinstance(value, int) and value > 0 for value in given)
        or not len(mean) == len(std) == 3
    ):
        raise ValueError
    return ImageProcessor(
        size=size,
        longest=longest,
        crop=crop if values.get("do_center_crop", crop is not None) else None,
        resample=int(Image.Resampling(values.get("resample", BICUBIC))),
        mean=tuple(float(value) for value in mean),
        std=tuple(float(value) for value in std),
    )


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
