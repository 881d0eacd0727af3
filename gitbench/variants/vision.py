"""What the model is shown: the image, a spoilt one, or nothing. "blind" is the floor that every report carries.

The blurred ones are effects planted by construction: of "blurred" no shape, word or count is left, which must cost; of
"unharmed" a pixel takes 0.03 % of each neighbour's value, which moves no score, but makes the run one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from gitbench.axis import Axis


@dataclass(frozen=True, kw_only=True)
class VisionSpec:
    """What the model sees: the image, a blurred one, or nothing (the blind floor, every pixel at the mean)."""

    blind: bool = False
    blur: float = 0.0  # sigma of a Gaussian in pixels of the model's image; 0: as it is


AXIS = Axis(
    name="vision",
    spec=VisionSpec,
    doc="what the model is shown",
    default="sighted",
    variants={
        "sighted": VisionSpec(),
        "blind": VisionSpec(blind=True),
        "blurred": VisionSpec(blur=16.0),
        "unharmed": VisionSpec(blur=0.25),
    },
)
