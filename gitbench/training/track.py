"""Report a run to trackers by mmengine's `vis_backends`: hyper-parameters, loss curve, in the end its scores.

These are parts of one sequence, and the run's `tracked.json` says how many of them each tracker has. So a run that goes on
after a kill repeats none, and whoever comes later, with the curve and the scores as they are on file, sends the rest. A
tracker that fails is left alone for the rest of the session; nothing of it reaches the training, which draws no number from
it. One that let the training wait for its server is left alone by every run, until the launch sends what is missing.

Known gaps: no test runs Aim, ClearML or SwanLab, which were tried by hand without a server. A kill in the moment in which a
tracker makes its run leaves an empty one behind; one between a part and its count repeats the part, and what W&B, ClearML or
SwanLab had still to upload when their process was killed is lost.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from logging import WARNING
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log

from gitbench.claim import claimed
from gitbench.errors import GitbenchError, in_short
from gitbench.files import ask_guards, make_dir, write_json, write_text
from gitbench.registry import VISBACKENDS
from gitbench.run_folder import RunFolder
from gitbench.run_key import read_as
from gitbench.trackers import Tracking, is_remote, server_of
from gitbench.training.track_backends import backend_config, end, flush, made_run, plain

if TYPE_CHECKING:
    from gitbench.training.hooks import CurveHook

Row = tuple[int, str, float, float]  # of a curve: iteration, split, loss, learning rate
Part = tuple[dict[str, float], int] | None  # scalars and their iteration; None: the hyper-parameters
OWN_IDS = {"wandb": 16, "swanlab": 21}  # trackers whose runs are named by us: hexadecimal digits
AT_ONCE = {"mlflow": 400}  # parts that are sent, and counted, in one call: of other trackers each on its own
EVERY = 10.0  # seconds of training between two reports
SLOW = 2.0  # seconds that a failure may take before all other runs leave its tracker alone


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a tracker has of a run: in which of its own runs, and how many parts."""

    tracker: str
    study: str
    place: str  # its server, or its folder as seen from the run's, so that both may be moved
    run: str
    parts: int


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """What `tracked.json` holds: one entry for each tracker, study and place."""

    sent: tuple[Sent, ...]


class Sender:
    """Sends what is asked for of a run, each part once; close it in the end. Whatever fails is in `failed`."""

    def __init__(self, folder: RunFolder, asked: Tracking, say: Callable[[str], None] = lambda _: None) -> None:
        self.folder, self.asked, self.say = folder, asked, say
        self.backends: dict[str, Any] = {}
        self.failed: dict[str, str] = {}  # tracker -> why
        self.diverged = False

    @functools.cached_property
    def sent(self) -> dict[tuple[str, str, str], Sent]:
        """What trackers have of the run. Errors: GitbenchError for a damaged file."""
        path = self.folder.tracked
        known = read_as(Tracked, path, "delete it and run again").sent if path.is_file() else ()
        return {(each.tracker, each.study, each.place): each for each in known}

    def send(self, rows: Sequence[Row], scores: Mapping[str, float] | None = None) -> None:
        """Send what was not sent yet of a curve, and of the scores of a run whose curve is whole."""
        parts: list[Part] = [None, *map(_part, rows)]
        if scores:
            named = {re.sub(r"[^\w./ -]", "_", f"scores/{metric}"): value for metric, value in scores.items()}
            parts.append((named, rows[-1][0] if rows else 0))
        self.diverged = bool(rows) and not math.isfinite(rows[-1][2])
        for name in self.asked.trackers.names:
            if name not in self.failed:
                self._try(name, self._send, parts)

    def close(self, failed: bool = False) -> None:
        """End what is open; `failed`: as the runs of a training that failed, which one that diverged did, too."""
        for name, backend in self.backends.items():
            self._try(name, end, backend, failed or self.diverged)
        self.backends.clear()

    def _send(self, name: str, parts: Sequence[Part]) -> None:
        key = self._key(name)
        if key in self.sent and self.sent[key].parts >= len(parts):
            return
        backend, size = self._opened(name), AT_ONCE.get(name, 1)
        try:
            while (start := self.sent[key].parts) < len(parts):
                for part in (batch := parts[start : start + size]):
                    if part is None:
                        backend.add_config(Config(dict(self.asked.values), format_python_code=False))
                    else:
                        backend.add_scalars(part[0], step=part[1])
                flush(name, backend)
                self.sent[key] = dataclasses.replace(self.sent[key], parts=start + len(batch))
        finally:
            self._remember()

    def _opened(self, name: str) -> Any:
        """Return the vis backend of a tracker, whose run it makes or goes on with."""
        if name in self.backends:
            return self.backends[name]
        if (down := self.asked.trackers.down(name)).is_file():
            raise GitbenchError(down.read_text(encoding="utf-8"))
        place, key = make_dir(Path(self.asked.trackers.place) / name), self._key(name)
        # of several runs one makes a store; a server does that itself, and each run waits for one alone
        with nullcontext() if is_remote(name) else claimed(place / "opening"):
            run = self.sent[key].run if key in self.sent else self._new_run(name, place)
            backend = VISBACKENDS.build(backend_config(name, self.asked, run))
            assert backend.experiment is not None  # which opens it
        self.backends[name] = backend
        if key not in self.sent:
            self.sent[key] = Sent(tracker=name, study=key[1], place=key[2], run=run or made_run(name, backend), parts=0)
            self._remember()
        return backend

    def _key(self, name: str) -> tuple[str, str, str]:
        folder = os.path.relpath(self.asked.trackers.place, os.path.realpath(self.folder.path))
        return name, self.asked.study, server_of(name) or folder

    def _new_run(self, name: str, place: Path) -> str | None:
        """Return the name of a new run, None where the tracker gives it."""
        if name in OWN_IDS:
            return secrets.token_hex(16)[: OWN_IDS[name]]
        if name != "tensorboard":
            return None
        wanted = f"{plain(self.asked.study)}/{plain(self.asked.arm)}/seed-{self.asked.seed}"
        again = 2
        run = wanted
        while (place / run).exists():  # of a run that was made again, by other code or on other data
            run, again = f"{wanted}.{again}", again + 1
        return run

    def _try(self, name: str, do: Callable[..., None], *values: Any) -> None:
        """Do something with a tracker, and give it up where that raises something, whatever it is."""
        began = time.monotonic()
        try:
            ask_guards(self.folder.tracked)  # another process may have taken the run over
            do(name, *values)
        except Exception as error:
            if name in self.failed:
                return
            self.failed[name] = in_short(error)
            self.say(f"{name} failed, the run goes on without it: {self.failed[name]}")
            if is_remote(name) and time.monotonic() - began > SLOW:
                with suppress(GitbenchError, OSError):
                    write_text(self.asked.trackers.down(name), self.failed[name])

    def _remember(self) -> None:
        write_json(self.folder.tracked, dataclasses.asdict(Tracked(sent=tuple(self.sent.values()))))


def _part(row: Row) -> Part:
    iteration, split, loss, rate = row
    return ({"train/loss": loss, "train/lr": rate} if split == "train" else {"val/nll": loss}), iteration


class _TrackHook(Hook):
    """Sends what is new of the curve now and then, behind the checkpoint that holds it."""

    priority = "LOWEST"

    def __init__(self, sender: Sender, curve: CurveHook) -> None:
        self.sender, self.curve = sender, curve
        self.sent = time.monotonic()

    def after_step(self, runner: Any, done: int) -> None:
        """Called by `CountedTrainLoop`."""
        if done == runner.max_iters or time.monotonic() - self.sent >= EVERY:
            self.sender.send(self.curve.rows)
            self.sent = time.monotonic()


@contextmanager
def tracked(runner: Any, curve: CurveHook) -> Iterator[None]:
    """Report what a runner trains while the block runs, where that is asked for; of several processes rank 0 does."""
    folder = RunFolder(Path(runner.work_dir))
    say = functools.partial(print_log, logger="current", level=WARNING)
    sender = None
    if is_main_process() and folder.track.is_file():
        try:
            sender = Sender(folder, read_as(Tracking, folder.track, "run the same command again"), say)
            runner.register_hook(_TrackHook(sender, curve))
        except GitbenchError as error:
            say(f"reported to no tracker: {error}")
    failed = True
    try:
        yield
        failed = False
    finally:
        if sender is not None:
            sender.send(curve.rows)  # of a run that failed, too
            sender.close(failed)
