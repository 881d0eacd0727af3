"""`gitbench caption` as a command: what it writes as it goes, what is kept of it, which files it takes, where it computes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers_captioner import pictures_in, run_folder
from helpers_cli import error_of

from gitbench.cli import main
from gitbench.data.image_paths import image_paths
from gitbench.data.predictions import read_predictions_file
from gitbench.errors import GitbenchError
from gitbench.models import GIT
from gitbench.training import caption
from gitbench.training.caption import load_captioner


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Path]:
    return pictures_in(tmp_path_factory.mktemp("photographs"))


@pytest.fixture
def asked(tmp_path, photographs) -> list[str]:
    """The command that captions three photographs into captions.jsonl."""
    weights = str(run_folder(tmp_path / "own"))
    out = str(tmp_path / "captions.jsonl")
    return ["caption", *map(str, photographs), "--weights", weights, "--beam", "2", "--out", out]


def searches(monkeypatch, stop_at: int | None = None) -> list[int]:
    """Note the sizes of batches that are captioned; at the one of that number, stop as by Ctrl-C."""
    seen: list[int] = []
    generate = GIT.generate

    def noted(self, images, *given, **known):
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        seen.append(len(images))
        return generate(self, images, *given, **known)

    monkeypatch.setattr(GIT, "generate", noted)
    return seen


def test_a_command_that_is_stopped_goes_on_from_its_part(tmp_path, photographs, asked, monkeypatch, capsys):
    out, part = tmp_path / "captions.jsonl", tmp_path / "captions.jsonl.part"
    assert main(asked) == 0
    expected = out.read_text()
    assert len(expected.splitlines()) == 3 and not part.exists()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        searches(patch, 2)
        assert main(asked) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert out.read_text() == expected  # of the time before
    assert len(part.read_text().splitlines()) == 3
    with pytest.raises(GitbenchError):  # nobody takes it for captions
        read_predictions_file(part)
    part.write_text(part.read_text() + '["half a li')
    out.unlink()
    for other in (["--beam", "3"], ["--question", "what"], ["--weights", str(run_folder(tmp_path / "other"))]):
        assert "captions.jsonl.part holds what was captioned so far with other weights or options" in error_of(
            *asked, *other
        )
    with monkeypatch.context() as patch:
        seen = searches(patch)
        assert main(asked) == 0
    assert seen == [1] and out.read_text() == expected and not part.exists()
    assert "2 of 3 images were captioned before" in capsys.readouterr().err

    out.unlink()
    part.write_text("\n".join(['{"weights": {}}', "no JSON", ""]))
    assert "with other weights or options" in error_of(*asked)
    part.unlink()
    with monkeypatch.context() as patch:
        searches(patch, 1)
        main(asked)
    part.write_text(part.read_text() + "no JSON\n")
    capsys.readouterr()
    assert "captions.jsonl.part is damaged: remove it" in error_of(*asked)


def test_what_cannot_be_written_is_told_before_anything_is_captioned(tmp_path, photographs, asked, monkeypatch):
    monkeypatch.setattr(caption, "load_captioner", lambda *_: pytest.fail("the weights are read"))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    assert "a file is in the way" in error_of(*asked[:-1], str(tmp_path / "file" / "captions.jsonl"))
    assert "folder.json is a folder" in error_of(*asked[:-1], str(tmp_path / "folder.json"))
    (tmp_path / "captions.jsonl.part").mkdir()
    assert "captions.jsonl.part cannot be written (Is a directory)" in error_of(*asked)


def test_where_nothing_is_kept_ctrl_c_does_not_say_that_it_is(tmp_path, asked, monkeypatch, capsys):
    searches(monkeypatch, 1)
    assert main(asked[:-2]) == 130
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1 and "goes on from here" not in printed.err
    assert "what is printed is all there is" in printed.err
    searches(monkeypatch, 0)
    assert main(asked) == 130 and not list(tmp_path.glob("captions*"))  # and no empty part


def test_names_that_are_no_utf_8_are_written_and_read_back(tmp_path, photographs, asked, monkeypatch):
    folder = tmp_path / "old"
    folder.mkdir()
    names = {os.fsdecode(b"caf\xe9.png"): r"caf\xe9.png", "café.png": "café.png"}
    for name in names:
        shutil.copy(photographs[0], folder / name)
    files = {}
    for ending in ("jsonl", "json"):
        files[ending] = tmp_path / f"old.{ending}"
        assert main([asked[0], str(folder), *asked[4:-1], str(files[ending])]) == 0
        found = read_predictions_file(files[ending]).captions
        assert set(found) == {str(folder / name) if ending == "jsonl" else Path(name).stem for name in names.values()}
    references = tmp_path / "references.jsonl"
    lines = [
        json.dumps({"image_id": name, "caption": "a red cube"})
        for name in read_predictions_file(files["json"]).captions
    ]
    references.write_text("\n".join(lines))
    other = str(shutil.copy(files["json"], tmp_path / "other.json"))
    assert (
        main(["judge", str(files["json"]), other, "--references", str(references), "--out", str(tmp_path / "out")]) == 0
    )
    assert "café.png" in files["jsonl"].read_text()  # what is UTF-8 stays readable

    files["jsonl"].unlink()
    with monkeypatch.context() as patch:
        searches(patch, 1)
        assert main([asked[0], str(folder), *asked[4:-1], str(files["jsonl"])]) == 130
    seen = searches(monkeypatch)
    assert main([asked[0], str(folder), *asked[4:-1], str(files["jsonl"])]) == 0 and seen == [1]


def test_a_pattern_names_each_image_once(tmp_path, photographs, asked, capsys):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    for name, number in {"1.png": 0, "deep/2.png": 1}.items():
        shutil.copy(photographs[number], folder / name)
    (folder / "captions.txt").write_text("no picture")
    images = [folder / "1.png", folder / "deep" / "2.png"]
    assert image_paths([str(folder / "**")]) == images
    (tmp_path / "odd").mkdir()
    shutil.copy(photographs[0], tmp_path / "odd" / "photo.bin")
    assert image_paths([str(tmp_path / "odd" / "*")]) == [tmp_path / "odd" / "photo.bin"]
    assert main(["caption", str(folder), str(images[0]), *asked[4:-2]]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == list(map(str, images))


def test_a_line_now_and_then_says_how_far_it_is(asked, monkeypatch, capsys):
    assert main(asked) == 0 and capsys.readouterr().err == ""
    monkeypatch.setattr("gitbench.commands.caption.SILENCE", 0.0)
    assert main(asked) == 0
    assert capsys.readouterr().err.splitlines() == [f"gitbench: {n} of 3 images captioned" for n in (1, 2, 3)]


def test_the_device_is_chosen_and_images_go_to_it(tmp_path, photographs, asked, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cuda: torch finds no GPU here" in error_of(*asked, "--device", "cuda")
    loaded, devices = load_captioner(Path(asked[5])), []

    def generate(self, images, prefix, **options):
        devices.extend((images.device.type, prefix.device.type))
        return torch.zeros(1, 2, dtype=torch.int64), None

    monkeypatch.setattr(GIT, "generate", generate)
    loaded.git.to("meta")  # stands for a GPU
    loaded.caption(torch.zeros(1, 3, 32, 32))
    assert devices == ["meta", "meta"]
