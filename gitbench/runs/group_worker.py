"""The process of a group of runs that train together; see `worker.py`, whose rules hold here for every folder.

It ends when all are trained. Their captions are made by processes of their own, which find nothing left to train.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import explain_os_errors, write_json
from gitbench.runs.store import completed_record
from gitbench.runs.worker import _die_with_launcher, _leave, _send, _take_lock


def run_group_worker(
    folders: Sequence[Path],
    connections: Sequence[Connection],
    environment: Mapping[str, str],
    origins: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Train `folders` together and exit: 0 trained, 2 an error for the user, 1 a fault. Each has a connection.

    Messages are those of `run_worker`; an error goes to the first connection. Output goes to the first folder's log.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)
    threading.Thread(target=_die_with_launcher, args=(connections[0],), daemon=True).start()
    try:
        with contextlib.ExitStack() as held:
            for folder in folders:
                with explain_os_errors(folder), open(folder / "log.txt", "a", encoding="utf-8") as log:
                    log.write(f"training in a group of {len(folders)}, whose log is {folders[0].name}/log.txt\n")
            log_file = os.open(folders[0] / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(log_file, 1)
            os.dup2(log_file, 2)
            for folder, connection in sorted(zip(folders, connections, strict=True), key=lambda pair: pair[0]):
                lock = held.enter_context(open(folder / ".lock", "w"))  # in one order everywhere: no two wait in a ring
                _take_lock(lock, partial(_send, connection, ("waiting", "another gitbench is working on it")))
            if not any(
                _trained(folder) for folder in folders
            ):  # else another launch was here: the rest goes one by one
                for folder, origin in zip(folders, origins, strict=False):
                    write_json(folder / "provenance.json", origin)
                _train(folders, connections)
    except GitbenchError as error:
        _send(connections[0], ("error", str(error)))
        _leave(2)
    except BaseException as error:
        traceback.print_exc()
        text = str(error).strip().splitlines()
        where = folders[0] / "log.txt"
        _send(connections[0], ("fault", f"{type(error).__name__}: {text[0] if text else ''} (see {where})"))
        _leave(1)
    _leave(0)


def _trained(folder: Path) -> bool:
    return completed_record(folder) is not None or (folder / "trained.json").is_file()


def _train(folders: Sequence[Path], connections: Sequence[Connection]) -> None:
    from gitbench.training.group import train_group

    train_group(
        folders,
        lambda place, done, total, loss: _send(connections[place], ("progress", done, total, loss)),
    )
