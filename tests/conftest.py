"""Shared by all tests: a cache folder of their own, one thread, and studies small enough to train in a second."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CACHE = tempfile.TemporaryDirectory(prefix="gitbench-test-cache-")
os.environ["GITBENCH_CACHE"] = _CACHE.name  # before gitbench is imported, and for every child process
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the suite is the same with and without a GPU
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # several workers share the cores

import pytest
from filelock import FileLock

from gitbench.profiles import SMOKE
from gitbench.spec import Ablation, Arm, Profile, RunSpec
from gitbench.study.config import make_config
from gitbench.study.plan import make_plan
from gitbench.study.store import Study, write_if_changed


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


@dataclass(frozen=True)
class Run:
    """A planned run with the path of its folder."""

    arm: str
    replicate: int
    key: str
    spec: RunSpec
    folder: Path


def make_study(work_dir: Path, ablation: Ablation = TINY, profile: Profile | None = None, **options: Any) -> Study:
    """Plan a study (by default base, small and blind, of a second each) in a work directory; nothing is written."""
    data = options.pop("data", "scenes")
    return Study(work_dir, make_plan(ablation, profile or tiny_profile(), data, **options))


def runs_of(study: Study) -> list[Run]:
    """Return the runs of a study that was just planned, in the plan's order."""
    return [
        Run(arm=run.arm, replicate=run.replicate, key=run.run_key, spec=run.spec, folder=study.folder(run.run_key).path)
        for run in study.plan.runs
        if run.spec is not None
    ]


def run_of(study: Study, arm: str, replicate: int = 0) -> Run:
    """Return one run of a study that was just planned."""
    return next(run for run in runs_of(study) if (run.arm, run.replicate) == (arm, replicate))


def write_configs(study: Study) -> list[Run]:
    """Write the `config.py` of every run, as a launch does, and return the runs."""
    runs = runs_of(study)
    for run in runs:
        write_if_changed(run.folder / "config.py", make_config(run.spec, study.plan.vocabulary, run.key).pretty_text)
    return runs


@pytest.fixture
def tiny_study(tmp_path: Path) -> Study:
    """A study of three runs (base, small, blind) of a second each, planned."""
    return make_study(tmp_path / "work")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of a test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def trained(shared_folder: Path) -> Iterator[Study]:
    """A finished study of decoder_size in the smoke profile, two seeds, trained once for the whole test run.

    Nobody may change it: copy its work directory first.
    """
    from gitbench.ablations import load_ablation
    from gitbench.launch.scheduling import launch

    study = make_study(
        shared_folder / "work", load_ablation("decoder_size"), SMOKE, command="gitbench run decoder_size"
    )
    with FileLock(shared_folder / "trained.lock"):
        assert launch(study, plain=True).failed == ()
    yield Study.open(study.work_dir, study.name)


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """Return the name of this worker; "master" where tests run in one process."""
    return getattr(request.config, "workerinput", {}).get("workerid", "master")
