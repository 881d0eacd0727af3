"""Where runs are executed: the interface of three methods, and this machine as the executor that is always there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, Protocol

from gitbench.launch.places import Place, Places
from gitbench.launch.worker import run_worker


@dataclass(frozen=True, kw_only=True)
class Event:
    """What an executor has to tell of a run folder.

    `values`: of "progress" iterations done, of how many, loss; of "pretraining" iterations done, of how many; of
    "waiting" why; of "ended" what went wrong, "" where nothing did.
    """

    folder: Path
    kind: Literal["started", "progress", "pretraining", "waiting", "ended"]
    values: tuple[Any, ...] = ()


class Executor(Protocol):
    """Executes run folders that hold a `config.py`, as many at a time as it can; each folder resumes by itself."""

    def submit(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Take a run; it begins when there is room. `provenance` is what its record says of where it comes from."""

    def poll(self, timeout: float) -> list[Event]:
        """Return what happened since the last call; wait up to `timeout` seconds for something to happen."""

    def cancel(self, running: bool = True) -> list[Path]:
        """Withdraw what has not begun, and where `running` end what has; return the folders that had not begun."""


@dataclass(kw_only=True)
class _Process:
    """A run in a process of this machine."""

    folder: Path
    place: Place
    process: Any
    connection: Connection
    message: str = ""


class LocalExecutor:
    """The places of this machine, one process a run; `context` is the multiprocessing context that starts processes."""

    def __init__(self, places: Places, context: Any) -> None:
        self.places, self.context = places, context
        self.queue: deque[tuple[Path, Mapping[str, Any]]] = deque()
        self.running: list[_Process] = []

    def submit(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Queue a run."""
        self.queue.append((folder, provenance))

    def poll(self, timeout: float) -> list[Event]:
        """Start what there are places for, and return what the processes have to tell."""
        events = []
        while (begins := self.places.next(folder for folder, _ in self.queue)) is not None:
            events.append(self._start(*begins))
        if not events:
            readers = [each.connection for each in self.running]
            if not readers:
                time.sleep(min(timeout, 0.05))
            wait([*readers, *(each.process.sentinel for each in self.running)], timeout=timeout)
        for each in list(self.running):
            ended = each.process.exitcode is not None  # asked first: what it said before it ended is then all there
            events += self._messages(each)
            if ended:
                events.append(self._ended(each))
        return events

    def cancel(self, running: bool = True) -> list[Path]:
        """Empty the queue; kill the processes, since every file of a run is whole at any moment."""
        waiting = [folder for folder, _ in self.queue]
        self.queue.clear()
        if running:
            for each in self.running:
                each.process.kill()
            for each in self.running:
                each.process.join(5)
        return waiting

    def _start(self, folder: Path, place: Place) -> Event:
        submitted = next(each for each in self.queue if each[0] == folder)
        self.queue.remove(submitted)
        sharing = {"sharing": place.sharing} if place.sharing else {}
        provenance = {**submitted[1], **sharing}
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=run_worker, args=(folder, theirs, place.environment, provenance))
        process.start()
        theirs.close()
        self.running.append(_Process(folder=folder, place=place, process=process, connection=ours))
        return Event(folder=folder, kind="started")

    def _messages(self, each: _Process) -> list[Event]:
        events = []
        try:
            while each.connection.poll():
                kind, *values = each.connection.recv()
                if kind == "error":
                    each.message = values[0]
                else:
                    events.append(Event(folder=each.folder, kind=kind, values=tuple(values)))
        except (EOFError, OSError):
            pass
        return events

    def _ended(self, each: _Process) -> Event:
        self.running.remove(each)
        self.places.give_back(each.place)
        each.process.join()
        each.connection.close()
        code = each.process.exitcode
        said = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        return Event(folder=each.folder, kind="ended", values=("" if code == 0 else each.message or said,))
