"""What the model is shown: the image, or nothing. "blind" is the floor that every report carries."""

from __future__ import annotations

from gitbench.spec import VisionSpec
from gitbench.variants import add

add("vision", "sighted", VisionSpec())
add("vision", "blind", VisionSpec(blind=True))
