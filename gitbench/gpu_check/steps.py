"""Training steps as a run takes them, timed and then profiled: what calls them, what the card does, where the host waits.

The steps are those of the run's own loop, with its hooks and its batches; nothing is left out but validation.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from gitbench.training.device import planned, settle
from gitbench.training.run import PlainRunner

MARK = "gitbench gpu-check"  # the range of a profile that is looked at
WARM = 10  # steps before any is timed
ENDLESS = 10**7  # steps
# What makes the host wait until the card has done its work.
WAITS = (
    *("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy"),
    *("cuCtxSynchronize", "cuStreamSynchronize", "cuEventSynchronize"),
)


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """What was seen in a profile: torch's operations, what the card did, and where its host waited."""

    calls: Mapping[str, int] = field(default_factory=dict)  # name -> how many, those within others too
    lowest: int = 0  # calls within which there is no other
    kernels: int = 0  # and copies, of the card
    busy: float = 0.0  # seconds in which the card did something
    waits: Mapping[str, int] = field(default_factory=dict)  # of WAITS


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Training steps of a run: how many in a second, and of those profiled what was seen in all of them."""

    per_second: float
    profiled: int = 0
    seen: Profiled = Profiled()

    @property
    def busy_share(self) -> float:
        """The share of the time in which the card is busy when nothing is profiled."""
        return self.seen.busy / self.profiled * self.per_second


class Enough(Exception):
    """A hook's word that all steps that were wanted have been taken."""


class StepClock(Hook):
    """Lets the first steps pass, times those of some seconds, profiles a few, and stops the training."""

    priority = "LOWEST"

    def __init__(self, device: str, seconds: float, profiled: int = 0, warm: int = WARM) -> None:
        self.device, self.seconds, self.profiled, self.warm = device, seconds, profiled, warm
        self.taken = 0  # steps since the last phase began
        self.began = 0.0
        self.per_second = 0.0
        self.profile: Watched | None = None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # type: ignore[no-untyped-def]
        self.taken += 1
        if self.profile is not None:
            if self.taken == self.profiled:
                self.profile.__exit__()
                raise Enough
        elif self.began and time.perf_counter() - self.began >= self.seconds:
            finish(self.device)
            self.per_second = self.taken / (time.perf_counter() - self.began)
            if not self.profiled:
                raise Enough
            self.taken, self.profile = 0, Watched(self.device)
            self.profile.__enter__()
        elif not self.began and self.taken == self.warm:
            finish(self.device)
            self.taken, self.began = 0, time.perf_counter()


class Watched:
    """A context whose operations are profiled; `seen` tells of them afterwards, `events` are torch's own."""

    def __init__(self, device: str) -> None:
        self.device, self.seen = device, Profiled()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
        self._profile, self._mark = profile(activities=activities), record_function(MARK)

    def __enter__(self) -> Watched:
        finish(self.device)
        self._profile.__enter__()
        self._mark.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._mark.__exit__(None, None, None)
        finish(self.device)  # outside of the range, in which waits are counted
        self._profile.__exit__(None, None, None)
        self.seen = seen(self._profile.events())


def finish(device: str) -> None:
    """Wait until the card has done all its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def measure_steps(
    config: Config,
    seconds: float,
    profiled: int = 0,
    warm: int = WARM,
    prepare: Callable[[PlainRunner], None] = lambda runner: None,
) -> Steps:
    """Take training steps of a run for so many seconds, then those that are profiled; nothing is left of it.

    `prepare` is called with the runner before it trains.
    """
    clock = StepClock(planned(config).device, seconds, profiled, warm)
    train_until(config, clock, prepare)
    return Steps(
        per_second=clock.per_second, profiled=profiled, seen=clock.profile.seen if clock.profile else Profiled()
    )


def train_until(config: Config, hook: Hook, prepare: Callable[[PlainRunner], None] = lambda runner: None) -> None:
    """Train a run, without validation and into no folder, until the hook raises Enough; beyond its last step at a rate of 0."""
    config = config.copy()
    config.train_cfg.max_iters = ENDLESS
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    with tempfile.TemporaryDirectory(prefix="gitbench-") as folder:
        config.work_dir = folder
        settle(planned(config))
        runner = PlainRunner.from_cfg(config)
        runner.register_hook(hook)
        prepare(runner)
        with contextlib.suppress(Enough):
            runner.train()


class Interlude(Hook):
    """After the first step of a run, does something with the runner and that step's batch, and stops the training."""

    priority = "LOWEST"

    def __init__(self, do: Callable[[PlainRunner, dict[str, Any]], None]) -> None:
        self.do = do

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # type: ignore[no-untyped-def]
        self.do(runner, data_batch)
        raise Enough


def take_step(runner: PlainRunner, batch: dict[str, Any]) -> None:
    """Take a training step as the loop does, without hooks."""
    runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
    runner.optim_wrapper.norms.clear()


def seen(events: Iterable[Any]) -> Profiled:
    """Sum up the events of a profile (`torch.autograd.profiler_util.FunctionEvent`) within the range MARK."""
    events = list(events)
    (mark,) = [each for each in events if each.name == MARK and each.device_type == DeviceType.CPU]
    start, end = mark.time_range.start, mark.time_range.end
    host = [e for e in events if e.device_type == DeviceType.CPU and start <= e.time_range.start <= end]
    calls = [e for e in host if _is_call(e)]
    card = [e for e in events if e.device_type == DeviceType.CUDA and e.name != MARK]
    card = [e for e in card if not getattr(e, "is_user_annotation", False)]
    return Profiled(
        calls=Counter(e.name for e in calls),
        lowest=sum(not any(map(_is_call, e.cpu_children)) for e in calls),
        kernels=len(card),
        busy=covered((e.time_range.start, e.time_range.end) for e in card) / 1e6,
        waits=Counter(e.name for e in host if e.name in WAITS),
    )


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _is_call(event: Any) -> bool:
    return event.name.startswith("aten::")
