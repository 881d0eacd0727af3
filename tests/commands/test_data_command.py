"""`gitbench data`: what it says of a data set, the picture, and the data set in our own layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_data import CAPTION, CLASSIFY, SPLITS, VQA, coco, opened, photo, row, with_images, write_parquet
from helpers_published import msrvtt

from gitbench.cli import main
from gitbench.data import readers
from gitbench.data.items import read_texts_file
from gitbench.data.tasks import study_fingerprint
from gitbench.spec import DataSpec, TaskSpec

SPEC = DataSpec(image_size=16)


def test_what_a_data_set_is_taken_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, picture = coco(tmp_path / "dogs", [f"{k}.png" for k in range(20)]), tmp_path / "shown.png"
    assert main(["data", str(folder), "--out", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "dogs: taken for coco, task caption" in said and "mind: states no splits: divided 80/10/10 by image" in said
    assert "1 image, 2 captions (2 an image); 4 words a text; 24 x 18 pixels" in said
    assert picture.read_bytes().startswith(b"\x89PNG") and f"samples: {picture}" in said


def test_files_are_read_once_for_all_splits_and_for_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, read = coco(tmp_path / "dogs", [f"{k}.png" for k in range(20)]), []
    monkeypatch.setattr(readers.coco, "read_texts_file", lambda path: read.append(path) or read_texts_file(path))
    assert main(["data", str(folder), "--task", "caption", "--out", str(tmp_path / "x.png")]) == 0
    assert read == [folder / "captions.json"]
    assert main(["data", str(folder), "--out", str(tmp_path / "x.png")]) == 0
    assert len(read) == 3  # once for images, once for films


def test_images_that_splits_share_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, numbers in (("train", range(6)), ("val", (6, 7)), ("test", (5, 8))):
        rows = [row(k, captions=["a dog"]) | {"image_id": f"{split}{k}"} for k in numbers]
        write_parquet(tmp_path / f"{split}.parquet", rows)
    assert main(["data", str(tmp_path), "--out", str(tmp_path / "x.png")]) == 0
    assert "mind: 1 of the 2 images of test are in train too" in capsys.readouterr().out
    write_parquet(tmp_path / "test.parquet", [row(k, captions=["a dog"]) for k in range(6)])
    assert main(["data", str(tmp_path), "--out", str(tmp_path / "x.png")]) == 2
    assert "all 6 images of test are in train too: nothing is held out" in capsys.readouterr().err


@pytest.mark.parametrize("task", [CAPTION, VQA, CLASSIFY])
def test_a_data_set_in_our_layout_has_the_same_content(
    tmp_path: Path, task: TaskSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "given", tmp_path / "ours"
    if task is CAPTION:
        coco(folder, [f"{k}.png" for k in range(20)])
    elif task is VQA:
        import json

        with_images(folder, [f"{k}.png" for k in range(12)])
        said = (["yes", "yes", "no"], [{"answer": word} for word in ("yes", "yes", "no", "no")], ["yes"])
        asked = [
            {"question_id": k, "image": f"{k % 12}.png", "question": f"what {k}?", "answers": said[k % 3]}
            for k in range(30)
        ]
        asked += [
            {"question_id": 30, "image": "3.png", "question": "what?", "answers": ["a_b", "c"], "set_valued": True}
        ]
        (folder / "questions.json").write_text(json.dumps(asked))
    else:
        for split, start in (("train", 0), ("val", 3), ("test", 5)):
            image = [{"bytes": photo(start + k), "path": None} for k in range(2)]
            rows = [{"image": each, "image_id": f"{start + k}", "label": "dog"} for k, each in enumerate(image)]
            write_parquet(folder / f"{split}.parquet", rows)
    command = ["data", str(folder), "--task", task.name, "--out", str(tmp_path / "x.png"), "--to", "parquet", str(out)]
    assert main(command) == 0
    assert study_fingerprint(str(out), SPEC, task) == study_fingerprint(str(folder), SPEC, task)
    for split in SPLITS:
        ours, given = opened(out, split, task=task), opened(folder, split, task=task)
        assert [ours.requests(index) for index in range(len(ours))] == [
            given.requests(index) for index in range(len(given))
        ]
    assert main(command) == 2
    assert "ours exists: pass a folder that does not" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_a_data_set_that_cannot_be_written_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = coco(tmp_path / "given", [f"{k}.png" for k in range(20)])
    (folder / "images" / "3.png").unlink()
    command = ["data", str(folder), "--out", str(tmp_path / "x.png"), "--to", "parquet", str(tmp_path / "ours")]
    assert main(command) == 2
    assert "3.png is missing" in capsys.readouterr().err and {path.name for path in tmp_path.iterdir()} == {"given"}
    for wrong, message in (
        (["scenes"], "scenes is computed, or read by a plugin"),
        ([str(folder), "--to", "csv", "x"], "--to csv: a data set is written as parquet alone"),
        ([str(tmp_path)], "holds nothing for --task caption"),
        ([str(folder), "--columns", "image"], "columns 'image': write role=column"),
    ):
        assert main(["data", *wrong]) == 2
        assert message in capsys.readouterr().err


def test_films_are_described_and_stay_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = msrvtt(tmp_path / "films")
    command = ["data", f"msrvtt:{folder}", "--out", str(tmp_path / "x.png")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"msrvtt:{folder}: taken for msrvtt, task video" in said
    assert "train 6 films, 18 captions (3 a film)" in said and "64 x 48 pixels" in said
    assert "mind: 2 of the 2,990 films of msrvtt's test: a part of it" in said
    assert main([*command, "--to", "parquet", str(tmp_path / "out")]) == 2
    assert "holds films, for which this layout has no room" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
