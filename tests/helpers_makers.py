"""Studies whose runs were made by other code than today's."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from helpers_honest import edit, reopened
from helpers_report import study_of

from gitbench.run_key import NUMERICS_VERSION
from gitbench.study import makers
from gitbench.study.makers import Gave, Maker, context_of, keep_found
from gitbench.study.manifest import file_digests
from gitbench.study.provenance import deciding_packages
from gitbench.study.store import Study

OTHER = "0" * 16  # a fingerprint that no code has
MACHINE, PACKAGES = makers.machine_class("cpu"), deciding_packages()


@pytest.fixture(autouse=True)
def no_findings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The gate has found nothing yet."""
    monkeypatch.setattr(makers, "found_path", lambda: tmp_path / "gate" / "equal.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three made-up seeds of four arms, by this code. Nobody may change it."""
    study = study_of(tmp_path_factory.mktemp("stale") / "work", replicates=3)
    for run in study.plan.runs:
        folder = study.folder(run.run_key)
        for file in (folder.config, folder.origin, folder.trained, folder.log):
            file.write_text("{}")
    return made_by(study, here(), arm=None)


@pytest.fixture
def study(made: Study, tmp_path: Path) -> Study:
    return Study.open(shutil.copytree(made.work_dir, tmp_path / "work"), made.name)


def here(**changes: object) -> Maker:
    return dataclasses.replace(Maker.here("cpu"), **changes)


def made_by(study: Study, *by: Maker, arm: str | None = "small") -> Study:
    """Return a study whose runs of an arm (None: all) were made by others, as their records have it."""
    for run in study.plan.runs:
        if arm in (None, run.arm):
            folder = study.folder(run.run_key)
            edit(folder.provenance, lambda values: values.update(makers=[dataclasses.asdict(each) for each in by]))
            files = file_digests(folder)
            edit(folder.record, lambda record, files=files: record.update(numerics=NUMERICS_VERSION, files=files))
    return reopened(study)


def gave(
    code: str, digest: str = "d", machine: str = MACHINE, numerics: int = NUMERICS_VERSION, **packages: str
) -> None:
    context = context_of(machine, numerics, {**PACKAGES, **packages})
    keep_found([Gave(context=context, machine=machine, digest=digest, code=code, day="2026-01-02")])
