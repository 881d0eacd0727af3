"""What the model is shown: the image, a spoilt one, or nothing. "blind" is the floor that every report carries.

The blurred ones are effects planted by construction: of "blurred" no shape, word or count is left, which must cost; of
"unharmed" a pixel takes 0.03 % of each neighbour's value, which moves no score, but makes the run one of its own.
"""

from __future__ import annotations

from gitbench.spec import VisionSpec
from gitbench.variants import add

add("vision", "sighted", VisionSpec())
add("vision", "blind", VisionSpec(blind=True))
add("vision", "blurred", VisionSpec(blur=16.0))
add("vision", "unharmed", VisionSpec(blur=0.25))
