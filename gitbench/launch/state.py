"""What a run says of itself while it is executed, in `state.json` of its folder: whoever launched it reads it there.

The process that holds the run's claim writes it, on whatever host; it is no part of the result.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gitbench.files import load_json, write_text
from gitbench.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class State:
    """The last word of a run, and of which process.

    `values`: of "progress" iterations done, of how many, loss; of "pretraining" iterations done, of how many; of "ended"
    what went wrong, "" where nothing did.
    """

    kind: Literal["started", "pretraining", "progress", "ended"]
    host: str
    pid: int
    values: tuple[Any, ...] = ()


def write_state(folder: Path, state: State) -> None:
    """Say how far a run is."""
    write_text(RunFolder(folder).state, json.dumps(asdict(state)) + "\n", durable=False)


def read_state(folder: Path) -> State | None:
    """Return what a run said last; None where it said nothing yet."""
    found = load_json(RunFolder(folder).state)
    try:
        return State(**{**found, "values": tuple(found["values"])})
    except (TypeError, KeyError):
        return None
