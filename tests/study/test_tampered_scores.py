"""Scores that were changed, and files that are damaged: each is named, in one line."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from helpers_cli import call, error_of
from helpers_errors import refused
from helpers_honest import assert_told, edit, rehashed, reopened, run_folder

from gitbench.commands.report import make_report
from gitbench.study.rescore import Rescored
from gitbench.study.verify import findings

# ---- scores -------------------------------------------------------------------------------------------------------


def test_a_score_edited_together_with_its_images_is_not_that_of_its_predictions(study, scorer):
    folder = run_folder(study)
    table = pd.read_parquet(folder.per_image)
    table.assign(CIDEr=table["CIDEr"] + 5).to_parquet(folder.per_image)
    edit(folder.record, lambda record: record["metrics"]["CIDEr"].update(value=record["metrics"]["CIDEr"]["value"] + 5))
    assert_told(
        study, "small seed 1", "per_image.parquet is not the file that the run left", "record.json is not the one"
    )
    rehashed(study)
    assert not list(findings(reopened(study)))  # all hashes are made good: the texts still tell
    (said,) = Rescored(reopened(study), scorer).findings
    assert "small seed 1: record.json says CIDEr" in said and "its predictions score" in said


def test_a_score_without_its_column(study):
    folder = run_folder(study)
    pd.read_parquet(folder.per_image).drop(columns="CIDEr").to_parquet(folder.per_image)
    edit(folder.record, lambda record: record["metrics"]["CIDEr"].update(value=900.0))
    rehashed(study)
    assert_told(study, "says CIDEr but per_image.parquet stores nothing of it")


def test_a_validation_likelihood_that_is_not_the_curves(study):
    edit(run_folder(study).record, lambda record: record["metrics"]["val_nll"].update(value=1.9))
    rehashed(study)
    assert_told(study, "small seed 1", "record.json says val_nll 1.9 but the last one of curve.csv is 2.125")


def test_references_that_were_edited(study, scorer):
    for run in study.unique_runs:
        path = study.folder(run.run_key).predictions
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for row in lines:
            row["references"] = [row["caption"], "x"]
        path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    rehashed(study)
    found = Rescored(reopened(study), scorer).findings
    assert len(found) == 9 and all("has other images or references than the data" in said for said in found)


def test_test_images_that_were_taken_away(study):
    for run in study.unique_runs:
        folder = study.folder(run.run_key)
        lines = folder.predictions.read_text().splitlines(keepends=True)
        folder.predictions.write_text("".join(lines[:-2]))
    rehashed(study)
    assert_told(study, "holds 4 images, planned were 6", "are of other images")


@pytest.mark.parametrize("end", ["floor", "ceiling"])
def test_a_yardstick_that_was_edited(end, study, scorer):
    if end == "floor":  # the floor's runs are runs as any other
        edit(run_folder(study, "blind").record, lambda record: record["metrics"]["CIDEr"].update(value=80.0))
        with refused("says CIDEr 80"):
            make_report(reopened(study), study.work_dir / "out")
        return
    edit(study.yardstick_path, lambda said: said["ceiling"]["CIDEr"].update(value=900.0))
    (said,) = Rescored(reopened(study), scorer).findings
    assert said.startswith("yardsticks/") and "a ceiling of CIDEr 900" in said
    assert_told(study, "yardsticks/", "it is not the one that was entered in studies/", "it was changed")


# ---- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("provenance", lambda said: said.update(packages="torch")),
        ("provenance", lambda said: said.update(claims="all")),
        ("provenance", lambda said: said.update(looks=3)),
        ("record", lambda said: said.update(spec={})),
        ("record", lambda said: said["cost"].update(seconds="long")),
        ("record", lambda said: said["metrics"]["CIDEr"].update(signature=3)),
        ("record", lambda said: said.update(files=[1])),
    ],
)
def test_damaged_values_are_one_line(name, change, study):
    edit(getattr(run_folder(study, "base"), name), change)
    for command in (("report", "tiny"), ("explain", "tiny:base:CIDEr")):
        result = call(*command, "--work-dir", str(study.work_dir))
        assert result.returncode in (0, 2) and "Traceback" not in result.stderr
        assert result.returncode == 0 or len(result.stderr.splitlines()) == 1
    assert list(findings(reopened(study)))


def test_a_plan_a_yardstick_a_table_and_a_folder_that_are_damaged(study):
    words = ("--work-dir", str(study.work_dir))
    edit(study.yardstick_path, lambda said: said["ceiling"].update(CIDEr={"value": "high", "signature": "s"}))
    assert "is damaged" in error_of("report", "tiny", *words)
    study.yardstick_path.unlink()
    folder = run_folder(study)
    pd.read_parquet(folder.per_image).drop(columns="image_id").to_parquet(folder.per_image)
    assert "per_image.parquet is damaged" in error_of("report", "tiny", *words)
    folder.record.unlink()
    folder.record.mkdir()
    assert "record.json is damaged" in error_of("report", "tiny", *words)
    edit(study.plan_path, lambda plan: plan.update(task="dream"))
    assert "unknown task" in error_of("report", "tiny", *words)
