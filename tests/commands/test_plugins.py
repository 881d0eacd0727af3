"""What is somebody's own works as what is ours: an axis, a variant, an ablation from outside, in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_cli import call

PLUGIN = '''
"""An axis that changes how strongly labels are smoothed, a decoder, and an ablation of each."""
import dataclasses
from dataclasses import dataclass

from gitbench import ablations, variants
from gitbench.axis import Axis, Touches, with_variant
from gitbench.spec import Ablation, Arm, Claim
from gitbench.variants.decoder import decoder


@dataclass(frozen=True, kw_only=True)
class SmoothingSpec:
    value: float | None = None  # None: the profile's


def apply(run, spec, planning):
    if spec.value is not None:
        run = dataclasses.replace(run, train=dataclasses.replace(run.train, label_smoothing=spec.value))
    return with_variant(run, "smoothing", SmoothingSpec())


variants.register(
    Axis(
        name="smoothing",
        spec=SmoothingSpec,
        doc="how strongly labels are smoothed",
        default="own",
        variants={"own": SmoothingSpec(), "none": SmoothingSpec(value=0.0)},
        label=lambda run, name: f"label smoothing {run.train.label_smoothing:g}",
        apply=apply,
        in_model=False,
        touches=Touches(config=("model.label_smoothing",)),
    )
)
variants.add("decoder", "mine_1x96", decoder("self", 1, 96, dropout=0.0, max_positions=64))
CLAIM = Claim(
    name="none-better", kind="better", metric="VQA", treatment="none", reference="base", margin=0.0,
    margin_unit="metric", margin_reason="any", says="No smoothing is better.", quote="-", where="-", confidence="S",
)
arms = (Arm(name="base", variants={"smoothing": "own"}), Arm(name="none", variants={"smoothing": "none"}))
ablations.register(
    Ablation(
        name="smoothing",
        title="Smoothing",
        question="Does it help?",
        axis="smoothing",
        arms={"smoke": arms},
        common={"decoder": "mine_1x96"},
        claims=(CLAIM,),
    )
)
'''


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
