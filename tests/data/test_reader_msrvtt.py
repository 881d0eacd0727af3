"""MSR-VTT in the layouts in which it is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_data import CAPTION, VIDEO, opened
from helpers_errors import refused
from helpers_published import msrvtt
from helpers_sets import ids, shown, write


@pytest.mark.parametrize("joined", [False, True])
def test_msr_vtt_in_its_own_files(tmp_path: Path, joined: bool) -> None:
    expected = {"train": range(6), "val": (6, 7), "test": (8, 9)}
    assert ids(msrvtt(tmp_path, joined), VIDEO) == {split: [f"video{k}" for k in ks] for split, ks in expected.items()}
    source = opened(tmp_path, "test", task=VIDEO)
    assert source.requests(0)[0].references == tuple(f"caption {j} of 8" for j in range(3))
    assert [shown(frame) for frame in source.image(0)] == [1, 4, 7] and not source.source.notes


def test_a_file_without_sentences_lies_beside_the_one_that_has_them(tmp_path: Path) -> None:
    told = msrvtt(tmp_path) / "annotations/test_videodatainfo.json"
    content = json.loads(told.read_text())
    write(tmp_path, "annotations/test_videodatainfo_nosen.json", {"info": {}, "videos": content["videos"]})
    assert ids(tmp_path, VIDEO)["test"] == ["video8", "video9"]
    assert len(opened(tmp_path, "test", task=VIDEO).requests(0)[0].references) == 3
    told.unlink()
    source = opened(tmp_path, "test", task=VIDEO)
    assert [source.image_id(index) for index in range(len(source))] == ["video6", "video7"]  # of val
    assert "its test has no texts, tested on all of val" in source.source.notes[0]


def test_faults_of_msr_vtt(tmp_path: Path) -> None:
    msrvtt(tmp_path)
    with refused("holds nothing for --task caption .what is there may suit --task video"):
        opened(tmp_path, task=CAPTION)
    (tmp_path / "TrainValVideo" / "video6.avi").unlink()
    with refused("film video6: film .*video6 is missing"):
        opened(tmp_path, "val", task=VIDEO)
    write(tmp_path, "annotations/test_videodatainfo.json", {"videos": [{"video_id": "video8"}], "sentences": []})
    with refused("test_videodatainfo.json is not a file of MSR-VTT .KeyError: 'split'"):
        opened(tmp_path, "test", task=VIDEO)
