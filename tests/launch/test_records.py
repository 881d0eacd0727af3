"""Records: what a run computed on is what its own process saw, not the first card of the launcher's machine."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from helpers_study import make_study, write_configs

from gitbench.files import write_json
from gitbench.launch.records import StudyScorer
from gitbench.run_folder import RunFolder
from gitbench.study.makers import Maker

T4 = {"name": "Tesla T4", "uuid": "0a1b-2c", "memory_bytes": 15 * 2**30, "capability": "7.5"}


@pytest.mark.parametrize(("device", "machine"), [(T4, "tesla-t4"), ({"name": "cpu"}, "cpu6"), (None, "cpu6")])
def test_the_device_of_a_record_is_the_runs_own(tmp_path, device, machine):
    """A launch beside an A100, whose runs had another card or none; None: trained by an earlier version."""
    study = make_study(tmp_path)
    folder = RunFolder(write_configs(study)[0].folder)
    row = {"image_id": "i", "caption": "a dog", "nll": 1.0, "tokens": 2, "references": ["a dog"]}
    folder.predictions.write_text(json.dumps(row) + "\n")
    found = {"test_nll": 1.0, "cost": {"seconds": 1.0}, "train": {"iterations": 6}}
    write_json(folder.trained, found | ({"device": device} if device else {}))
    write_json(folder.provenance, {"gpus": ["NVIDIA A100"], "machine": "a100", "cpu_count": 6, "packages": {}})
    scores = SimpleNamespace(per_image=pd.DataFrame({"image_id": ["i"]}), values={}, absent={}, warnings=[])
    scorer = StudyScorer.__new__(StudyScorer)
    scorer.study, scorer.maker = study, Maker.here("cpu")
    scorer.task = SimpleNamespace(references={"i": ["a dog"]}, scores=lambda rows: scores, captions=False)
    record = scorer.score_run(study.plan.runs[0])
    assert (record["cost"]["device"], record["cost"]["machine"]) == ((device or {"name": "cpu"})["name"], machine)
    told = json.loads(folder.provenance.read_text())
    assert told["machine"] == machine and told["device"]["name"] == record["cost"]["device"]
    assert "uuid" not in told["device"]  # names one card in the world: provenance is published
