"""How many times as much a quantity takes as in the base revision: an estimate and an interval from paired measurements.

Two blocks of a pair are measured one after the other, in random order. Where nothing changed, the logarithm of their ratio is
therefore symmetric about 0, whatever the machine does meanwhile: so the signed-rank test is exact (Wilcoxon 1945), and its
interval holds the true ratio with 99.9 %. The estimate is the middle one of all means of two log-ratios (Hodges and Lehmann
1963), which spikes in up to 29 % of the pairs cannot carry away. No torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

LEVEL = 0.999  # of an interval
LEAST = 11  # pairs that such an interval takes: of 10 even the whole range covers 99.8 %
ALLOWED = 1.10  # a quantity whose whole interval lies above is red
UNCLEAR = 1.20  # an interval that is not red and reaches up to this says too little
NARROW = 0.04  # half the width of a log-interval below which more pairs are not worth their time
FEW, GROSS = 5, 1.5  # with so many pairs and fewer than LEAST, all of them must lie above this to be red


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Change over base: the estimate, its interval, and the single ratios, of memory one a pair of processes.

    `of`: what is compared; processor time counts no waiting, and hardly what else a machine does.
    """

    estimate: float
    low: float
    high: float
    pairs: tuple[float, ...]
    of: Literal["time", "processor time", "memory"] = "time"

    @property
    def red(self) -> bool:
        """Whether it lies beyond what is allowed with its whole interval; of memory, measured twice, with both."""
        if self.of == "memory":
            return len(self.pairs) > 1 and self.low > ALLOWED
        if len(self.pairs) < LEAST:
            return len(self.pairs) >= FEW and self.low > GROSS
        return self.low > ALLOWED

    @property
    def told(self) -> bool:
        """Whether it is red, or an increase of 20 % is ruled out; of memory, whether one was within what is allowed."""
        if self.red:
            return True
        return self.low <= ALLOWED if self.of == "memory" else len(self.pairs) >= LEAST and self.high < UNCLEAR

    @property
    def found(self) -> float | None:
        """The ratio that would be red in 90 % of checks as exact as this one; None of memory, and with too few pairs.

        The lower end of its interval has to lie above what is allowed: the end lies half an interval below the estimate,
        and that is 3.29 standard errors of a normal estimate, which falls short of the truth by 1.28 in one case of ten.
        """
        if self.of == "memory" or len(self.pairs) < LEAST:
            return None
        return ALLOWED * math.exp(math.log(self.high / self.low) / 2 * (1 + 1.28 / 3.29))

    @property
    def settled(self) -> bool:
        """Whether more pairs would hardly say more, of times."""
        decided = len(self.pairs) >= LEAST and not self.low <= ALLOWED <= self.high
        return decided and math.log(self.high / self.low) <= 2 * NARROW


def ratio_of(logs: Sequence[float], of: Literal["time", "processor time"] = "time") -> Ratio:
    """Return the ratio of paired log-ratios, one at least; with fewer than LEAST the interval is their range."""
    values = np.asarray(logs, float)
    means = np.sort(((values[:, None] + values) / 2)[np.triu_indices(len(values))])
    out = left_out(len(values))
    return Ratio(
        estimate=math.exp(np.median(means)),
        low=math.exp(means[out]),
        high=math.exp(means[-1 - out]),
        pairs=tuple(map(math.exp, values)),
        of=of,
    )


def ratio_of_memory(logs: Sequence[float]) -> Ratio:
    """Return the ratio of memory of pairs of processes: that nearest to 1 decides."""
    low, high = math.exp(min(logs)), math.exp(max(logs))
    return Ratio(estimate=low, low=low, high=high, pairs=tuple(map(math.exp, logs)), of="memory")


@functools.cache
def left_out(pairs: int) -> int:
    """Return how many of the n (n + 1) / 2 means of two lie below the interval of n pairs, and as many above it."""
    chances = np.ones(1)  # of each sum of the ranks of the pairs above 0
    for rank in range(1, pairs + 1):
        chances = (np.append(chances, np.zeros(rank)) + np.append(np.zeros(rank), chances)) / 2
    return max(0, int(np.searchsorted(np.cumsum(chances), (1 - LEVEL) / 2, side="right")) - 1)
