"""The one study that `gitbench report`, `explain` and `bundle` mean: by name, folder or label, with the marks it may have."""

import pytest

from gitbench.commands.publish import find_study
from gitbench.errors import GitbenchError


@pytest.fixture
def work(tmp_path):
    (tmp_path / "studies").mkdir()

    def with_studies(*labels: str):
        for label in labels:
            (tmp_path / "studies" / f"ab.cpu.{label}.json").write_text("{}")
            (tmp_path / "studies" / f"ab.cpu.{label}.proof.json").write_text("{}")
            (tmp_path / "studies" / f"ab.cpu.{label}.looks.json").write_text("{}")
        return tmp_path

    return with_studies


@pytest.mark.parametrize(
    "label",
    ["scenes", "scenes+cfg-0a1b2c", "scenes+bert-0a1b2c", "scenes+bert-0a1b2c+cfg-ffffff", "scenes-vqa+cfg-0a1b2c"],
)
def test_a_lone_study_needs_no_marks_and_a_whole_label_always_does(work, label):
    folder = work(label)
    task = "vqa" if "-vqa" in label else "caption"
    assert find_study(folder, "ab", "cpu", "scenes", task) == f"ab.cpu.{label}"
    assert find_study(folder, "ab", "cpu", label) == f"ab.cpu.{label}"


def test_the_plain_study_is_meant_where_there_are_marked_ones_too(work):
    folder = work("scenes", "scenes+cfg-0a1b2c", "scenes+cfg-ffffff")
    assert find_study(folder, "ab", "cpu", "scenes") == "ab.cpu.scenes"
    assert find_study(folder, "ab", "cpu", "scenes+cfg-ffffff") == "ab.cpu.scenes+cfg-ffffff"


def test_several_marked_ones_are_listed_and_none_is_guessed(work):
    folder = work("scenes+cfg-0a1b2c", "scenes+cfg-ffffff")
    with pytest.raises(GitbenchError, match=r"pass --data with one of scenes\+cfg-0a1b2c, scenes\+cfg-ffffff"):
        find_study(folder, "ab", "cpu", "scenes")


def test_another_task_or_data_set_is_no_mark(work):
    with pytest.raises(
        GitbenchError, match="no study ab.cpu.scenes in .*found: ab.cpu.scenes-motion, ab.cpu.scenes-vqa"
    ):
        find_study(work("scenes-vqa", "scenes-motion"), "ab", "cpu", "scenes")


def test_a_folder_is_found_by_its_name(work, tmp_path):
    data = tmp_path / "photos"
    data.mkdir()
    folder = work("photos-0a1b2c", "photos-0a1b2c+cfg-ffffff")
    assert find_study(folder, "ab", "cpu", str(data)) == "ab.cpu.photos-0a1b2c"
    assert find_study(folder, "ab", "cpu", "photos-0a1b2c+cfg-ffffff") == "ab.cpu.photos-0a1b2c+cfg-ffffff"
