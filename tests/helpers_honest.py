"""A small study that is honest through and through: planned, scored and entered by the program; only captions are made up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from helpers_judge import claim_of
from helpers_study import TINY, make_study, tiny_profile

from gitbench.data.tasks import open_task
from gitbench.files import write_json, write_text
from gitbench.launch.scheduling import execute_runs
from gitbench.plan import PlannedRun
from gitbench.report.origin import Origin
from gitbench.seeding import derive_seed
from gitbench.study.makers import Maker, entered
from gitbench.study.manifest import file_digests
from gitbench.study.plan_file import listed_runs
from gitbench.study.proof import PROOF_VERSION, Proof
from gitbench.study.provenance import provenance
from gitbench.study.store import Study
from gitbench.study.verify import findings

CLAIM = claim_of("better", name="base-better", treatment="base", reference="small")
CLAIMING = dataclasses.replace(TINY, claims=(CLAIM,))
RIGHT = {"base": 5, "small": 3, "blind": 0}  # of the six test images, those that an arm describes


class NoExecutor:
    """Trains nothing: every run has its captions."""

    def poll(self, seconds: float) -> list:
        return []

    def cancel(self, running: bool = True) -> list:
        return []


def honest_study(folder: Path, seeds: int = 3, **options: Any) -> Study:
    """Plan a study, make up its captions, score it as a launch does, and return it as it is read back."""
    options.setdefault("command", "gitbench run tiny")
    study = make_study(folder, CLAIMING, replicates=seeds, **options)
    study.write_plan()
    for run in study.plan.runs:
        caption(study, run)
    outcome = execute_runs(study, cast(Any, NoExecutor()), plain=True)
    assert not outcome.failed, outcome.failed
    runs = tuple(listed_runs(study.plan))
    study.write_proof(
        Proof(
            version=PROOF_VERSION,
            study=study.name,
            base="base",
            replicates=(0,),
            batches=(),
            found=0,
            arms=(),
            runs=runs,
        )
    )
    return Study.open(folder, study.name)


def caption(study: Study, run: PlannedRun) -> None:
    """Leave what training and captioning leave of a run."""
    folder = study.folder(run.run_key)
    source = open_task("scenes", "test", tiny_profile().data.test_images, run.resolved.task)
    lines = []
    for index in range(len(source)):
        (request,) = source.requests(index)
        right = index < RIGHT[run.arm]
        said = request.references[derive_seed(run.run_key, index) % len(request.references)] if right else "a thing"
        row = {
            "image_id": request.request_id,
            "caption": said,
            "score": -1.0,
            "nll": 20.0 + run.replicate,
            "tokens": 10,
        }
        lines.append(json.dumps(row | {"references": list(request.references)}))
    write_text(folder.predictions, "\n".join(lines) + "\n")
    write_text(folder.curve, "iteration,split,loss,lr\n1,train,2.0,0.1\n1,val,2.125,0.0\n")
    fit = {"train_nll": 1.5, "val_nll": 2.125, "fit_images": {"train_nll": 4, "val_nll": 4}}
    found = {"test_nll": 2.0 + run.replicate / 10, **fit, "cost": {"seconds": 1.0}, "train": {}}
    write_json(folder.trained, found | {"encoder_content": "e" * 64})
    makers = entered(None, Maker.here("cpu"))
    write_json(folder.provenance, provenance(study) | {"makers": makers, "started": "2026-01-01T00:00:00Z"})


# ---- to tamper with it -----------------------------------------------------------------------------------------------


def reopened(study: Study) -> Study:
    return Study.open(study.work_dir, study.name)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    write_json(path, values)


def run_folder(study: Study, arm: str = "small", replicate: int = 1):
    return study.folder(next(run.run_key for run in study.plan.runs if (run.arm, run.replicate) == (arm, replicate)))


def rehashed(study: Study) -> None:
    """Make good what a cheat would: every record names its files as they are, and the manifest is made anew."""
    for run in study.unique_runs:
        folder = study.folder(run.run_key)
        edit(folder.record, lambda record, folder=folder: record.update(files=file_digests(folder)))
    study.manifest_path.unlink()
    reopened(study).adopt()


def assert_told(study: Study, *words: str) -> None:
    """`verify` and what a report marks both say it."""
    study = reopened(study)
    for told in ("\n".join(findings(study)), "\n".join(Origin.of(study).marks)):
        assert all(word in told for word in words), told
