"""Errors meant for people: one line that says what is wrong and what to do.

Everything a user can cause (a bad path, an unknown name, a full disk) is raised as `GitbenchError`;
the command line prints its text without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

import difflib
import importlib.util
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


class GitbenchError(Exception):
    """Something the user can mend. The text is one line: what is wrong, then what to do; what it quotes is folded into it."""

    exit_code = 2

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(line.strip() for line in text.splitlines()))


class MachineError(GitbenchError):
    """What the machine is at fault for and no code: it has no memory left, or a process was killed."""


class StepTooLarge(GitbenchError):
    """A training step did not fit into memory: of a card, that of `memory_bytes`."""

    def __init__(self, said: str, memory_bytes: int | None) -> None:
        super().__init__(said)
        self.memory_bytes = memory_bytes


def unknown_name(kind: str, name: str, known: Iterable[str]) -> GitbenchError:
    """Build the error for a name that is not registered, offering the nearest known one.

    `kind` is the noun shown to the user ("ablation", "profile", ...).
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return GitbenchError(f"unknown {kind} '{name}': {hint}known: {', '.join(known) or '(none)'}")


def lookup(kind: str, name: str, known: Mapping[str, Value]) -> Value:
    """Return `known[name]`; a name that is not there raises the error of `unknown_name`."""
    if name not in known:
        raise unknown_name(kind, name, known)
    return known[name]


def installing(*packages: str) -> str:
    """Return the command that installs packages into this environment; those that uv makes have no pip."""
    python, named = shlex.quote(sys.executable), " ".join(packages)
    if importlib.util.find_spec("pip") is None:
        return f"uv pip install {named} --python {python}"
    return f"{python} -m pip install {named}"


def in_short(error: BaseException) -> str:
    """Return an error as one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return (text if isinstance(error, GitbenchError) else f"{type(error).__name__}: {text}")[:300]
