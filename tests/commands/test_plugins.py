"""What is somebody's own works as what is ours: an axis, a variant, an ablation from outside, in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_cli import call
from helpers_plugin import PLUGIN

pytestmark = pytest.mark.usefixtures("svg_alone")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module `mine` and an installed entry point, far from the repository."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "mine.py").write_text(PLUGIN)
    return folder


def gitbench(place: Path, *arguments: str) -> subprocess.CompletedProcess:
    code = f"import sys; sys.path.insert(0, {str(place)!r}); from gitbench.cli import main; raise SystemExit(main())"
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": f"{root}:{place}"},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_a_module_brings_an_axis_a_variant_and_an_ablation(place: Path) -> None:
    listed = gitbench(place, "list", "--plugin", "mine").stdout
    assert "how strongly labels are smoothed" in listed and "mine_1x96" in listed and "none-better" in listed
    run = ("run", "smoothing", "--profile", "smoke", "--task", "vqa", "--seeds", "1", "--work-dir", "w", "--no-report")
    ran = gitbench(place, *run, "--plugin", "mine")
    assert ran.returncode == 0 and "3 runs trained" in ran.stdout, ran.stdout + ran.stderr
    plan = json.loads((place / "w" / "studies" / "smoothing.smoke.scenes-vqa+seeds-1.json").read_text())
    assert [arm["label"] for arm in plan["arms"][:2]] == ["label smoothing 0.1", "label smoothing 0"]
    key = next(run["run_key"] for run in plan["runs"] if run["arm"] == "none")
    config = (place / "w" / "runs" / key / "config.py").read_text()
    assert "'label_smoothing': 0.0" in config and "'mine'" in config and "decoder/mine_1x96" in config
    # this process lacks the plugin, and the study is there all the same
    assert call("report", "smoothing", "--work-dir", str(place / "w")).returncode == 0
    said = call("explain", "smoothing:none:VQA", "--work-dir", str(place / "w"))
    assert said.returncode == 0 and key in said.stdout, said.stderr
    without = call("run", "smoothing", "--profile", "smoke")
    assert without.returncode == 2 and "unknown ablation 'smoothing'" in without.stderr
    locked = gitbench(place, "lock", "--check", "--plugin", "mine")  # of this repository, which never saw the claim
    assert locked.returncode == 2 and "smoothing/none-better is not locked" in locked.stderr


def test_an_ablation_file_may_bring_a_variant_of_its_own(place: Path) -> None:
    text = PLUGIN.replace('"smoothing"', '"alone"').replace("mine_1x96", "alone_1x96")
    text = text.replace("ablations.register(\n    Ablation", "ABLATION = (\n    Ablation")
    (place / "alone.py").write_text(text)
    run = ("run", "alone.py", "--profile", "smoke", "--task", "vqa", "--seeds", "1", "--work-dir", "v", "--no-report")
    ran = gitbench(place, *run)
    assert ran.returncode == 0 and "3 runs trained" in ran.stdout, ran.stdout + ran.stderr
    again = gitbench(place, *run, "--dry-run")
    assert "3 runs, 3 done, 0 to do" in again.stdout, again.stdout + again.stderr


@pytest.mark.parametrize(
    ("plugin", "said"),
    [("nowhere", "plugin nowhere cannot be imported"), ("broken.py", "broken.py"), ("none.py", "none.py is not there")],
)
def test_a_plugin_that_cannot_be_imported_is_one_line(place: Path, plugin: str, said: str) -> None:
    (place / "broken.py").write_text("x = 1 / 0\n")
    result = gitbench(place, "list", "--plugin", plugin)
    assert result.returncode == 2 and said in result.stderr and len(result.stderr.strip().splitlines()) == 1
