"""The one study that `gitbench report`, `explain` and `bundle` mean: by name, folder or label, with the marks it may have."""

import dataclasses
from types import SimpleNamespace

import pytest
from helpers_study import make_study

from gitbench.commands.options import study_of
from gitbench.errors import GitbenchError
from gitbench.study.find import find_study
from gitbench.study.store import Study


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("plan")).plan


@pytest.fixture
def work(tmp_path, plan):
    """Return a function that writes studies of "<profile>.<data>" or "<data>", and returns the work directory."""

    def with_studies(*names: str):
        for name in names:
            profile, _, label = name.rpartition(".")
            task = next((task for task in ("vqa", "video") if f"-{task}" in label), "caption")
            study = dataclasses.replace(plan, ablation="ab", profile=profile or "cpu", data=label, task=task)
            Study(tmp_path / "work", study).write_plan()
        return tmp_path / "work"

    return with_studies


@pytest.mark.parametrize(
    "label",
    ["scenes", "scenes+cfg-0a1b2c", "scenes+bert-0a1b2c", "scenes+cfg-ffffff+bert-0a1b2c", "scenes-vqa+cfg-0a1b2c"],
)
def test_a_lone_study_needs_no_marks_and_a_whole_label_always_does(work, label):
    folder, task = work(label, "gpu.scenes-motion"), "vqa" if "-vqa" in label else "caption"
    assert find_study(folder, "ab", "cpu", "scenes", task).name == f"ab.cpu.{label}"
    assert find_study(folder, "ab", "cpu", label).name == f"ab.cpu.{label}"


@pytest.mark.parametrize("name", ["cpu.scenes", "gpu.photos-0a1b2c", "smoke.scenes+cfg-0a1b2c"])
def test_the_one_study_that_is_there_needs_nothing_but_its_ablation(work, name):
    folder = work(name)
    assert find_study(folder, "ab").name == find_study(folder, "elsewhere/ab.py").name == f"ab.{name}"


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (("cpu.scenes", "smoke.scenes"), {}),
        (("cpu.scenes", "cpu.photos-0a1b2c"), {"profile": "cpu"}),
        (("cpu.scenes+cfg-0a1b2c", "cpu.scenes+cfg-ffffff"), {"profile": "cpu", "data": "scenes"}),
    ],
)
def test_several_are_listed_and_none_is_guessed(work, names, asked):
    with pytest.raises(GitbenchError, match="several studies match") as caught:
        find_study(work(*names), "ab", **asked)
    assert all(f"ab.{name}" in str(caught.value) for name in names)


def test_the_plain_study_is_meant_where_there_are_marked_ones_too(work):
    folder = work("scenes", "scenes+cfg-0a1b2c", "scenes+cfg-ffffff")
    assert find_study(folder, "ab", "cpu", "scenes").name == find_study(folder, "ab").name == "ab.cpu.scenes"
    assert find_study(folder, "ab", "cpu", "scenes+cfg-ffffff").name == "ab.cpu.scenes+cfg-ffffff"


def test_another_task_or_data_set_is_no_mark(work):
    folder = work("scenes-vqa", "scenes-motion")
    with pytest.raises(GitbenchError, match=r"no study ab.cpu.scenes .*: ab.cpu.scenes-motion, ab.cpu.scenes-vqa"):
        find_study(folder, "ab", "cpu", "scenes", "caption")
    assert find_study(folder, "ab", task="caption").name == "ab.cpu.scenes-motion"
    assert find_study(folder, "ab", task="vqa").name == "ab.cpu.scenes-vqa"
    assert find_study(folder, "ab", data="scenes").name == "ab.cpu.scenes-vqa"  # of any task
    with pytest.raises(GitbenchError, match="several studies match: pass --profile, --task and --data"):
        find_study(folder, "ab")
    with pytest.raises(GitbenchError, match="did you mean 'vqa'"):
        find_study(folder, "ab", task="vqaa")


def test_a_folder_is_found_by_its_name(work, tmp_path):
    (tmp_path / "photos").mkdir()
    folder = work("photos-0a1b2c", "photos-0a1b2c+cfg-ffffff", "photoshop-0a1b2c")
    assert find_study(folder, "ab", "cpu", str(tmp_path / "photos")).name == "ab.cpu.photos-0a1b2c"
    assert find_study(folder, "ab", data="photos").name == "ab.cpu.photos-0a1b2c"


def test_studies_with_marks_that_are_passed_over_are_told(work, capsys):
    folder = work("cpu.scenes", "cpu.scenes+rates-shared")
    asked = {"ablation": "ab", "profile": None, "data": None, "task": None, "work_dir": folder}
    assert study_of(SimpleNamespace(**asked)).name == "ab.cpu.scenes"
    assert capsys.readouterr().err == (
        "gitbench: this is ab.cpu.scenes; for ab.cpu.scenes+rates-shared pass --data, as scenes+rates-shared\n"
    )
    study_of(SimpleNamespace(**asked | {"data": "scenes+rates-shared"}))
    assert capsys.readouterr().err == ""
