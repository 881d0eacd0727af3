"""Runs without training: folders that a worker takes, a plugin that stands for training, and scores that are made up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from helpers_study import write_configs

from gitbench.files import write_json
from gitbench.plan import PlannedRun
from gitbench.run_folder import RECORD_SCHEMA, RunFolder
from gitbench.study.store import Study

# A plugin: `execute` stands where `gitbench.training.run` has its own; `CODE` is its body.
PLUGIN = """
import sys, time, types
from pathlib import Path
from gitbench.errors import GitbenchError
from gitbench.files import write_json, write_text

def execute(path, progress, pretraining):
{body}
    write_text(path / "predictions.jsonl", path.name + chr(10))
    write_json(path / "trained.json", {{}})
    return True

sys.modules["gitbench.training.run"] = types.SimpleNamespace(execute=execute)
"""


def plugin(folder: Path, body: str = "pass") -> Path:
    """Write the plugin whose training is `body`, lines that may use path, progress and pretraining; return its file."""
    file = folder / "training.py"
    file.write_text(PLUGIN.format(body="\n".join(f"    {line}" for line in body.splitlines())))
    return file


def planned(study: Study) -> list[RunFolder]:
    """Write what a launch writes into the folders of a study's runs before any is executed; return them."""
    folders = [study.folder(run.key) for run in write_configs(study)]
    for folder in folders:
        write_json(folder.origin, {"command": "gitbench run tiny", "claims": {}, "claims_lock": "c"})
    return folders


def worker(*arguments: Any, plugin: Path, **options: Any) -> subprocess.Popen:
    """Start `python -m gitbench.launch.work` with these arguments, where training is the plugin's."""
    command = [sys.executable, "-m", "gitbench.launch.work", *map(str, arguments)]
    environment = {**os.environ, "GITBENCH_PLUGINS": str(plugin)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **options)


class MadeUpScores:
    """Stands for a study's scorer: writes a record with made-up scores, and a line into `log` each time."""

    def __init__(self, study: Study, log: Path) -> None:
        self.study, self.log = study, log

    def score_run(self, run: PlannedRun) -> dict[str, Any]:
        """Write the record of a run."""
        folder = self.study.folder(run.run_key)
        assert folder.captioned
        pd.DataFrame({"image_id": ["a"], "CIDEr": [1.0]}).to_parquet(folder.per_image)
        record = {
            "schema": RECORD_SCHEMA,
            "run_key": run.run_key,
            "spec": {},
            "train": {},
            "overridden": [],
            "metrics": {"CIDEr": {"value": 1.0, "signature": "s"}},
            "cost": {"seconds": 1.0, "machine": "m", "device": "cpu"},
        }
        write_json(folder.record, record)
        with open(self.log, "a") as file:
            file.write(f"{run.run_key}\n")
        return record

    def score_ceiling(self) -> None:
        """There is none."""
