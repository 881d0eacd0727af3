"""The process of one run: forked from a server that has imported torch once, tied to the launcher's life.

It takes the folder's lock, sends its output to `log.txt`, reports progress through a pipe, and ends itself when the
launcher is gone, so that two launches never write to one folder.
"""

from __future__ import annotations

import fcntl
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from gitbench.errors import GitbenchError
from gitbench.files import explain_os_errors, write_json
from gitbench.study.store import completed_record

LOCK_PATIENCE = 20.0  # seconds before saying so: loader processes of a killed run hold its lock a moment longer


def run_worker(
    folder: Path, connection: Connection, environment: Mapping[str, str], provenance: Mapping[str, Any] | None = None
) -> None:
    """Execute `folder` and exit: 0 done, 2 an error for the user, 1 a fault. Messages: (kind, ...) tuples.

    Where another launch works on the folder, wait until it is through; a run it has finished is not trained again.
    """
    with worker_process(folder, connection, environment):
        lock = open(folder / ".lock", "w")  # noqa: SIM115 - held until the process ends
        take_lock(lock, connection)
        if completed_record(folder) is not None:
            return
        if provenance is not None:
            write_json(folder / "provenance.json", provenance)
        from gitbench.training.run import execute

        execute(
            folder,
            lambda done, total, loss: send(connection, ("progress", done, total, loss)),
            lambda done, total: send(connection, ("pretraining", done, total)),
        )


@contextmanager
def worker_process(folder: Path, connection: Connection, environment: Mapping[str, str]) -> Iterator[None]:
    """Make this process a worker whose output goes to the log of `folder`, and end it after the block.

    Exit status 0, or, told to the launcher first, 2 for an error of the user and 1 for a fault.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides: it gets the same Ctrl-C
    os.environ.update(environment)
    threading.Thread(target=_die_with_launcher, args=(connection,), daemon=True).start()
    try:
        with explain_os_errors(folder):
            log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        yield
    except GitbenchError as error:
        send(connection, ("error", str(error)))
        _leave(2)
    except BaseException as error:
        traceback.print_exc()
        text = str(error).strip().splitlines()
        send(connection, ("fault", f"{type(error).__name__}: {text[0] if text else ''} (see {folder / 'log.txt'})"))
        _leave(1)
    finally:
        _leave(0)


def take_lock(lock: IO[str], connection: Connection) -> None:
    """Take the lock of a run folder; the launcher hears of it where another launch keeps it long."""
    _take_lock(lock, lambda: send(connection, ("waiting", "another gitbench is working on it")))


def _take_lock(lock: IO[str], waiting: Callable[[], None]) -> None:
    """Take the lock; call `waiting` once where another launch keeps it longer than `LOCK_PATIENCE`."""
    patience = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > patience:
                waiting()
                patience = math.inf
            time.sleep(0.2)


def send(connection: Connection, message: tuple) -> None:
    """Tell the launcher; without it the process ends."""
    try:
        connection.send(message)
    except OSError:  # the launcher is gone
        os._exit(3)


def _die_with_launcher(connection: Connection) -> None:
    """Block until the launcher's end of the pipe closes, then end at once: every file is whole at any moment."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(3)


def _leave(code: int) -> None:
    """End without interpreter shutdown: the watcher thread may sit in a read."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
