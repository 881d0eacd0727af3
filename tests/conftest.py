"""Shared by all tests: a cache folder of their own, one thread, and a study small enough to train in a second."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

_CACHE = tempfile.TemporaryDirectory(prefix="gitbench-test-cache-")
os.environ["GITBENCH_CACHE"] = _CACHE.name  # before gitbench is imported, and for every child process
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the suite is the same with and without a GPU
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from gitbench.profiles import SMOKE
from gitbench.spec import Ablation, Arm, Profile
from gitbench.study.plan import Plan, make_plan


def tiny_profile(**train: Any) -> Profile:
    """Return the smoke profile cut down further; keywords replace fields of its TrainSpec."""
    return dataclasses.replace(
        SMOKE,
        data=dataclasses.replace(SMOKE.data, train_images=24, val_images=4, test_images=6),
        train=dataclasses.replace(
            SMOKE.train, **{"iterations": 6, "batch_images": 4, "warmup": 2, "checkpoint_every": 2, **train}
        ),
        replicates=1,
    )


TINY = Ablation(
    name="tiny",
    title="Tiny",
    question="Does the suite run?",
    axis="decoder",
    arms={
        "smoke": (
            Arm(name="base", variants={"decoder": "self_2x64"}),
            Arm(name="small", variants={"decoder": "self_1x64"}),
        )
    },
)


@pytest.fixture
def tiny_plan(tmp_path: Path) -> Plan:
    """A plan of three runs (base, small, blind) of a second each."""
    return make_plan(TINY, tiny_profile(), "scenes", tmp_path / "work")
