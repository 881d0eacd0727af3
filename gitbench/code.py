"""A fingerprint of the code that makes numbers: what Python reads of it, without comments, docstrings and layout.

It covers what a run computes once its spec is known. What makes the spec (profiles, ablations, plans) stands in the run's
key, data and the weights that ship in their own fingerprints. It is the same whatever Python reads the files.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from gitbench import plugins
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, load_json, write_json

PACKAGE = Path(__file__).resolve().parent
# The packages, and single modules, that decide what a run's numbers are.
MAKES_NUMBERS = (
    *("data", "metrics", "models", "training", "variants"),
    *(
        "axis.py",
        "compute.py",
        "encoders/store.py",
        "launch/records.py",
        "registry.py",
        "seeding.py",
        "spec.py",
        "study/config.py",
        "study/scoring.py",
        "tasks.py",
    ),
)
PLAN = "ABLATION"  # what an ablation file plans: all of it stands in the keys of its runs
KEPT = 5000  # files whose meaning is kept in the cache


@functools.cache
def code_fingerprint() -> str:
    """Return the fingerprint of gitbench's own code that makes numbers, as this process first found it: 16 hex digits."""
    return fingerprint_now()


def fingerprint_now() -> str:
    """Return the fingerprint of gitbench's own code that makes numbers, as its files are now."""
    places = [PACKAGE / name for name in MAKES_NUMBERS]
    return fingerprint_of(
        sorted(file for place in places for file in ([place] if place.is_file() else place.rglob("*.py")))
    )


@functools.cache
def plugin_fingerprints() -> dict[str, str]:
    """Return plugin -> fingerprint of its files, of those that this process has loaded first."""
    return {name: fingerprint_of(files) for name, files in plugins.files_by_name().items()}


def fingerprint_of(files: Iterable[Path]) -> str:
    """Return the fingerprint of modules by their names and what they say: 16 hex digits.

    Reading a module takes some 5 ms, so what it says is kept in the cache, by its content.
    """
    kept = cache_dir() / "code.json"
    found = load_json(kept)
    known: dict[str, str] = dict(found) if isinstance(found, dict) else {}
    before, digest = len(known), hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        key = hashlib.sha256(_reader() + content).hexdigest()[:32]
        if key not in known:
            known[key] = hashlib.sha256(meaning(content).encode()).hexdigest()[:32]
        name = file.relative_to(PACKAGE).as_posix() if file.is_relative_to(PACKAGE) else file.name
        digest.update(f"{name}\n{known[key]}\n".encode())
    if len(known) > before:
        with contextlib.suppress(GitbenchError):  # a cache that cannot be written: they are read again next time
            write_json(kept, dict([*known.items()][-KEPT:]))
    return digest.hexdigest()[:16]


def meaning(source: str | bytes) -> str:
    """Return a module as its syntax tree in one line, without what does nothing and without what an ablation file plans.

    Errors: SyntaxError for text that is no Python.
    """
    parts: list[str] = []
    _add(ast.parse(source), parts)
    return "".join(parts)


def _add(value: object, parts: list[str]) -> None:
    """Append a node, a list of nodes or a plain value. Fields at nothing are left out: later Pythons have more of them."""
    if isinstance(value, ast.Constant):
        parts.append(f"Constant({value.value!r})")
    elif isinstance(value, ast.AST):
        parts.append(f"{type(value).__name__}(")
        for name in value._fields:
            field = getattr(value, name, None)
            if field is not None and field != [] and name not in ("ctx", "type_comment", "type_ignores"):
                parts.append(f"{name}=")
                _add(field, parts)
        parts.append(")")
    elif isinstance(value, list):
        parts.append("[")
        for each in value:
            if not _says_nothing(each):
                _add(each, parts)
                parts.append(",")
        parts.append("]")
    else:
        parts.append(repr(value))


def _says_nothing(node: object) -> bool:
    """Tell whether a statement is a text alone (a docstring), or the plan of an ablation file."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [each.id for each in targets if isinstance(each, ast.Name)] == [PLAN]
    return False


@functools.cache
def _reader() -> bytes:
    """Return what tells the meanings that this module finds from those of its other versions."""
    return hashlib.sha256(Path(__file__).read_bytes()).digest()
