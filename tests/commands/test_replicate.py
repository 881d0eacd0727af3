"""`gitbench replicate`: runs made again are bit-identical, a changed one disagrees, and nobody's program is executed."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from helpers_bert import needs_minilm
from helpers_bundle import copied, edited, finish, members
from helpers_cli import error_of
from helpers_data import row, write_parquet
from helpers_study import make_study, tiny_profile

from gitbench import cli, run_key
from gitbench.ablations import load_ablation
from gitbench.commands.replicate import choose, plan_again
from gitbench.errors import GitbenchError
from gitbench.profiles import SMOKE
from gitbench.study.bundle import open_bundle, unpack, write_bundle
from gitbench.study.store import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """A finished study of two seeds, made up."""
    profile = dataclasses.replace(tiny_profile(), replicates=2)
    return finish(make_study(tmp_path_factory.mktemp("study") / "work", profile=profile))


def opened(bundle: Path, folder: Path) -> Study:
    """Unpack a bundle and open its study."""
    unpack(open_bundle(bundle), folder)
    return Study.open(folder, open_bundle(bundle).study)


def test_runs_made_again_are_bit_identical(trained, tmp_path, capsys):
    bundle = write_bundle(trained, tmp_path / "bundle.tar.xz").path
    arguments = ["replicate", str(bundle), "--sample", "2", "--work-dir", str(tmp_path), "--plain", "--exact"]
    assert cli.main([*arguments, "--out", str(tmp_path / "said")]) == 0
    found = json.loads((tmp_path / "said" / "replication.json").read_text())
    assert found["verdict"] == "agree" and len({run["arm"] for run in found["runs"]}) == 2  # spread over the arms
    for run in found["runs"]:
        assert run["identical"] and {"CIDEr", "test_nll"} <= {each["metric"] for each in run["comparisons"]}
        assert all(each["difference"] == 0 for each in run["comparisons"])
        assert len(list(tmp_path.glob(f"replications/*/runs/{run['run_key']}/model.pth"))) == 1  # it was trained
    assert not list(tmp_path.glob("replications/*/second"))  # once is enough
    assert (tmp_path / "said" / "replication.md").read_text() in capsys.readouterr().out


def test_a_run_that_was_changed_disagrees(trained, tmp_path):
    bundle = edited(trained, tmp_path, lambda record: record["metrics"]["CIDEr"].update(value=940.0))
    folder = tmp_path / "w" / "replications" / f"{trained.name}-{open_bundle(bundle).digest[:8]}"
    for part in ("runs", "yardsticks"):  # as if a replication had been stopped after its last run
        shutil.copytree(trained.work_dir / part, folder / part)
    assert cli.main(["replicate", str(bundle), "--sample", "9", "--work-dir", str(tmp_path / "w"), "--plain"]) == 1
    found = json.loads((folder / "replication.json").read_text())
    assert {run["arm"] for run in found["runs"] if run["verdict"] == "disagree"} == {"base"}
    assert {run["arm"] for run in found["runs"] if run["verdict"] == "agree"} >= {"blind"}


def parquet_folder(folder: Path, animal: str) -> Path:
    for split, numbers in {"train": range(24), "val": range(24, 28), "test": range(28, 34)}.items():
        rows = [row(number, [f"a {animal} runs", f"{number % 3} of them"]) for number in numbers]
        write_parquet(folder / f"{split}.parquet", rows)
    return folder


def test_a_study_on_a_folder_is_made_again_on_the_same_content_only(tmp_path):
    data = parquet_folder(tmp_path / "photos", "dog")
    packed = write_bundle(finish(make_study(tmp_path / "work", data=str(data))), tmp_path / "photos.tar.xz").path
    everything = b"".join(members(packed).values())
    assert str(tmp_path).encode() not in everything and b'"photos"' in everything
    arguments = ["replicate", str(packed), "--sample", "1", "--work-dir", str(tmp_path / "w"), "--plain"]
    assert "pass --data" in error_of(*arguments)
    other = parquet_folder(tmp_path / "other", "cat")
    assert "other is not the data of" in error_of(*arguments, "--data", str(other))
    assert not list(tmp_path.glob("w/replications/*/runs"))
    shutil.copytree(data, moved := tmp_path / "moved" / "photos")
    bundled = opened(packed, tmp_path / "there")
    plan = plan_again(bundled, choose(bundled, 1, "0"), str(moved))
    assert plan.runs[0].spec.data_name == str(moved)


@pytest.mark.parametrize("name", ["data_scale", pytest.param("decoder_init", marks=needs_minilm)])
def test_amounts_of_data_and_a_bert_come_out_again(name, tmp_path):
    planned = make_study(tmp_path / "work", load_ablation(name), SMOKE)
    bundled = opened(write_bundle(finish(planned), tmp_path / "bundle.tar.xz").path, tmp_path / "there")
    again = plan_again(bundled, choose(bundled, 99, "0"))
    expected = {(run.arm, run.replicate): run.spec for run in planned.plan.runs}
    assert {(run.arm, run.replicate): run.spec for run in again.runs} == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: spec["train"].update(lr_decoder=1e-9), "does not come out again"),
        (lambda spec: spec["train"].update(lr_decoder={"': open('executed', 'w'), '": 1}), "TrainSpec.lr_decoder"),
        (lambda spec: spec["text"].update(tokenizer="{{$HOME:x}}"), "no gitbench wrote"),  # mmengine fills it in
        (lambda spec: spec["variants"].update(memory={}), "--plugin"),
        (lambda spec: spec.clear(), "does not know the spec"),
    ],
)
def test_what_is_not_the_same_run_is_not_made_again(change, said, study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bundle = edited(study, tmp_path, lambda record: change(record["spec"]))
    assert said in error_of("replicate", str(bundle), "--sample", "3", "--work-dir", str(tmp_path / "w"))
    assert not (tmp_path / "executed").exists() and not list(tmp_path.glob("w/replications/*/runs"))


def test_other_numerics_are_not_the_same_run(study, monkeypatch):
    monkeypatch.setattr(run_key, "NUMERICS_VERSION", 99)
    with pytest.raises(GitbenchError, match="use the version that made the bundle"):
        plan_again(study, choose(study, 1, "0"))


def test_what_is_chosen_is_decided_by_the_digest_and_spread_over_arms(study):
    three = choose(study, 3, "0")
    assert three == choose(study, 3, "0") and {run.arm for run in three} == {"base", "small", "blind"}
    assert len({choose(study, 1, str(digest)) for digest in range(20)}) == 6  # every run can be the one
    assert len(choose(study, 99, "0")) == 6


def test_a_sample_of_none_and_exactness_on_another_machine_are_refused(study, tmp_path):
    bundle = write_bundle(study, tmp_path / "bundle.tar.xz").path
    words = ("replicate", str(bundle), "--work-dir", str(tmp_path / "w"))
    assert "--sample 0" in error_of(*words, "--sample", "0")
    assert not (tmp_path / "w").exists()
    assert "--exact: the runs were made on None, this is" in error_of(*words, "--exact")


def test_predictions_that_differ_are_made_twice_and_a_machine_that_repeats_itself_allows_nothing(trained, tmp_path):
    copy = copied(trained, tmp_path / "work")
    for run in copy.unique_runs:
        path = copy.folder(run.run_key).predictions
        path.write_text(path.read_text().replace('"score": -', '"score": -1'))
    bundle = write_bundle(Study.open(copy.work_dir, copy.name), tmp_path / "bundle.tar.xz").path
    words = ["replicate", str(bundle), "--sample", "1", "--work-dir", str(tmp_path / "w"), "--plain"]
    assert cli.main(words) == 0  # texts and scores are the same, only the likelihood that the search gave is not
    (run,) = json.loads(next(tmp_path.glob("w/replications/*/replication.json")).read_text())["runs"]
    assert not run["identical"] and {each["allowed"] for each in run["comparisons"]} == {0.0}
    assert len(list(tmp_path.glob(f"w/replications/*/second/runs/{run['run_key']}/record.json"))) == 1
    assert cli.main([*words, "--exact"]) == 1


def test_runs_of_overridden_options_are_never_made_again(tmp_path):
    found = finish(make_study(tmp_path, cfg_options={"train_cfg.max_iters": 3}))
    with pytest.raises(GitbenchError, match="--cfg-options"):
        choose(found, 1, "0")
