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
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from gitbench import plugins
from gitbench.errors import GitbenchError
from gitbench.files import explain_os_errors, write_json
from gitbench.run_folder import RunFolder
from gitbench.study.provenance import now

LOCK_PATIENCE = 20.0  # seconds before saying so: loader processes of a killed run hold its lock a moment longer


def run_worker(
    path: Path, connection: Connection, environment: Mapping[str, str], provenance: Mapping[str, Any] | None = None
) -> None:
    """Execute the run folder `path` and exit: 0 done, 2 an error for the user, 1 a fault; messages go to `connection`.

    Where another launch works on the folder, wait until it is through; a run it has finished is not trained again.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides: it gets the same Ctrl-C
    os.environ.update(environment)
    threading.Thread(target=_die_with_launcher, args=(connection,), daemon=True).start()
    folder = RunFolder(path)
    try:
        with explain_os_errors(path):
            log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        plugins.load()
        _execute(folder, connection, provenance)
    except GitbenchError as error:
        send(connection, ("error", str(error)))
        _leave(2)
    except BaseException as error:
        traceback.print_exc()
        text = str(error).strip().splitlines()
        send(connection, ("error", f"{type(error).__name__}: {text[0] if text else ''} (see {folder.log})"))
        _leave(1)
    finally:
        _leave(0)


def _execute(folder: RunFolder, connection: Connection, provenance: Mapping[str, Any] | None) -> None:
    lock = open(folder.lock, "w")  # noqa: SIM115 - held until the process ends
    take_lock(lock, lambda: send(connection, ("waiting", "another gitbench is working on it")))
    if folder.completed_record() is not None:
        return
    if provenance is not None:
        write_json(folder.provenance, {**provenance, "started": now()})
    from gitbench.training.run import execute

    execute(
        folder.path,
        lambda done, total, loss: send(connection, ("progress", done, total, loss)),
        lambda done, total: send(connection, ("pretraining", done, total)),
    )


def take_lock(lock: IO[str], waiting: Callable[[], None]) -> None:
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
