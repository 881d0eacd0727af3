"""All ablations of the repository run whole in the smoke profile, sharing the runs that they have in common."""

import json

import pytest
from test_study import call

from gitbench.ablations import ablation_files, load_ablation
from gitbench.profiles import PROFILES


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("ablations") / "work"


def test_every_ablation_is_there_in_every_profile():
    assert set(ablation_files()) == {
        "data_scale", "decoder_attention", "decoder_init", "decoder_size", "encoder_init", "encoder_training"
    }  # fmt: skip
    for name in ablation_files():
        ablation = load_ablation(name)
        assert set(ablation.arms) == set(PROFILES) and ablation.claims


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(ablation_files()))
def test_an_ablation_runs_whole(name, work_dir, tmp_path):
    done = len(list(work_dir.glob("runs/*/record.json")))
    result = call(
        "run", name, "--profile", "smoke", "--seeds", "1", "--work-dir", str(work_dir), "--out", str(tmp_path / "out"),
        timeout=290,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    study = json.loads((work_dir / "studies" / f"{name}.smoke.scenes.json").read_text())
    runs = {run["run_key"] for run in study["runs"]}
    assert {arm["name"] for arm in study["arms"]} == {arm.name for arm in load_ablation(name).arms["smoke"]} | {"blind"}
    assert all((work_dir / "runs" / key / "record.json").is_file() for key in runs)
    assert 0 < len(list(work_dir.glob("runs/*/record.json"))) - done <= len(runs)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "differ in one thing" in page
    if name not in ("data_scale", "decoder_init"):  # the first to run, and one with a tokenizer of its own
        assert len(list(work_dir.glob("runs/*/record.json"))) - done < len(runs)  # base and floor are shared
