"""Trackers, to which runs are reported beside their folders (`--track`): which there are, and what is asked for of a run.

mmengine's `vis_backends` do the reporting (`gitbench.training.track`). In a run's folder `track.json` says what is asked
for, and `tracked.json` what was sent. Neither is part of the run's key, its config, its record or a bundle.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gitbench.errors import GitbenchError, installing, unknown_name

TRACKERS = ("tensorboard", "wandb", "mlflow", "aim", "clearml", "swanlab")  # each named as its package
_MORE = {
    "mlflow": ("sqlalchemy", "alembic", "sqlparse")
}  # of a store of its own, which the package "mlflow-skinny" lacks


@dataclass(frozen=True, kw_only=True)
class Trackers:
    """The trackers that a command reports its runs to; what they keep on this disk goes below `place`."""

    names: tuple[str, ...]
    place: str  # an absolute path


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """What is reported of one run, to whom, and under which names."""

    trackers: Trackers
    study: str
    arm: str
    seed: int
    values: Mapping[str, Any]  # its hyper-parameters

    @property
    def name(self) -> str:
        """The run among those of its study."""
        return f"{self.arm} seed {self.seed}"


def parse_trackers(given: Iterable[str]) -> tuple[str, ...]:
    """Return the names in the values of `--track`, each "a" or "a,b".

    Errors: GitbenchError for an unknown name, and for a package that is not installed.
    """
    names = tuple(dict.fromkeys(name for each in given for name in each.split(",")))
    for name in names:
        if name not in TRACKERS:
            raise unknown_name("tracker", name, TRACKERS)
        if not is_installed(name):
            raise GitbenchError(f"--track {name}: the package is not installed: run `{installing(name)}`")
    return names


def is_installed(name: str) -> bool:
    """Tell whether the package of a tracker is there."""
    return all(importlib.util.find_spec(module) for module in (name, *_MORE.get(name, ())))
