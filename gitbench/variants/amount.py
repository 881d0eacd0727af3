"""How much training data: "all" is the profile's own number of images, "n<number>" the first so many of them."""

from __future__ import annotations

from gitbench.spec import AmountSpec
from gitbench.variants import add

add("amount", "all", AmountSpec())
for _images in (32, 64, 300, 1500, 3000, 10_000, 100_000):
    add("amount", f"n{_images}", AmountSpec(images=_images))
