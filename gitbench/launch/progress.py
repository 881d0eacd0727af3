"""How long a plan will take, and how far it is: a bar with the time left and the running arms on terminals, else plain lines."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gitbench.formats import duration, plural
from gitbench.metric_info import HEADLINE, display_name, unit
from gitbench.plan import PlannedRun
from gitbench.study.store import Study

QUIET_SECONDS = 30.0  # between plain lines that only say how far it is


class Display:
    """Context manager; every method is called from the launcher's thread."""

    def __init__(self, study: str, found: int, total: int, plain: bool = False) -> None:
        self.study, self.found, self.total = study, found, total
        self.console = Console(highlight=False, soft_wrap=True)
        self.live = self.console.is_terminal and not plain
        self.shares: dict[str, tuple[PlannedRun, float, str]] = {}  # key -> run, share done, how to say it
        self.done = 0
        self.warned: set[str] = set()
        self.patient = False  # whether it was said that others are waited for
        self.began = self.spoken = time.monotonic()
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[arms]}"),
            console=self.console,
            disable=not self.live,
        )

    def __enter__(self) -> Display:
        self.bar.start()
        self.task = self.bar.add_task(self.study, total=self.total - self.found, arms="starting")
        if not self.live:
            self.console.print(f"{self.study}: {self.total} runs, {self.found} done, {self.total - self.found} to do")
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def training(self, run: PlannedRun, done: int = 0, total: int = 1, loss: float | None = None) -> None:
        """Show how far a run is, in iterations; without a loss it is in the pre-training, which is no part of its share."""
        share = done / total
        if loss is None:
            self.shares[run.run_key] = (run, 0.0, f"pre-training {share:.0%}" if done else "0%")
        else:
            self.shares[run.run_key] = (run, share, f"{share:.0%} loss {loss:.2f}")
        self._refresh()

    def scoring(self, run: PlannedRun) -> None:
        self.shares.pop(run.run_key, None)
        self._refresh()

    def finished(self, run: PlannedRun, record: dict[str, Any]) -> None:
        self.done += 1
        metrics, seconds = record["metrics"], record["cost"]["seconds"]
        first = next((name for name in HEADLINE if name in metrics and unit(name) == "points"), None)
        shown = f"{display_name(first)} {metrics[first]['value']:.1f}, " if first is not None else ""
        if "val_nll" in metrics and first is None:  # of a tuning run
            value = metrics["val_nll"]["value"]
            shown = "diverged, " if value is None else f"{display_name('val_nll')} {value:.3f}, "
        self.console.print(
            f"  {run.arm} - seed {run.replicate}: {shown}{seconds:.0f} s  ({self.done + self.found}/{self.total})"
        )
        for line in record.get("warnings", ()):
            if not (line.startswith("CIDEr") and line in self.warned):  # it is about the test images: said once
                self.note(run, f"mind: {line}")
        self.warned.update(record.get("warnings", ()))
        self._refresh()

    def left(self, run: PlannedRun) -> None:
        """Show a run no longer: another launch works on it."""
        self.shares.pop(run.run_key, None)
        self._refresh()

    def done_elsewhere(self, run: PlannedRun) -> None:
        self.done += 1
        self.note(run, f"done by another launch  ({self.done + self.found}/{self.total})")
        self._refresh()

    def waiting(self, count: int) -> None:
        """Say, once, that nothing is left to do but to wait for other launches."""
        if not self.patient:
            self.patient = True
            self.console.print(f"  nothing is left to begin: waiting for {plural(count, 'run')} of other launches")

    def stopping(self) -> None:
        """Say that the launch ends."""
        self.console.print("  stopping: runs are ended, the scores that are being made are waited for")

    def note(self, run: PlannedRun, text: str) -> None:
        self.console.print(f"  {run.arm} - seed {run.replicate}: {text}", markup=False)

    def failed(self, run: PlannedRun, message: str, last: bool) -> None:
        self.shares.pop(run.run_key, None)
        self.console.print(
            f"  {run.arm} - seed {run.replicate} failed{'' if last else ', trying again'}: {message}", markup=False
        )
        self._refresh()

    def _refresh(self) -> None:
        arms = ", ".join(f"{run.arm}/{run.replicate} {state}" for run, _, state in self.shares.values())
        completed = self.done + sum(share for _, share, _ in self.shares.values())
        self.bar.update(self.task, completed=completed, arms=arms)
        now = time.monotonic()
        if not self.live and now - self.spoken > QUIET_SECONDS:
            self.spoken = now
            left = (now - self.began) / completed * (self.total - self.found - completed) if completed > 0.2 else None
            ending = f"; about {duration(left)} left" if left is not None else ""
            self.console.print(
                f"  {self.done + self.found}/{self.total} runs; {arms or 'scoring'}{ending}", markup=False
            )


def mean_seconds(study: Study) -> dict[str, float]:
    """Return the mean seconds of a run of each arm: of its finished ones, else of all, else the profile's first guess."""
    known: dict[str, list[float]] = {run.arm: [] for run in study.plan.runs}
    for run in study.plan.runs:
        record = study.record(run.run_key) if study.done(run) else None
        if record is not None:
            known[run.arm].append(record["cost"]["seconds"])
    everything = [seconds for arm in known.values() for seconds in arm]
    fallback = sum(everything) / len(everything) if everything else study.plan.run_seconds
    return {arm: sum(seconds) / len(seconds) if seconds else fallback for arm, seconds in known.items()}


def estimate_seconds(study: Study, at_once: int) -> tuple[float, bool]:
    """Return (seconds with `at_once` slots, whether they rest on finished runs); pre-training of encoders is left out."""
    seconds = mean_seconds(study)
    todo = [run for run in study.unique_runs if not study.done(run)]
    total = sum(seconds[run.arm] for run in todo)
    return total / max(1, min(at_once, len(todo))), len(todo) < len(study.unique_runs)
