"""Paired times of two programs on one workload: how they are taken, their ratio, its interval, and what it must be.

The i-th times of a row are measured next to each other, the order alternating, so that a busy moment of the machine
strikes both; only their ratio is judged. The ratio's interval is that of its median, exact and without an assumption
about the noise: the order statistics of the paired ratios, whose coverage is binomial (a bootstrap over few
samples covers far less than it says, and times are skewed, which a t interval does not allow for). Fewer than six
pairs cannot give 95 %: then the interval is the whole range, and `level` says how much it covers (five pairs 0.94,
three 0.75, one 0). No torch here.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from gitbench.errors import GitbenchError
from gitbench.files import read_json

MOST_PAIRS = 15  # more would narrow the interval of a median little
LEVEL = 0.95
KEPT = 0.9  # of an earlier ratio; a row whose whole interval lies below it has become slower

BOTH = ("small", "base")
# The ratio that rows of a workload and peer must reach in the shapes named, on 2 CPU cores.
TARGETS = {
    ("train-5", "hf", "cpu"): (BOTH, 4.0),
    ("train-5", "official", "cpu"): (BOTH, 4.0),
    ("train-1", "hf", "cpu"): (("base",), 1.4),
    ("train-1", "official", "cpu"): (("base",), 1.2),
    ("beam-4", "hf", "cpu"): (("base",), 3.5),
    ("beam-4", "official", "cpu"): (("base",), 15.0),
    ("greedy", "hf", "cpu"): (BOTH, 1.2),
    ("greedy", "official", "cpu"): (BOTH, 4.0),
    ("frozen-5", "hf", "cpu"): (BOTH, 5.0),
}
SCORE_TARGETS = {"score-cider": 9.0, "score-bleu": 5.0, "score-rouge": 5.0}  # of 5,000 images


Call = Callable[[], object]


class Times(NamedTuple):
    """Times of two programs in seconds, paired by their place."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]


def paired(ours: Call, theirs: Call, *, seconds: float = 0.0, repeats: int | None = None) -> Times:
    """Time two warmed-up programs: `repeats` pairs, or as many as fit into about `seconds`, judged by the first pair."""
    times: tuple[list[float], list[float]] = ([], [])
    wanted = repeats or 1
    while len(times[0]) < wanted:
        order = (0, 1) if len(times[0]) % 2 == 0 else (1, 0)
        for side in order:
            times[side].append(once((ours, theirs)[side]))
        if repeats is None and len(times[0]) == 1:
            wanted = pairs_within(seconds, times[0][0] + times[1][0])
    return Times(tuple(times[0]), tuple(times[1]))


def pairs_within(seconds: float, pair: float) -> int:
    """Return how many pairs of `pair` seconds are measured in about `seconds`: 1 to 15, twice the time for the first 3."""
    few = min(3, int(2 * seconds / pair))
    return max(1, few, min(MOST_PAIRS, int(seconds / pair)))


def once(call: Call) -> float:
    """Run once; return the seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@dataclass(frozen=True, kw_only=True)
class MedianInterval:
    """An interval of a median: its ends, and the probability with which such an interval holds the true median."""

    low: float
    high: float
    level: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison: a workload of a shape, done by gitbench and by a peer. Times in seconds, paired by their place.

    `texts` says how long the texts of a training batch are ("filled" or "captions", see `workloads.py`).
    """

    workload: str  # "train-5", "beam-4", "score-cider", ...
    shape: str  # "small", "base", or the amount ("5000 images")
    peer: str  # "hf", "official", "pycocoevalcap"
    ours_seconds: tuple[float, ...]
    peer_seconds: tuple[float, ...]
    checked: str  # what was found equal before the timing, with the differences
    device: str  # "cpu" or "cuda"
    notes: str = ""
    texts: str = ""

    def __post_init__(self) -> None:
        times = (*self.ours_seconds, *self.peer_seconds)
        if len(self.ours_seconds) != len(self.peer_seconds) or not times:
            raise ValueError(f"{self.name}: the times of a row are pairs, at least one")
        if not all(math.isfinite(seconds) and seconds > 0 for seconds in times):
            raise ValueError(f"{self.name}: times are positive numbers of seconds")

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows of two benchmark runs comparable."""
        return (self.workload, self.shape, self.texts, self.peer, self.device)

    @property
    def name(self) -> str:
        """The row in words, for messages."""
        return f"{' '.join(filter(None, (self.workload, self.shape, self.texts)))} against {self.peer}"

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times as fast we were, pair by pair."""
        return tuple(theirs / own for own, theirs in zip(self.ours_seconds, self.peer_seconds, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the paired ratios: how many times as fast we are."""
        return statistics.median(self.ratios)

    @property
    def interval(self) -> MedianInterval:
        """The 95 % interval of the median ratio, or what so few pairs allow; see the head of this file."""
        return median_interval(self.ratios)

    @property
    def target(self) -> float | None:
        """The ratio that must be reached; None where nothing is asked."""
        if self.workload in SCORE_TARGETS:
            return SCORE_TARGETS[self.workload] if self.shape.startswith("5000 ") else None
        shapes, ratio = TARGETS.get((self.workload, self.peer, self.device), ((), None))
        return ratio if self.shape in shapes else None

    def __str__(self) -> str:
        low, high, count = self.interval.low, self.interval.high, len(self.ratios)
        pairs = f"{count} pair{'s' if count > 1 else ''}"
        return f"{self.name}: {self.ratio:.2f} times as fast ({low:.2f} to {high:.2f}, {pairs})"


def median_interval(values: Sequence[float]) -> MedianInterval:
    """Return the narrowest symmetric pair of order statistics that holds the true median with at least 95 %.

    With the j smallest and the j largest of n values left out the coverage is 1 - 2 P(Binomial(n, 1/2) <= j). Where even
    the whole range falls short of that, the range is returned with the coverage it has.
    """
    ordered, n = sorted(values), len(values)
    misses = list(accumulate(2 * math.comb(n, j) * 0.5**n for j in range((n + 1) // 2)))
    left_out = max((j for j, miss in enumerate(misses) if 1 - miss >= LEVEL), default=0)
    level = max(0.0, 1 - misses[left_out])
    return MedianInterval(low=ordered[left_out], high=ordered[n - 1 - left_out], level=level)


def to_json(row: Row) -> dict[str, Any]:
    """Return a row as plain values, with its ratio and interval for readers of the file."""
    derived = {"ratio": row.ratio, "range": [min(row.ratios), max(row.ratios)]}
    return {**dataclasses.asdict(row), **derived, "interval": dataclasses.asdict(row.interval)}


def from_json(values: dict[str, Any]) -> Row:
    """Read a row back; what is derived is left out. Damaged values give a one-line error."""
    try:
        kept = {field.name: values[field.name] for field in dataclasses.fields(Row)}
        return Row(**kept | {name: tuple(kept[name]) for name in ("ours_seconds", "peer_seconds")})
    except (KeyError, TypeError, ValueError) as error:
        raise GitbenchError(f"not a row of a benchmark ({error}): make the file again with gitbench bench") from None


def stored_rows(path: Path) -> list[Row]:
    """Read the rows of a bench.json; a file that is none gives a one-line error."""
    values = read_json(path)
    if not isinstance(values, dict) or not isinstance(values.get("rows"), list):
        raise GitbenchError(f"{path} is no result of gitbench bench: pass a bench.json that it wrote")
    return [from_json(row) for row in values["rows"]]


def regressions(rows: Sequence[Row], stored: Sequence[Row]) -> list[str]:
    """Return one line for each row that has become slower: its whole interval lies below 90 % of the stored ratio.

    Ratios, not seconds, are compared: both programs ran side by side, so that another machine of the kind, or a busy
    one, shifts both. Nothing to compare is a GitbenchError: such a gate must not be green.
    """
    before = {row.key: row.ratio for row in stored}
    compared = [row for row in rows if row.key in before]
    if not compared:
        raise GitbenchError(
            "none of the rows measured here is in the stored result: compare runs of the same workloads, shapes and peers"
        )
    return [f"{row}, was {before[row.key]:.2f}" for row in compared if row.interval.high < KEPT * before[row.key]]
