"""Where runs are executed: the interface of three methods, and this machine as the executor that is always there.

Every executor starts the same unit of work (`gitbench.launch.work`), and learns how a run fares from the folder's state.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal, Protocol

from gitbench.launch.places import Place, Places
from gitbench.launch.state import State, read_state
from gitbench.launch.work import CLAIMED, DONE, FAULT, FOUND, LOST, REFUSED, in_words, is_taken, run_worker

LITTLE = 2**20  # bytes left of a full disk


@dataclass(frozen=True, kw_only=True)
class Event:
    """What an executor has to tell of a run folder. The last one of each is "ended" or "elsewhere".

    `values`: of "progress" iterations done, of how many, loss; of "pretraining" iterations done, of how many; of "ended"
    what went wrong, "" where nothing did. "elsewhere": not trained here, it is done already or in other hands.
    """

    folder: Path
    kind: Literal["started", "progress", "pretraining", "ended", "elsewhere"]
    values: tuple[Any, ...] = ()


class Executor(Protocol):
    """Executes run folders that hold a `config.py`, as many at a time as it can; each folder resumes by itself."""

    def submit(self, folder: Path) -> None:
        """Take a run; it begins when there is room."""

    def poll(self, timeout: float) -> list[Event]:
        """Return what happened since the last call; wait up to `timeout` seconds for something to happen."""

    def cancel(self, running: bool = True) -> list[Path]:
        """Withdraw what has not begun, and where `running` end what has; return the folders that had not begun."""


def end_of(folder: Path, status: int) -> Event:
    """Return the event that a worker's exit status is; negative: the signal that ended it."""
    if status in (FOUND, CLAIMED, LOST):
        return Event(folder=folder, kind="elsewhere")
    message = "" if status == DONE else in_words(status, folder)
    if status in (FAULT, REFUSED):
        if (state := read_state(folder)) is not None and state.kind == "ended":
            message = state.values[0] or message
        elif _is_full(folder):  # so that nothing could be said
            message = f"the disk of {folder} is full: free some space or pass another --work-dir"
    return Event(folder=folder, kind="ended", values=(message,))


def _is_full(folder: Path) -> bool:
    """Tell whether the disk of a folder is full; False where that cannot be told."""
    try:
        return shutil.disk_usage(folder).free < LITTLE
    except OSError:
        return False


def news_of(folder: Path, last: State | None) -> tuple[State | None, list[Event]]:
    """Return what a run's folder says now, and the event that this is if it said something else `last`."""
    state = read_state(folder)
    if state is None or state == last:
        return last, []
    if state.kind == "ended":  # the exit status says so, too
        return state, []
    return state, [Event(folder=folder, kind=state.kind, values=state.values)]


@dataclass(kw_only=True)
class _Process:
    """A run in a process of this machine."""

    folder: Path
    place: Place
    process: Any
    last: State | None  # what the folder said last


class LocalExecutor:
    """The places of this machine, one process a run; `context` is the multiprocessing context that starts processes."""

    def __init__(self, places: Places, context: Any) -> None:
        self.places, self.context = places, context
        self.queue: deque[Path] = deque()
        self.running: list[_Process] = []

    def submit(self, folder: Path) -> None:
        """Queue a run."""
        self.queue.append(folder)

    def poll(self, timeout: float) -> list[Event]:
        """Start what there are places for, and return what the processes have to tell."""
        events = []
        while (begins := self.places.next(self.queue)) is not None:
            folder, place = begins
            self.queue.remove(folder)
            if is_taken(folder):
                self.places.give_back(place)
                events.append(Event(folder=folder, kind="elsewhere"))
            else:
                events.append(self._start(folder, place))
        if not events:
            if not self.running:
                time.sleep(min(timeout, 0.05))
            wait([each.process.sentinel for each in self.running], timeout=timeout)
        for each in list(self.running):
            ended = each.process.exitcode is not None
            each.last, news = news_of(each.folder, each.last)
            events += [*news, self._ended(each)] if ended else news
        return events

    def cancel(self, running: bool = True) -> list[Path]:
        """Empty the queue; kill the processes, since every file of a run is whole at any moment."""
        waiting = list(self.queue)
        self.queue.clear()
        if running:
            for each in self.running:
                each.process.kill()
            for each in self.running:
                each.process.join(5)
        return waiting

    def _start(self, folder: Path, place: Place) -> Event:
        last = read_state(folder)
        process = self.context.Process(target=run_worker, args=(folder, place.environment))
        process.start()
        self.running.append(_Process(folder=folder, place=place, process=process, last=last))
        return Event(folder=folder, kind="started")

    def _ended(self, each: _Process) -> Event:
        self.running.remove(each)
        self.places.give_back(each.place)
        each.process.join()
        return end_of(each.folder, each.process.exitcode)
