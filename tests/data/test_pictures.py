"""From the bytes of an image file to pixels: orientation, and more than 8 bits a pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from helpers_errors import refused
from PIL import Image

from gitbench.data.pictures import decode_image


def stored(pixels: np.ndarray, kind: str, orientation: int = 1) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, kind, exif=exif.tobytes())
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright_as_the_datasets_library_does(orientation: int) -> None:
    import datasets

    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    data = stored(pixels, "PNG", orientation)
    expected = datasets.Image().decode_example({"bytes": data, "path": None}).convert("RGB")
    assert np.array_equal(decode_image(data, "here"), np.asarray(expected))
    assert np.array_equal(decode_image(data, "here", upright=False), pixels)  # as the official code


@pytest.mark.parametrize(
    ("kind", "number", "top"), [("PNG", np.uint16, 65535), ("TIFF", np.uint16, 65535), ("TIFF", np.float32, 1)]
)
def test_grey_images_of_more_bits_keep_their_shades(kind: str, number: type, top: int) -> None:
    ramp = np.tile(np.linspace(0, top, 256).astype(number), (4, 1))
    pixels = decode_image(stored(ramp, kind), "here")
    assert np.array_equal(pixels[0, :, 0], np.arange(256)) and pixels.shape == (4, 256, 3)
    turned = decode_image(stored(ramp, kind, 6), "here")
    assert turned.shape == (256, 4, 3)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.full((2, 2), 255, np.float32),
            "here: the image holds floats beyond 0 to 1, whose white is unknown: store it",
        ),
        (np.full((2, 2), -0.5, np.float32), "floats beyond 0 to 1"),
        (np.full((2, 2), np.nan, np.float32), "floats beyond 0 to 1"),
        (np.full((2, 2), 200, np.int32), "whole numbers of 32 bits, whose white is unknown"),
    ],
)
def test_images_whose_white_is_unknown_are_refused(pixels: np.ndarray, message: str) -> None:
    with refused(message):
        decode_image(stored(pixels, "TIFF"), "here")
