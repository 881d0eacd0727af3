"""A report whose findings can be read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitbench.gpu_check.results import Finding, Report, append, read
from gitbench.gpu_check.sizes import Setting


class Kept(Report):
    """A report that gives its findings back."""

    def __init__(self, folder: Path) -> None:
        super().__init__("some", folder / "results.jsonl")
        append(self.file, {"kind": "made", "device": "cpu"})

    @property
    def found(self) -> dict[str, Finding]:
        """What -> finding, in order."""
        results = read(self.file)[1]
        return {finding.what: finding for result in results for finding in result.findings}

    @property
    def failed(self) -> list[str]:
        """What failed."""
        return [what for what, finding in self.found.items() if finding.passed is False]

    @property
    def passed(self) -> list[str]:
        """What passed."""
        return [what for what, finding in self.found.items() if finding.passed]


@pytest.fixture
def report(tmp_path) -> Kept:
    return Kept(tmp_path)


@pytest.fixture
def setting(tmp_path) -> Setting:
    """The test of the checks on a CPU."""
    return Setting(device="cpu", folder=str(tmp_path))
