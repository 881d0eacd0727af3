"""Bundles for tests: of studies whose finished runs are made up, taken apart, changed, and put together as they are."""

from __future__ import annotations

import dataclasses
import io
import json
import lzma
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from helpers_study import runs_of

from gitbench.files import write_json
from gitbench.run_folder import RECORD_SCHEMA
from gitbench.study.bundle import write_bundle
from gitbench.study.store import Study

# What a bundle takes of a run's folder; a config and weights lie there too.
FILES = {"record.json", "per_image.parquet", "predictions.jsonl", "curve.csv", "provenance.json"}


def finish(study: Study) -> Study:
    """Make up the files of every run of a study that was just planned, and return it as it is read back."""
    study.write_plan()
    for number, run in enumerate(runs_of(study)):
        folder = study.folder(run.key)
        record = {
            "schema": RECORD_SCHEMA,
            "run_key": run.key,
            "spec": dataclasses.asdict(run.spec),
            "overridden": sorted(run.spec.cfg_options),
            "metrics": {
                "CIDEr": {"value": 50.0, "signature": "s"},
                "test_nll": {"value": 2 + number / 8, "signature": "s"},
            },
            "cost": {},
            "train": {},
        }
        write_json(folder.record, record)
        write_json(folder.provenance, {"packages": {"torch": "2"}})
        pd.DataFrame({"image_id": ["a", "b"], "CIDEr": [40.0, 60.0]}).to_parquet(folder.per_image)
        folder.predictions.write_text(json.dumps({"image_id": "a", "caption": "a dog", "references": ["a dog"]}) + "\n")
        folder.curve.write_text("iteration,split,loss,lr\n1,train,2.0,0.1\n")
    return Study.open(study.work_dir, study.name)


def copied(study: Study, folder: Path) -> Study:
    """Return a copy of a study, without its weights, in another folder."""
    shutil.copytree(study.work_dir, folder, ignore=shutil.ignore_patterns("*.pth"))
    return Study.open(folder, study.name)


def edited(study: Study, folder: Path, change: Callable[[dict], object]) -> Path:
    """Return the bundle of a copy of a study in which `change(record)` was called for every run of the base."""
    copy = copied(study, folder / "work")
    for run in copy.plan.runs:
        if run.arm == "base":
            path = copy.folder(run.run_key).record
            record = json.loads(path.read_text())
            change(record)
            path.write_text(json.dumps(record))
    return write_bundle(Study.open(copy.work_dir, copy.name), folder / "edited.tar.xz").path


def members(path: Path) -> dict[str, bytes]:
    """Return the content of every file of an archive by its name."""
    with tarfile.open(path, "r:xz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def repack(path: Path, files: dict[str, bytes | str]) -> Path:
    """Write files as they are, whatever the manifest says; a text is where a link leads."""
    with lzma.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path
