"""Constants: weights, pixels and ids that are the same on every machine, made of integers alone.

A hash of whole numbers, divided by a power of two: no random generator, whose numbers a library may change, and no function
of a mathematical library, which rounds as it likes. All are exact in float32, too.

N images of H x W pixels, M texts of T tokens.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

STEPS = 512  # different absolute values


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers from -1 to below 1, multiples of 1 / STEPS, irregular; those of each name are others. float64."""
    count = int(np.prod(shape, dtype=np.int64))
    mixed = np.arange(count, dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()))
    for factor in (0x2C1B3C6D, 0x297A2D39):  # an integer hash; products stay below 2 ** 64
        mixed = (mixed ^ (mixed >> np.uint64(15))) & np.uint64(0xFFFFFFFF)
        mixed = (mixed * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    mixed ^= mixed >> np.uint64(15)
    return ((mixed % np.uint64(2 * STEPS)).astype(np.float64) - STEPS).reshape(shape) / STEPS


def whole(name: str, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """Return whole numbers from `low` to below `high`, irregular: int64."""
    steps = ((noise(name, shape) + 1) * STEPS).astype(np.int64)
    return low + steps * (high - low) // (2 * STEPS)


def constant(name: str, shape: tuple[int, ...], size: float = 0.5) -> Tensor:
    """Return a parameter's constant value by its name: weights of norms around 1, all others around 0. float64."""
    value = torch.from_numpy(noise(name, shape)) * size
    return value + 1 if len(shape) == 1 and name.endswith("weight") else value


def fill(model: nn.Module, size: float = 0.5) -> None:
    """Give every parameter of a model its constant value."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(constant(name, tuple(parameter.shape), size))


def filled(state: Mapping[str, Tensor], size: float = 0.5) -> dict[str, Tensor]:
    """Return a state dict with the same names and shapes, and constant values by these names."""
    return {name: constant(name, tuple(value.shape), size) for name, value in state.items()}


def pictures(*shape: int, name: str = "pictures") -> Tensor:
    """Return normalised pixels, (..., 3, H, W) float64."""
    return 2 * torch.from_numpy(noise(name, shape))


def photograph(name: str, height: int, width: int) -> np.ndarray:
    """Return a picture, uint8 (H, W, 3): its channels are a ramp, stripes and noise, so that any two exchanged ones show."""
    rows, columns = np.mgrid[0:height, 0:width]
    red, green = 255 * rows // max(1, height - 1), 40 + 160 * (columns // 3 % 2)
    blue = whole(name, (height, width), 0, 256)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def texts(count: int, length: int, vocabulary: int, bos: int, eos: int) -> tuple[Tensor, Tensor]:
    """Return texts of different lengths (M, T), padded with 0 at the end, and what of them is predicted (M, T).

    Each is [CLS], ids from 3 on, [SEP]; every other one has a given part of two ids, which is not predicted.
    """
    tokens = torch.from_numpy(whole("texts", (count, length), 3, vocabulary))
    predicted = torch.zeros(count, length, dtype=torch.bool)
    tokens[:, 0] = bos
    for row in range(count):
        end = length - 1 - (row * 2) % (length - 4)
        tokens[row, end], tokens[row, end + 1 :] = eos, 0
        predicted[row, 1 + 2 * (row % 2) : end + 1] = True
    return tokens, predicted
