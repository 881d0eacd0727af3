"""Two programs timed next to each other, and the device's own matrix rate to set the times beside.

Pairs are measured in alternating order (ours first, theirs first, ...). On the CPU the clock is the wall's; on a GPU
CUDA events on the stream, so that the host's clock has no part in it (not yet measured on a GPU). What is timed by the
wall's clock needs no torch here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MOST_PAIRS = 15  # more would narrow the interval of a median little
RATE_SIZES = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is timed
RATE_REPEATS = 5

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Times of two programs in seconds, paired by their place."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]


def paired(
    ours: Call,
    theirs: Call,
    device: torch.device | None = None,
    *,
    seconds: float = 0.0,
    repeats: int | None = None,
) -> Paired:
    """Time two warmed-up programs: `repeats` pairs, or as many as fit into about `seconds`, judged by the first pair.

    Without a `device` the clock is the wall's.
    """
    times: tuple[list[float], list[float]] = ([], [])
    wanted = repeats or 1
    while len(times[0]) < wanted:
        order = (0, 1) if len(times[0]) % 2 == 0 else (1, 0)
        for side in order:
            times[side].append(once((ours, theirs)[side], device))
        if repeats is None and len(times[0]) == 1:
            wanted = pairs_within(seconds, times[0][0] + times[1][0])
    return Paired(ours=tuple(times[0]), theirs=tuple(times[1]))


def pairs_within(seconds: float, pair: float) -> int:
    """Return how many pairs of `pair` seconds are measured in about `seconds`: 1 to 15, twice the time for the first 3."""
    few = min(3, int(2 * seconds / pair))
    return max(1, few, min(MOST_PAIRS, int(seconds / pair)))


def once(call: Call, device: torch.device | None) -> float:
    """Run once; return the seconds."""
    if device is None or device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    import torch

    torch.cuda.synchronize(device)
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    before.record()
    call()
    after.record()
    torch.cuda.synchronize(device)
    return before.elapsed_time(after) / 1000


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the rate of one large matrix product, in operations a second (two per multiply-add): the best of 5."""
    import torch

    size = RATE_SIZES[device.type]
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)

    def product() -> None:
        torch.mm(a, b, out=out)

    product()
    best = min(once(product, device) for _ in range(RATE_REPEATS))
    return 2 * size**3 / best
