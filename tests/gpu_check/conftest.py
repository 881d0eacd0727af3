"""A report whose findings can be read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from gitbench.gpu_check.results import Finding, Report, append, read
from gitbench.gpu_check.sizes import Setting, config_of


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


@pytest.fixture(autouse=True)
def plain_configs(monkeypatch) -> None:
    """mmengine does not lay out its config, which takes seconds."""
    monkeypatch.setattr(Config, "pretty_text", "")


@pytest.fixture
def short() -> Callable[..., Config]:
    """`config_of` with short captions, of few images at a time."""

    def made(*arguments: Any, **more: Any) -> Config:
        config = config_of(*arguments, **more)
        config.model.generation.max_length = 4
        for loader in (config.val_dataloader, config.test_dataloader):
            loader.batch_size = 2
        return config

    return made
