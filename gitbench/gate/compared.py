"""One activity after another, done by both sides of a comparison in turns: what comes of it are ratios. No torch."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.gate.ratios import LEAST, Ratio, ratio_of, ratio_of_memory
from gitbench.gate.sides import WORKLOAD, Failed, Side, Worker

BLOCK = 0.4  # seconds that a block takes in the base, about
FIRST, MORE = LEAST + 1, 4  # pairs before the first look, and from one look to the next
# Shares of an activity's time at which its first processes end, and its second ones, which measure what is red or not told yet.
ROUNDS = (0.6, 1.0)
NEEDED = 5.0  # seconds below which an activity is not begun
SEED = 0  # of the order within pairs

CLOCKS = {"time", "wait"}  # series of times on the wall
Ratios = dict[str, Ratio]  # "time", "wait" or "memory" -> change over base


class Comparison:
    """Two sides and what they are asked for. `limit`: when they are given up, a time of the monotonic clock."""

    def __init__(
        self, base: Side, change: Side, asked: Mapping[str, Any], limit: float, jobs: int = 1, workload: Path = WORKLOAD
    ) -> None:
        self.base, self.change, self.asked, self.limit = base, change, asked, limit
        self.jobs, self.workload = jobs, workload
        self.failed: dict[str, Failed] = {}  # activities that a side cannot do
        self.seconds: dict[str, float] = {}  # of a unit of an activity in the base
        self.series: dict[str, dict[str, list[float]]] = {}  # activity -> what was measured of it so far
        self.order = random.Random(SEED)

    def prepare(self) -> bool:
        """Let both sides plan the run that is measured; return whether they did, or the change alone cannot (`failed`).

        Errors: GitbenchError where the base cannot, or the machine is at fault.
        """
        try:
            with ExitStack() as stack:
                self._workers("plan", stack)
        except Failed as error:
            found = self._again("plan", error)
            if not found.of_code:
                raise GitbenchError(str(found)) from None
            if found.side == self.base.name:
                raise GitbenchError(
                    f"{found}: name another --base, correct --variant, --task or --data, or leave speed out (--tiers)"
                ) from None
            self.failed["plan"] = found
        return not self.failed

    def ratios(self, activity: str, seconds: float) -> Ratios | None:
        """Measure an activity in about so many seconds; return what follows from them and from all that were before.

        Nothing follows where there was too little time so far. None: a side cannot do it (`failed`).
        """
        began, series = time.monotonic(), self.series.setdefault(activity, defaultdict(list))
        found = ratios_in(series)
        if seconds < NEEDED:
            return found
        try:
            for share in ROUNDS:
                with ExitStack() as stack:
                    base, change = self._workers(activity, stack)
                    self._in_turns(base, change, series, began + share * seconds)
                found = ratios_in(series)
                if all(ratio.told and not ratio.red for ratio in found.values()):
                    break
        except Failed as error:
            self.failed[activity] = self._again(activity, error)
            return None
        return found

    def _again(self, activity: str, error: Failed) -> Failed:
        """Return how an activity fails: the change's code is to blame where it fails again, after the base did the same."""
        if error.side == self.base.name or not error.of_code:
            return error
        try:
            with ExitStack() as stack:
                base, change = self._workers(activity, stack)
                units = self._units(base, change)
                for worker in (base, change):
                    worker.ask(units, self.limit)
        except Failed as found:
            return found
        return Failed(self.change, activity, "once, and another time it could", of_code=False)

    def _workers(self, activity: str, stack: ExitStack) -> list[Worker]:
        """Start an activity's processes and wait until they are ready, side by side where two may compute at once."""
        started = []
        for side in (self.base, self.change):
            started.append(stack.enter_context(Worker(side, activity, self.asked, self.workload)))
            if self.jobs == 1:
                started[-1].ready(self.limit)
        if self.jobs > 1:
            for worker in started:
                worker.ready(self.limit)
        return started

    def _in_turns(self, base: Worker, change: Worker, series: dict[str, list[float]], until: float) -> None:
        """Add pairs to the series until they settle it or time is up, and what memory both processes held."""
        units = self._units(base, change)
        for number, first in enumerate(self._orders(), start=1):
            told = {worker: worker.ask(units, self.limit) for worker in ((base, change) if first else (change, base))}
            for name, value in _compared(told[base], told[change]).items():
                series[name].append(value)
            looked = number >= FIRST and (number - FIRST) % MORE == 0
            if (
                time.monotonic() > until
                or looked
                and all(ratio_of(series[name]).settled for name in CLOCKS & {*series})
            ):
                if "memory" in told[base] and "memory" in told[change]:
                    held = [max(1.0, told[worker]["memory"]) for worker in (base, change)]
                    series["memory"].append(math.log(held[1] / held[0]))
                return

    def _units(self, base: Worker, change: Worker) -> int:
        """Return how many units make a block. Both sides always do the same ones: what they hold is compared, too."""
        took = []
        for _ in range(2):
            took.append(base.ask(1, self.limit)["seconds"])
            change.ask(1, self.limit)
        self.seconds[base.activity] = min(took)
        return max(1, round(BLOCK / min(took)))

    def _orders(self) -> Iterator[bool]:
        """Yield whether the base comes first: at random, and in two pairs once."""
        for _ in itertools.count():
            first = self.order.random() < 0.5
            yield from (first, not first)


def _compared(base: Mapping[str, float], change: Mapping[str, float]) -> dict[str, float]:
    """Return the log-ratios of a pair of blocks: of its times, and of how much longer waiting for data alone makes it."""
    found = {"time": math.log(change["seconds"] / base["seconds"])}
    if base.get("processor") and change.get("processor"):
        found["processor"] = math.log(change["processor"] / base["processor"])
    if "waited" in base and "waited" in change:
        longer = (change["waited"] - base["waited"]) / base["seconds"]
        found["wait"] = math.log(max(1e-3, 1 + longer))
    return found


def ratios_in(series: Mapping[str, list[float]]) -> Ratios:
    """Return what comes of series: where a busy machine lets the clock tell nothing, processor time stands in for it."""
    found = {name: ratio_of(values) for name, values in series.items() if name in CLOCKS}
    if found and not found["time"].told and "processor" in series:
        instead = ratio_of(series["processor"], "processor time")
        found["time"] = instead if instead.told else found["time"]
    return found | ({"memory": ratio_of_memory(series["memory"])} if "memory" in series else {})
