"""The process of a group of runs that train together; see `worker.py`, whose rules hold here for every folder.

It ends when all are trained. Their captions are made by processes of their own, which find nothing left to train.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gitbench.files import explain_os_errors, write_json
from gitbench.runs.store import captioned, completed_record
from gitbench.runs.worker import send, take_lock, worker_process


def run_group_worker(
    folders: Sequence[Path],
    connections: Sequence[Connection],
    environment: Mapping[str, str],
    origins: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Train `folders` together and exit: 0 trained, 2 an error for the user, 1 a fault. Each has a connection.

    Messages are those of `run_worker`; an error goes to the first connection. Output goes to the first folder's log.
    """
    with worker_process(folders[0], connections[0], environment), contextlib.ExitStack() as held:
        for folder in folders:
            with explain_os_errors(folder), open(folder / "log.txt", "a", encoding="utf-8") as log:
                log.write(f"training in a group of {len(folders)}, whose log is {folders[0].name}/log.txt\n")
        for folder, connection in sorted(zip(folders, connections, strict=True), key=lambda pair: pair[0]):
            lock = held.enter_context(open(folder / ".lock", "w"))  # in one order everywhere: no two wait in a ring
            take_lock(lock, connection)
        # where another launch was here the rest goes one by one
        if not any(completed_record(folder) is not None or captioned(folder) for folder in folders):
            for folder, origin in zip(folders, origins, strict=False):
                write_json(folder / "provenance.json", origin)
            _train(folders, connections)


def _train(folders: Sequence[Path], connections: Sequence[Connection]) -> None:
    from gitbench.training.group import train_group

    train_group(
        folders,
        lambda place, done, total, loss: send(connections[place], ("progress", done, total, loss)),
    )
