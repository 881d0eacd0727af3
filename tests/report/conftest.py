"""One report, written once and read by many tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock
from helpers_report import BETTER, grid_of, view_of
from helpers_runs import CLAIM, NAME, make_work_dir

from gitbench.report.results import Result, load_result
from gitbench.report.view import View
from gitbench.study.store import Study

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys

sys.path[:0] = sys.argv[3:]
from helpers_runs import make_images
from gitbench.study.interim import judge
from gitbench.report import board, explain, results, write_report
from gitbench.study.store import Study
study = Study.open(sys.argv[1], "decoder_size.cpu.scenes")
write_report(study, judge(study), sys.argv[2], make_images().get)
assert not {"torch", "mmengine", "timm", "datasets", "transformers"} & set(sys.modules)
"""


class Made(NamedTuple):
    """A study and its report among results."""

    study: Study
    out: Path
    results: Path


@pytest.fixture(scope="session")
def made(shared_folder) -> Made:
    """The report of a study of two claims, some of whose runs knew a third, made without torch.

    One run is missing. Made once for all workers of a test run; nobody may change it.
    """
    folder = shared_folder / "made"
    work_dir, out = folder / "work", folder / "results" / "decoder_size" / "cpu-scenes-cpu2"
    with FileLock(shared_folder / "made.lock"):
        if not out.is_dir():
            make_work_dir(work_dir, claims=(CLAIM, BETTER), missing=(("small", 4),))
            for path in sorted((work_dir / "runs").glob("*/provenance.json"))[:3]:
                values = json.loads(path.read_text())
                path.write_text(json.dumps(values | {"claims": {"decoder_size/came-out-badly": "0" * 16}}))
            command = [sys.executable, "-c", SCRIPT, work_dir, out, ROOT, ROOT / "tests"]
            subprocess.run(command, check=True, cwd=folder)
    return Made(Study.open(work_dir, NAME), out, folder / "results")


@pytest.fixture(scope="session")
def committed(made) -> Result:
    """What is read of that report, its claims judged again. Nobody may change it."""
    return load_result(made.out)


@pytest.fixture(scope="session")
def view(tmp_path_factory) -> View:
    """What the report of a study of five seeds says. Nobody may change it."""
    return view_of(tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="session")
def grid(view) -> View:
    """What the report of a study of data_scale says."""
    return grid_of(view)
