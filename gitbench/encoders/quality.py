"""What is known of how good an encoder is: shares right of probes and of retrieval, and when two encoders are equal.

The numbers are in an encoder's notes: one point at the start, which is the floor (random values), and eight on the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gitbench.errors import GitbenchError

MEASURED = ("shape", "colour", "count", "place", "size", "texture", "objects", "word", "retrieval")
# Fifty numbers are compared at once: at three standard errors one of them is called worse by chance in 1 check of 15.
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


def differences(here: Mapping[str, Any], shipped: Mapping[str, Any]) -> list[Difference]:
    """Compare the notes of two encoders of one recipe, share by share.

    Each share may be lower by three binomial standard errors of a difference.
    Errors: an encoder whose quality was not measured.
    """
    ours, theirs = final(here), final(shipped)
    if not ours or ours.keys() != theirs.keys():
        raise GitbenchError("the quality of an encoder was not measured: make it again with `gitbench pretrain`")
    found = []
    for name, share in ours.items():
        variances = (
            one[name] * (1 - one[name]) / notes["tested"][name] for one, notes in ((ours, here), (theirs, shipped))
        )
        tolerance = STANDARD_ERRORS * math.sqrt(sum(variances))
        found.append(Difference(measured=name, here=share, shipped=theirs[name], tolerance=tolerance))
    return found


def _shares(point: Mapping[str, Any]) -> dict[str, float]:
    return {name: point[name] for name in MEASURED if name in point}
