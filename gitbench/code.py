"""A fingerprint of the code that makes numbers: what Python reads of it, without comments, docstrings and layout."""

from __future__ import annotations

import ast
import functools
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# The packages, and single modules, that decide what a run's numbers are.
MAKES_NUMBERS = ("models", "training", "data", "metrics", "variants", "registry.py", "seeding.py", "tasks.py")


@functools.cache
def code_fingerprint() -> str:
    """Return the fingerprint of the code of this process that makes numbers, plugins included: 16 hex digits."""
    from gitbench.plugins import files

    return fingerprint_of([*_modules(), *files()])


def fingerprint_of(files: Iterable[Path]) -> str:
    """Return the fingerprint of modules by their names and what they say: 16 hex digits."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\n{meaning(file.read_text(encoding='utf-8'))}\n".encode())
    return digest.hexdigest()[:16]


def meaning(source: str) -> str:
    """Return a module as its syntax tree, without docstrings: what comments and layout do not change."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


def _modules() -> list[Path]:
    found: list[Path] = []
    for name in MAKES_NUMBERS:
        place = PACKAGE / name
        found += [place] if place.is_file() else place.rglob("*.py")
    return sorted(found, key=lambda file: os.fspath(file.relative_to(PACKAGE)))
