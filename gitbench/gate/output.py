"""A check for people and for machines: the terminal's table, Markdown, JUnit XML, JSON, an HTML page."""

from __future__ import annotations

from pathlib import Path

from gitbench.gate.run import Check


def write_outputs(check: Check, folder: Path) -> list[Path]:
    """Write gate.json, gate.md, gate.xml and gate.html into a folder and return them."""
    raise NotImplementedError


def table(check: Check) -> str:
    """Return a check as the table that the terminal shows."""
    raise NotImplementedError
