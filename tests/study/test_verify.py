"""A record must say what its run stored per image, and a study what its runs are: a forged score stops the report."""

import json

import pandas as pd
import pytest
from helpers_bundle import copied, finish
from helpers_errors import refused
from helpers_runs import NAME, make_work_dir, run_key
from helpers_study import make_study

from gitbench.commands.report import make_report
from gitbench.study.store import Study
from gitbench.study.verify import check_records, findings


def change(path, edit) -> None:
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("forged", [1e-3, 20.0, float("nan")])
def test_a_forged_score_stops_the_report(tmp_path, forged):
    work = make_work_dir(tmp_path, replicates=3, missing=(("large", 2),))
    check_records(Study.open(work, NAME))
    path = work / "runs" / run_key("large", 1) / "record.json"
    change(path, lambda record: record["metrics"]["CIDEr"].update(value=record["metrics"]["CIDEr"]["value"] + forged))
    with refused(r"record.json says CIDEr .* but its per_image.parquet gives"):
        make_report(Study.open(work, NAME), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_were_taken_away_are_noticed(tmp_path):
    work = make_work_dir(tmp_path, replicates=3)
    path = work / "runs" / run_key("base", 0) / "per_image.parquet"
    table = pd.read_parquet(path)
    table[table["CIDEr"] > table["CIDEr"].min()].to_parquet(path)  # without its worst image
    with refused("delete the folder .* and run again"):
        check_records(Study.open(work, NAME))
    path.unlink()
    with refused("per_image.parquet is missing"):
        check_records(Study.open(work, NAME))


def test_every_finding_of_a_trained_study_is_a_line(trained, tmp_path):
    study = copied(trained, tmp_path / "work")
    assert not list(findings(study))
    first, second, third = study.plan.runs[:3]
    folders = {run: study.folder(run.run_key) for run in (first, second, third)}
    change(folders[first].record, lambda record: record["metrics"]["CIDEr"].update(value=900.0))
    change(folders[second].record, lambda record: record["spec"]["train"].update(lr_decoder=1.0))
    folders[third].predictions.write_text("{")
    change(study.proof_path, lambda proof: proof["runs"].pop())
    told = list(findings(Study.open(study.work_dir, study.name)))
    for place, said in (
        (f"{first.arm} seed {first.replicate}: record.json says", "900"),
        (f"{second.arm} seed {second.replicate}", "run key"),
        (f"runs/{third.run_key}/predictions.jsonl", "is damaged"),
        (f"{first.arm} seed {first.replicate}", "record.json is not the one that was entered"),
        (f"studies/{study.name}.proof.json", "the proof of other runs"),
    ):
        assert any(line.startswith(place) and said in line for line in told), (place, told)


def test_a_study_without_a_proof_is_told(tmp_path):
    found = list(findings(finish(make_study(tmp_path, command="gitbench run tiny"))))
    assert any("proof.json is missing: run `gitbench run tiny`" in line for line in found)
