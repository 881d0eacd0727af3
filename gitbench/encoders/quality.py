"""What is known of how good an encoder is: shares right of probes and of retrieval, and when one is worse than another.

The numbers are in an encoder's notes: one point at the start, which is the floor (random values), and eight on the way.
Two encoders are compared by what is measured of both on the same images, not by their notes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MEASURED = ("shape", "colour", "count", "place", "size", "texture", "objects", "word", "retrieval")
# What another training of the same recipe may cost: a choice, until the spread of several is measured.
ALLOWANCE = 0.03
# Beside it, for the choice of images: some fifty shares are compared at once.
STANDARD_ERRORS = 3.0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One share right, of an encoder made here and of the one that ships, and how far they may be apart."""

    measured: str
    here: float
    shipped: float
    tolerance: float

    @property
    def worse(self) -> bool:
        return self.here < self.shipped - self.tolerance


def final(notes: Mapping[str, Any]) -> dict[str, float]:
    """Return what was measured last, in the order of `MEASURED`; nothing where nothing was."""
    return _shares(notes["points"][-1]) if notes["points"] else {}


def floor(notes: Mapping[str, Any]) -> dict[str, float]:
    """Return what was measured of the same encoder with its random initial values."""
    return _shares(notes["points"][0]) if notes["points"] else {}


def is_measured(notes: Mapping[str, Any]) -> bool:
    """Tell whether quality was measured from the random values to the last iteration."""
    at = [point["iteration"] for point in notes["points"]]
    return bool(at) and (at[0], at[-1]) == (0, notes["recipe"]["iterations"])


def differences(here: Mapping[str, np.ndarray], shipped: Mapping[str, np.ndarray]) -> list[Difference]:
    """Compare two encoders: what is measured -> whether each is right about each of the same test images, bool (n,).

    A share may be lower by `ALLOWANCE` and three standard errors of the mean of the paired differences.
    """
    found = []
    for name, ours in here.items():
        paired = ours.astype(float) - shipped[name]
        tolerance = ALLOWANCE + STANDARD_ERRORS * float(paired.std()) / math.sqrt(len(paired))
        shares = {"here": float(ours.mean()), "shipped": float(shipped[name].mean())}
        found.append(Difference(measured=name, tolerance=tolerance, **shares))
    return found


def _shares(point: Mapping[str, Any]) -> dict[str, float]:
    return {name: point[name] for name in MEASURED if name in point}
