"""Studies small enough to train in a second, and their runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from gitbench.profiles import SMOKE
from gitbench.run_folder import RunFolder
from gitbench.spec import Ablation, Arm, Profile, RunSpec
from gitbench.study.config import config_text, make_config
from gitbench.study.plan import make_plan
from gitbench.study.store import Study, write_if_changed


def tiny_profile(**train: Any) -> Profile:
    """Return the smoke profile cut down further; keywords replace fields of its TrainSpec."""
    return dataclasses.replace(
        SMOKE,
        data=dataclasses.replace(SMOKE.data, train_images=24, val_images=4, test_images=6),
        train=dataclasses.replace(SMOKE.train, **{"iterations": 6, "batch_images": 4, "warmup": 2, **train}),
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


def tiny_ablation(axis: str, *variants: str, **changes: Any) -> Ablation:
    """Return TINY with another axis: the first variant is the base, the other arms are named as their variants."""
    arms = (Arm(name=name if place else "base", variants={axis: name}) for place, name in enumerate(variants))
    return dataclasses.replace(TINY, axis=axis, arms={"smoke": tuple(arms)}, **changes)


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
    data, encoder = options.pop("data", "scenes"), options.pop("encoder", None)
    profile = dataclasses.replace(profile or tiny_profile(), encoder=encoder)
    return Study(work_dir, make_plan(ablation, profile, data, **options))


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


@contextmanager
def edited(run: Run) -> Iterator[Config]:
    """Yield the config of a planned run, to be written back as the block leaves it."""
    folder = RunFolder(run.folder)
    config = folder.read_config()
    yield config
    folder.config.write_text(config_text(config))


def write_configs(study: Study) -> list[Run]:
    """Write the `config.py` of every run, as a launch does, and return the runs."""
    runs = runs_of(study)
    for run in runs:
        config = make_config(run.spec, study.plan.vocabulary, run.key)
        write_if_changed(run.folder / "config.py", config_text(config))
    return runs
