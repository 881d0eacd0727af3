"""Tuning runs with results made up, and a profile whose rates have a grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_study import TINY, tiny_profile

from gitbench.files import write_json
from gitbench.plan import ArmRate
from gitbench.spec import Ablation, Profile
from gitbench.study import rates
from gitbench.study.rates import Tuning, TuningRun, tuning_of

GRID = (0.5, 1.0, 2.0)
LIKED = {"base": 2.0, "small": 0.5, "blind": 1.0}  # the factor that each arm does best with


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give every test of a module that imports this a cache of tuning runs and a table that ships of its own."""
    monkeypatch.setattr(rates, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(rates, "TABLE", tmp_path / "rates.json")
    write_json(tmp_path / "rates.json", {"schema": 1, "runs": {}})
    rates.shipped_results.cache_clear()
    yield tmp_path / "cache"
    rates.shipped_results.cache_clear()


def gridded(grid: tuple[float, ...] = GRID, **train: Any) -> Profile:
    """Return the tiny profile with a grid of rates; keywords replace fields of its TrainSpec."""
    return dataclasses.replace(tiny_profile(**train), rates=grid)


def tuning(ablation: Ablation = TINY, profile: Profile | None = None, data: str = "scenes", **options: Any) -> Tuning:
    """Plan the tuning runs of an ablation."""
    found = tuning_of(ablation, profile or gridded(), data, **options)
    assert found is not None
    return found


def liked(each: TuningRun) -> float:
    """Return a likelihood that is best where an arm has the factor it likes; seeds differ a little."""
    return 3.0 + abs(each.factor - LIKED.get(each.arm, 1.0)) + 0.01 * each.run.replicate


def plant(found: Tuning, val_nll: Callable[[TuningRun], float | None] = liked) -> Tuning:
    """Leave what the tuning runs leave behind, and return them."""
    for each in found.runs:
        write_json(found.folder(each.run.run_key).trained, {"val_nll": val_nll(each), "cost": {"seconds": 7.0}})
    return found


def chosen(**options: Any) -> tuple[ArmRate, ...]:
    """Return the rates that planted runs choose; `options` are those of `tuning`."""
    return plant(tuning(**options)).rates()
