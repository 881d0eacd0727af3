"""What the benchmark measured: paired times of two programs on the same work, their ratio and its interval.

The i-th times of a row were measured next to each other, the order alternating, so that a busy moment of the machine
strikes both; only their ratio is judged. The ratio's interval is that of its median, exact and without an assumption
about the noise: the order statistics of the paired ratios, whose coverage is binomial (a bootstrap over few
samples covers far less than it says, and times are skewed, which a t interval does not allow for). Fewer than six
pairs cannot give 95 %: then the interval is the whole range, and `level` says how much it covers (five pairs 0.94,
three 0.75, one 0).
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gitbench.errors import GitbenchError

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class MedianInterval:
    """An interval of a median: its ends, and the probability with which such an interval holds the true median."""

    low: float
    high: float
    level: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison: a work of a shape, done by gitbench and by a peer. Times in seconds, paired by their place.

    `texts` says how long the texts of a training batch are ("filled" or "captions", see `shapes.py`).
    """

    work: str  # "train-5", "beam-4", "score-cider", ...
    shape: str  # "small", "base", or the amount ("5000 images")
    peer: str  # "hf", "official", "pycocoevalcap"
    ours_seconds: tuple[float, ...]
    peer_seconds: tuple[float, ...]
    checked: str  # what was found equal before the timing, with the differences
    device: str  # "cpu" or "cuda"
    notes: str = ""
    texts: str = ""
    precision: str = "float32"  # "float32", "bfloat16", with " compiled" where torch.compile was used
    ours_share: float | None = None  # of the measured matrix rate, counting the necessary operations only
    peer_share: float | None = None
    ours_gib: float | None = None  # peak memory on a GPU
    peer_gib: float | None = None

    def __post_init__(self) -> None:
        times = (*self.ours_seconds, *self.peer_seconds)
        if len(self.ours_seconds) != len(self.peer_seconds) or not times:
            raise ValueError(f"{self.name}: the times of a row are pairs, at least one")
        if not all(math.isfinite(seconds) and seconds > 0 for seconds in times):
            raise ValueError(f"{self.name}: times are positive numbers of seconds")

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows of two benchmark runs comparable."""
        return (self.work, self.shape, self.texts, self.peer, self.precision, self.device)

    @property
    def name(self) -> str:
        """The row in words, for messages."""
        precision = "" if self.precision == "float32" else self.precision
        words = (self.work, self.shape, self.texts, precision)
        return f"{' '.join(word for word in words if word)} against {self.peer}"

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times as fast we were, pair by pair."""
        return tuple(theirs / own for own, theirs in zip(self.ours_seconds, self.peer_seconds, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the paired ratios: how many times as fast we are."""
        return statistics.median(self.ratios)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest of the paired ratios."""
        return min(self.ratios), max(self.ratios)

    @property
    def interval(self) -> MedianInterval:
        """The 95 % interval of the median ratio, or what so few pairs allow; see the head of this file."""
        return median_interval(self.ratios)


def median_interval(values: Sequence[float], level: float = LEVEL) -> MedianInterval:
    """Return the narrowest symmetric pair of order statistics that holds the true median with at least `level`.

    With the j smallest and the j largest of n values left out the coverage is 1 - 2 P(Binomial(n, 1/2) <= j). Where even
    the whole range falls short of `level`, the range is returned with the coverage it has. An empty list is a ValueError.
    """
    ordered, n = sorted(values), len(values)
    if not n:
        raise ValueError("an interval needs at least one value")
    left_out, below = 0, 0.5**n  # below: P(Binomial(n, 1/2) <= left_out)
    while left_out + 1 < (n + 1) // 2:
        further = below + math.comb(n, left_out + 1) * 0.5**n
        if 1 - 2 * further < level:
            break
        left_out, below = left_out + 1, further
    return MedianInterval(low=ordered[left_out], high=ordered[n - 1 - left_out], level=max(0.0, 1 - 2 * below))


def to_json(row: Row) -> dict[str, Any]:
    """Return a row as plain values, with its ratio and interval for readers of the file."""
    values = dataclasses.asdict(row)
    derived = {"ratio": row.ratio, "range": list(row.range), "interval": dataclasses.asdict(row.interval)}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()} | derived


def from_json(values: dict[str, Any]) -> Row:
    """Read a row back; what is derived is computed again. Damaged values give a one-line error."""
    fields = {field.name for field in dataclasses.fields(Row)}
    kept: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in fields
    }
    try:
        return Row(**kept)
    except (TypeError, ValueError) as error:
        raise GitbenchError(f"not a row of a benchmark ({error}): make the file again with gitbench bench") from None
