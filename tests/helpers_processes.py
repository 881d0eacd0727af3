"""Whether a process still runs, of those that are no children of the test's."""

from __future__ import annotations

import time
from pathlib import Path


def alive(pid: int | str) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for (a zombie) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_gone(*pids: int | str, seconds: float = 60) -> bool:
    """Wait until none of these processes runs; returns whether that is so in time."""
    deadline = time.monotonic() + seconds
    while (there := any(map(alive, pids))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not there
