"""The model card of an export: what it says of a run, its snippets as transformers runs them, and no folder of this machine."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_captioner import (
    captioner_with,
    exported,
    huggingface,
    snippets,
)
from helpers_cli import error_of
from PIL import Image

from gitbench.cli import main, parser
from gitbench.commands.export import _command
from gitbench.report.card import Trained
from gitbench.study.interim import judge
from gitbench.study.store import Study
from gitbench.training.caption import caption_files, caption_video

UNTRAINED = Trained(
    run_key="0", arms=(), replicate=0, task="caption", data="photos", fingerprint="f", splits={}, iterations=0, start="",
    overridden=(), scores=(), absent={}, warnings=(), claims=(), provenance={},
)  # fmt: skip


def written_by(folder: Path, place: Path, monkeypatch, capsys, task: str = "") -> str:
    """What the blocks of a model card print, where a photograph, or the frames of a film, lie in `place`."""
    monkeypatch.chdir(place)
    capsys.readouterr()
    known = {"FOLDER": str(folder)}
    for block in snippets(folder):
        exec(compile(block, str(folder / "README.md"), "exec"), known)
    return capsys.readouterr().out


def test_the_card_shows_how_transformers_captions_and_answers(tmp_path, monkeypatch, capsys):
    """Photographs are as large as the model's, so that nothing is resized."""
    pytest.importorskip("transformers")
    source, place = captioner_with(tmp_path / "source", False), tmp_path / "place"
    place.mkdir()
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / "photo.png")
    (place / "photo.png").rename(place / "photo.jpg")
    photo = [place / "photo.jpg"]
    ((_, caption),), ((_, answer),) = (
        caption_files(photo, source, greedy=True, question=asked) for asked in (None, "what is this?")
    )
    assert caption and answer and caption != answer
    folder = exported(source, "huggingface", tmp_path / "unknown")
    assert written_by(folder, place, monkeypatch, capsys) == f"{caption}\n{answer}\n"

    monkeypatch.setattr("gitbench.report.card.Trained.of", lambda folder: replace(UNTRAINED, task="vqa"))
    (source / "record.json").write_text("{}")
    folder = exported(source, "huggingface", tmp_path / "vqa")
    assert written_by(folder, place, monkeypatch, capsys) == f"{answer}\n"
    assert '--question "what is this?"' in (folder / "README.md").read_text()
    monkeypatch.setattr("gitbench.report.card.Trained.of", lambda folder: UNTRAINED)
    folder = exported(source, "huggingface", tmp_path / "caption")
    assert written_by(folder, place, monkeypatch, capsys) == f"{caption}\n"


def test_the_card_of_a_video_model_shows_frames(tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    source, place = huggingface(tmp_path / "source", frames=3), tmp_path / "place"
    place.mkdir()
    films = [place / f"{number}.jpg" for number in range(3)]
    for number, path in enumerate(films):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, format="PNG")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "gitbench": {"max_length": 12}}))
    folder = exported(source, "huggingface", tmp_path / "hf")
    said, answered = written_by(folder, place, monkeypatch, capsys).splitlines()
    assert said == caption_video(films, source, greedy=True) and said
    assert answered == caption_video(films, source, greedy=True, question="what is this?")
    assert "gitbench caption 0.jpg 1.jpg ... --frames --weights FOLDER" in (folder / "README.md").read_text()


def test_the_card_says_what_is_known_of_a_run(trained, tmp_path, capsys, monkeypatch):
    """Of a study's arm and seed: data, scores with their intervals, claims, and where it comes from; no folder of here."""
    shutil.copytree(trained.work_dir, tmp_path / "work")
    study = Study.open(tmp_path / "work", trained.name)
    asked = ["export", "decoder_size", "--work-dir", str(study.work_dir), "--to", "huggingface"]
    monkeypatch.chdir(tmp_path)
    Path("1").write_text("no path is meant by --replicate 1")
    assert main([*asked, str(tmp_path / "a"), "--arm", "base", "--replicate", "1"]) == 0
    run = next(run for run in study.plan.runs if (run.arm, run.replicate) == ("base", 1))
    record = study.record(run.run_key)
    card = (tmp_path / "a" / "README.md").read_text()
    for said in (run.run_key, study.plan.data_fingerprint, study.plan.command, f"{study.name}: base", "replicate 1"):
        assert said in card, said
    assert str(tmp_path) not in card
    cider = next(line for line in card.splitlines() if line.startswith("| CIDEr |"))
    value, low, high = map(float, re.findall(r"[0-9.]+", cider)[:3])
    assert value == pytest.approx(record["metrics"]["CIDEr"]["value"], abs=0.06) and low < value < high
    claims = [claim for claim in study.plan.claims if "base" in claim.arms]
    assert claims and all(f"{claim.name}: " in card for claim in claims) and "not judged yet" in card
    looks = study.looks
    judge(study)
    assert main([*asked, str(tmp_path / "b"), "--arm", "base"]) == 0
    again = Study.open(study.work_dir, study.name).looks
    assert looks is None and len(again.looks) == 1  # exporting is no look
    (word,) = {each.word for each in again.looks[0].claims if each.claim == claims[0].name}
    assert f"{word} (" in (tmp_path / "b" / "README.md").read_text()
    assert main(["export", str(study.folder(run.run_key).path), "--to", "official", str(tmp_path / "c")]) == 0
    assert run.run_key in (tmp_path / "c" / "README.md").read_text()
    capsys.readouterr()
    assert "no seed 7 of the arm base" in error_of(*asked, str(tmp_path / "d"), "--arm", "base", "--replicate", "7")
    assert "unknown arm 'bas'" in error_of(*asked, str(tmp_path / "d"), "--arm", "bas")


def test_the_command_on_a_card_names_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("words.json").write_text("")
    for data, said in {
        "coco:/home/somebody/coco2014": "coco:coco2014",
        "/home/somebody/photos?split=80/10/10&images=/home/somebody/more": "photos?split=80/10/10&images=more",
        "/home/somebody/captions.csv": "captions.csv",
        "hub:owner/name?images=/home/somebody/more": "hub:owner/name?images=more",
        "scenes": "scenes",
    }.items():
        words = ["export", "decoder_size", "--to", "official", "here/../out", "--arm", "base", "--data", data]
        arguments = parser().parse_args([*words, "--tokenizer", str(tmp_path / "words.json")])
        command = shlex.split(_command(arguments))
        assert command[command.index("--data") + 1] == said
        assert "/home" not in str(command) and str(tmp_path) not in str(command)
        assert command[-2:] == ["--tokenizer", "words.json"] and command[5] == "out"
