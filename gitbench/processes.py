"""Processes of this machine: forked from one that has imported what training needs, and gone with the one that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from gitbench.files import explain_os_errors

ORPHAN = 3  # exit status of a process whose starter is gone
VISIBLE = "CUDA_VISIBLE_DEVICES"
BY_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"  # "1": torch counts cards without starting CUDA, and of none named finds none


def start_context() -> Any:
    """Return the way runs are started: forked from a process that has imported torch once (5 s saved a run).

    mmengine asks for CUDA when it is imported, and no fork can use CUDA after that. So no card is shown to that process, and
    torch is told to count cards without CUDA: each run starts it, for its own card.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gitbench.training.run"])
    with variables({VISIBLE: "", BY_NVML: "1"}):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it would print a traceback while it imports
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)
    return context


def end_with_parent(parent: int | None = None) -> None:
    """End this process once the one that started it is gone: every file is whole at any moment.

    `parent` is its pid, where it is not one of `multiprocessing`'s; it may be gone already.
    """
    starter = multiprocessing.parent_process()

    def watch() -> None:
        if starter is not None:  # with a fork server between them, which lives on
            starter.join()
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(ORPHAN)

    threading.Thread(target=watch, daemon=True).start()


def begin_child(environment: Mapping[str, str], log: Path) -> None:
    """Begin a process that another one started: with this environment, to end with it, and what it prints goes to `log`.

    It does not hear of Ctrl-C: whoever started it gets the same, and decides. It ends by `leave`.
    Errors: GitbenchError for a log that cannot be written.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)
    end_with_parent()
    with explain_os_errors(log):
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def word_of(connection: Any) -> Any:
    """Return what a process says; None where it is gone."""
    try:
        return connection.recv()
    except (EOFError, ConnectionResetError):
        return None


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process's environment while the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_for(command: Sequence[str], environment: Mapping[str, str], log: Path, seconds: float | None) -> int:
    """Run a command in a group of its own, which ends with it; what it says goes to `log`. Returns its exit status.

    Errors: subprocess.TimeoutExpired where it is not done in time.
    """
    with open(log, "wb") as output:
        child = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        return child.wait(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def why_failed(status: int, log: Path) -> str:
    """Return how a process failed: by which signal, or the last line that it said, cut to 300 characters."""
    return f"killed by signal {-status}" if status < 0 else last_line(log)


def last_line(log: Path) -> str:
    """Return the last line of a log, cut to 300 characters; "" of one that is empty, or gone."""
    if not log.is_file():
        return ""
    return (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1][:300]


def leave(status: int) -> None:
    """End this process at once: threads of libraries may hold up a shutdown."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
