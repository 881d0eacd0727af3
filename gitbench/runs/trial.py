"""Time a plan's base arm in several ways of sharing a card, in processes that stay for all of them.

Each way is warmed up in all its processes before any of them is timed, and they are timed over the same seconds. A way
that fails (most likely for want of memory) has no rate, and no larger one of its kind is tried; nor is a larger one
after one that was slower than the smaller.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from gitbench.runs.config import make_config
from gitbench.runs.machine import Gpu
from gitbench.runs.packing import Measure, Way, base_run
from gitbench.runs.plan import Plan

if TYPE_CHECKING:
    from gitbench.training.stepper import Stepper

SECONDS = 2.0  # of timing a way
PATIENCE = 300.0  # seconds for a process to start, build its models and warm up


def measure_ways(plan: Plan, cards: Sequence[Gpu], seconds: float = SECONDS) -> Measure:
    """Return a function that gives the replicate steps a second of each way, timed on the emptiest card or on the cores."""
    base = base_run(plan)
    cards = sorted(cards, key=lambda card: -card.free_gib)[:1]

    def measure(candidates: Sequence[Way]) -> Mapping[str, float]:
        specs = [dataclasses.replace(base.spec, replicate=r) for r in range(max(way.stack for way in candidates))]
        configs = [make_config(spec, plan.vocabulary, base.key).to_dict() for spec in specs]
        with workers(max(way.processes for way in candidates), partial(_from_configs, configs), cards) as connections:
            return _rates(candidates, connections, seconds)

    return measure


def _from_configs(configs: list[dict[str, Any]], count: int) -> Stepper:
    from gitbench.training.stepper import from_configs

    return from_configs(configs, count)


@contextlib.contextmanager
def workers(count: int, build: Callable[[int], Stepper], cards: Sequence[Gpu]) -> Iterator[list[Connection]]:
    """Start processes on the first card, or on a core each, that train what `build(replicates)` gives; see `_serve`.

    They end with the block.
    """
    from gitbench.runs.launch import start_context

    environment = (
        {"CUDA_VISIBLE_DEVICES": cards[0].uuid} if cards else {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    )
    context = start_context()
    pipes = [context.Pipe() for _ in range(count)]
    processes = [context.Process(target=_serve, args=(theirs, build, environment)) for _, theirs in pipes]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()
    try:
        yield [ours for ours, _ in pipes]
    finally:
        for process, (ours, _) in zip(processes, pipes, strict=True):
            ours.close()
            process.kill()
            process.join(5)


def ask(connections: Sequence[Connection], order: str, value: float) -> list[Any]:
    """Give all of them an order at once and wait for their answers; None stands for one that failed.

    Orders: "prepare" (replicates; 0 frees the memory), "time" (seconds; answers steps a second), "steps" (how many).
    """
    try:
        for connection in connections:
            connection.send((order, value))
        return [_answer(connection) for connection in connections]
    except OSError:  # a process is gone
        return [None]


def _rates(candidates: Sequence[Way], connections: Sequence[Connection], seconds: float) -> dict[str, float]:
    rates: dict[str, float] = {}
    for stacked in (False, True):
        best = 0.0
        for way in candidates:
            if (way.stack > 1) != stacked:
                continue
            rate = _rate(way, connections, seconds)
            if rate is None:
                break
            rates[str(way)] = rate
            if rate < best:
                break
            best = rate
    return rates


def _rate(way: Way, connections: Sequence[Connection], seconds: float) -> float | None:
    """Time one way; None where one of its processes could not do it."""
    used = connections[: way.processes]
    if None in ask(used, "prepare", way.stack):
        return None
    counts = ask(used, "time", seconds)
    freed = ask(used, "prepare", 0)  # leaves the card's memory to the next way
    return None if None in counts or None in freed else way.stack * sum(counts)


def _answer(connection: Connection) -> Any:
    """Wait for an answer: "ready", steps a second, or None where the process failed."""
    deadline = time.monotonic() + PATIENCE
    while not connection.poll(0.2):
        if time.monotonic() > deadline:
            return None
    try:
        return connection.recv()
    except EOFError:
        return None


def _serve(connection: Connection, build: Callable[[int], Stepper], environment: dict[str, str]) -> None:
    """Body of a process: follow orders (see `ask`) until the other end is closed. It prints nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)
    with open(os.devnull, "w") as silence:
        os.dup2(silence.fileno(), 1)
        os.dup2(silence.fileno(), 2)
    from gitbench.training.stepper import free_memory

    stepper: Stepper | None = None
    while True:
        try:
            order, value = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if order == "prepare":
                stepper = None  # frees the card before the next one is built
                free_memory()
                stepper = build(value) if value else None
                connection.send("ready")
            elif stepper is None:
                connection.send(None)
            elif order == "time":
                connection.send(stepper.steps_per_second(value))
            else:
                stepper.steps(value)
                connection.send("ready")
        except Exception:  # no memory, most likely: this way cannot be had
            stepper = None
            connection.send(None)
