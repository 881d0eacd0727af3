"""The two sides of a comparison of speed, base and change: processes that do the same work when they are told to. No torch."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.files import cache_variables

WORKLOAD = Path(__file__).with_name("workload.py")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side: what it is called, where its code is, its Python, a folder to write into, and one in which its logs stay."""

    name: str  # "base" or "change"
    tree: Path
    python: str
    folder: Path
    logs: Path

    def log(self, activity: str) -> Path:
        """Return the file of what it prints in an activity."""
        return self.logs / f"{self.name}-{activity}.txt"

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes: its gitbench first, a cache and temporary files of its own, one thread."""
        others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        own = {"PYTHONPATH": os.pathsep.join([str(self.tree), *others]), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
        own |= {**cache_variables(self.folder / "cache"), "TMPDIR": str(self.folder)}
        return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | own


class Failed(Exception):
    """A side, `side` by name, cannot do an activity. `of_code`: its code is at fault, as far as one can tell."""

    def __init__(self, side: Side, activity: str, why: str, of_code: bool) -> None:
        super().__init__(f"the {side.name} cannot do {activity} ({why[:300]}), see {side.log(activity)}")
        self.side, self.of_code = side.name, of_code


class Worker:
    """A process of a side that does units of an activity when it is asked to; a context, whose end ends the process."""

    def __init__(self, side: Side, activity: str, asked: Mapping[str, Any], workload: Path = WORKLOAD) -> None:
        self.side, self.activity, self.heard = side, activity, b""
        said = {**asked, "folder": str(side.folder), "tree": str(side.tree)}
        with open(side.log(activity), "ab") as log:
            self.process = subprocess.Popen(
                [side.python, "-P", str(workload), activity, json.dumps(said)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=side.environment(),
                cwd=side.tree,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        self.process.wait()

    def ready(self, until: float) -> None:
        """Wait until it has prepared itself. Errors as `ask`."""
        self._hear(until)

    def ask(self, units: int, until: float) -> dict[str, float]:
        """Let it do some units and return what they took.

        Errors: Failed where it cannot, or is not done at `until`, a time of the monotonic clock.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(b"%d\n" % units)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return self._hear(until)

    def _hear(self, until: float) -> dict[str, float]:
        assert self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        while b"\n" not in self.heard:
            if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
                raise Failed(self.side, self.activity, "it was not done in time, raise --minutes", of_code=False)
            if not (new := os.read(pipe, 65536)):
                raise self._ended()
            self.heard += new
        line, _, self.heard = self.heard.partition(b"\n")
        said = json.loads(line)
        if "failed" in said:
            raise Failed(self.side, self.activity, said["failed"], of_code=not said.get("of_machine"))
        return said

    def _ended(self) -> Failed:
        """Return what is to be said of a process that ended without a word; one that a signal ended was ended by others."""
        status = self.process.wait()
        return Failed(self.side, self.activity, f"its process ended with status {status}", of_code=status >= 0)
