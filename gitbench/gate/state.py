"""The folder of a check: who is at work there, of what it is, and how its tiers ended, so that one that was stopped goes on.

`state.json` says of what: code, packages, data, references, base and question. What a tier keeps in its own folder is of the
same check, always. No torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gitbench import plugins
from gitbench.claim import Claim
from gitbench.code import PACKAGE
from gitbench.errors import GitbenchError
from gitbench.files import explain_os_errors, load_json, make_dir, write_json
from gitbench.gate.outcome import Outcome
from gitbench.gate.reference import Reference, here
from gitbench.gate.setting import Setting
from gitbench.run_key import from_json

STATE = "state.json"
MAKING = "record"  # the folder, within that of checks, in which references are made


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a claim on a folder while the block runs. Errors: GitbenchError where another gate is at work there."""
    place = folder.resolve()
    claim = Claim(place.with_name(f".{place.name}.gate"))
    if not claim.take():
        raise GitbenchError(f"another gate is at work in {folder}: wait for its end, or pass another --out")
    try:
        yield
    finally:
        claim.release()


def key_of(setting: Setting, references: Mapping[str, Reference], base: str | None) -> str:
    """Return what tells one check from another: gitbench's files, packages, data, references, the base, and what was asked."""
    files = hashlib.sha256()
    for file in [*sorted(PACKAGE.rglob("*")), *plugins.files()]:
        if file.is_file() and "__pycache__" not in file.parts:
            files.update(f"{file}\n{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    said = [
        files.hexdigest(),
        base,
        asdict(here(setting.device, setting.subject)),
        asdict(dataclasses.replace(setting, folder="", seconds=0.0)),
        *(asdict(references[name]) for name in sorted(references)),
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def resumed(folder: Path, key: str, fresh: bool) -> dict[str, Outcome]:
    """Return how tiers ended in an earlier launch of this very check that was stopped; else clear the folder.

    What was made of references stays. Errors: GitbenchError for a folder of something else.
    """
    state = load_json(folder / STATE)
    own = isinstance(state, dict) and {"key", "finished", "outcomes"} <= {*state}
    if own and state["key"] == key and not state["finished"] and not fresh:
        return {
            name: dataclasses.replace(from_json(Outcome, each), resumed=True)
            for name, each in state["outcomes"].items()
        }
    if not own and folder.is_dir() and {each.name for each in folder.iterdir()} - {MAKING}:
        raise GitbenchError(f"{folder} holds something else than a gate's check: pass another --out")
    keep(folder, "", {}, finished=True)  # a kill within what follows leaves a check of nothing
    for each in folder.iterdir():
        with explain_os_errors(each):  # what could not be removed would be taken for this check's
            if each.is_dir() and each.name != MAKING:
                shutil.rmtree(each)
            elif each.is_file() and each.name != STATE:
                each.unlink()
    keep(folder, key, {}, finished=False)
    return {}


def keep(folder: Path, key: str, outcomes: Mapping[str, Outcome], finished: bool) -> None:
    """Write down how tiers ended so far."""
    said: dict[str, Any] = {name: asdict(outcome) for name, outcome in outcomes.items()}
    write_json(make_dir(folder) / STATE, {"key": key, "finished": finished, "outcomes": said})


def made_of(making: Path, key: str) -> None:
    """Clear what was left of references that were being made of anything else."""
    if (load_json(making / STATE) or {}).get("key") != key:
        if making.is_dir():
            with explain_os_errors(making):
                shutil.rmtree(making)
        write_json(make_dir(making) / STATE, {"key": key})
