"""A worker that also measures what it holds of the card: `python -m gitbench.gpu_check.watched FOLDER`.

What a run records of its memory is what torch says at its end. That is the truth only if nothing has reset torch's peak on
the way; so each reset is seen here, with the peak until then, in `watched.json`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from gitbench.files import write_json
from gitbench.launch.work import end_with_parent, work

EVERY = 0.05  # seconds between two words on how far the run is
WATCHED = "watched.json"


class Peak:
    """The most bytes of tensors on the card since it began, whoever resets torch's own peak; None without a card."""

    def __init__(self) -> None:
        import torch

        self.torch, self.before = torch, 0
        self.on_card = torch.cuda.is_available()
        if self.on_card:
            reset = torch._C._cuda_resetPeakMemoryStats

            def seen(*arguments: Any) -> Any:
                self.before = self.bytes
                return reset(*arguments)

            torch._C._cuda_resetPeakMemoryStats = seen  # type: ignore[assignment]

    @property
    def bytes(self) -> int:
        """The most bytes so far."""
        return max(self.before, self.torch.cuda.max_memory_allocated()) if self.on_card else 0


def main(folder: Path) -> int:
    """Execute a run folder and write what it held of the card, in bytes; returns the worker's status.

    `peak`: of tensors; `reserved`: by torch at its most; `taken`: that the card has given out at the end to all processes,
    and had at torch's most, since torch keeps what it has reserved.
    """
    end_with_parent(os.getppid())
    peak = Peak()
    status = work(folder, EVERY)
    found: dict[str, int | None] = dict.fromkeys(("peak", "reserved", "taken"))
    if peak.on_card:
        cuda = peak.torch.cuda
        free, total = cuda.mem_get_info()
        reserved = cuda.max_memory_reserved()
        found = {"peak": peak.bytes, "reserved": reserved, "taken": total - free + reserved - cuda.memory_reserved()}
    write_json(folder / WATCHED, found)
    return status


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(status)
