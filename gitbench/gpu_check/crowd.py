"""One of the processes that share a card: `python -m gitbench.gpu_check.crowd FOLDER` trains a run when it is told to.

It says `{}` when it is ready. For each line on its standard input, seconds, it trains so long and says how many steps it took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from mmengine.hooks import Hook

from gitbench.gpu_check.steps import WARM, Enough, finish, train_until
from gitbench.run_folder import RunFolder
from gitbench.training.device import planned


class OnDemand(Hook):
    """Trains while it is told to, and otherwise waits for the next word."""

    priority = "LOWEST"

    def __init__(self, device: str, asked: TextIO, answers: TextIO) -> None:
        self.device, self.asked, self.answers = device, asked, answers
        self.until = self.began = 0.0
        self.taken = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # type: ignore[no-untyped-def]
        self.taken += 1
        if not self.began:
            if self.taken == WARM:
                self._wait({})
        elif time.perf_counter() >= self.until:
            finish(self.device)
            self._wait({"steps": self.taken, "seconds": time.perf_counter() - self.began})

    def _wait(self, answer: dict[str, float]) -> None:
        """Give an answer and wait until the next seconds begin."""
        finish(self.device)
        print(json.dumps(answer), file=self.answers, flush=True)
        if not (line := self.asked.readline()):
            raise Enough
        self.taken, self.began = 0, time.perf_counter()
        self.until = self.began + float(line)


def main(folder: Path) -> None:
    """Train the run of a folder on demand; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    config = RunFolder(folder).read_config()
    train_until(config, OnDemand(planned(config).device, sys.stdin, answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)
