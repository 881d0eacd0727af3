"""A stream of random numbers that is a pure function of its keys.

So a scene depends on (version, split, index) and a crop on (seed, sample number), whatever the process or the order of
calls. Only `random.Random.random()` is used: Python promises its sequence for a seed, across versions and platforms,
and does not promise those of `choice`, `shuffle` or of numpy's `Generator` methods.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from gitbench.seeding import derive_seed

T = TypeVar("T")


class Stream:
    """Random draws for one purpose: `Stream("scene", "train", 17)` is always the same stream."""

    def __init__(self, *keys: object):
        self.random = random.Random(derive_seed(*keys)).random  # uniform in [0, 1)

    def uniform(self, low: float, high: float) -> float:
        """Return a number between low and high; low if the interval is empty."""
        return low + (high - low) * self.random() if high > low else low

    def integer(self, count: int) -> int:
        """Return one of 0 .. count - 1."""
        return int(self.random() * count)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.random() < probability

    def choice(self, options: Sequence[T]) -> T:
        """Return one option, all equally likely."""
        return options[int(self.random() * len(options))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Return a key with a probability in proportion to its weight (the mapping's order matters)."""
        mark = self.random() * sum(weights.values())
        for option, weight in weights.items():  # noqa: B007 - the last option is also the fallback for rounding
            mark -= weight
            if mark < 0:
                break
        return option

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return the options in random order (Fisher-Yates)."""
        mixed = list(options)
        for last in range(len(mixed) - 1, 0, -1):
            other = int(self.random() * (last + 1))
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed
