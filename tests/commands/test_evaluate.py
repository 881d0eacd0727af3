"""`gitbench evaluate`: the captions of `gitbench caption`, resumed to the bit, and one line for what is wrong."""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers_captioner import WORDS, huggingface, official, run_folder
from helpers_cli import call, error_of
from helpers_data import coco, photo
from helpers_evaluate import evaluated
from PIL import Image

import gitbench.data
from gitbench import files
from gitbench.data.scenes.world import Scenes
from gitbench.errors import GitbenchError
from gitbench.files import append_line, whole_lines
from gitbench.launch import evaluation
from gitbench.launch.evaluation_plan import Asked, name_of, suited
from gitbench.metrics import CaptionScorer
from gitbench.models.git import GIT
from gitbench.training import caption
from gitbench.training import evaluate as computing
from gitbench.training.caption import caption_files

pytestmark = pytest.mark.usefixtures("as_before", "without_meteor")


@pytest.fixture
def without_meteor(monkeypatch) -> None:
    """METEOR's process takes ten seconds to start."""
    monkeypatch.setattr("gitbench.metrics.CaptionScorer", functools.partial(CaptionScorer, meteor=False, spice=False))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """A folder of 30 photographs of two sizes with captions: 3 of them are test."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    coco(folder, [f"{number:03}.png" for number in range(30)])
    for number in range(0, 30, 2):
        next(folder.rglob(f"{number:03}.png")).write_bytes(photo(number, (20, 30)))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return run_folder(tmp_path_factory.mktemp("weights") / "own")


def test_a_killed_evaluation_goes_on_and_computes_no_batch_twice(weights, photographs, tmp_path, monkeypatch):
    """Killed by SIGKILL, with a line half written; then shared by two processes."""
    words = (weights, "--data", photographs, "--split", "train", "--batch", "3")
    whole = evaluated(tmp_path / "whole", *words, "--jobs", "1")
    slow = (
        "import sys, time; from gitbench.cli import main; from gitbench.training import evaluate as computing\n"
        "rows = computing._Writer.rows\n"
        "computing._Writer.rows = lambda self, items: time.sleep(0.3) or rows(self, items)\n"
        "main(sys.argv[1:])"
    )
    command = [
        sys.executable,
        "-c",
        slow,
        "evaluate",
        *map(str, words),
        "--work-dir",
        str(tmp_path / "cut"),
        "--jobs",
        "1",
    ]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    folder = tmp_path / "cut" / "evaluations" / whole.folder.name
    part = folder / "parts" / "0.jsonl"
    until = time.monotonic() + 120
    while not part.is_file() or part.read_bytes().count(b"\n") < 2:
        assert started.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    os.kill(started.pid, signal.SIGKILL)
    started.communicate()
    with open(part, "ab") as file:
        file.write(b'{"batch": 7, "images": 3, "rows": [{"image_')
    before = part.read_bytes()
    kept = [json.loads(line)["batch"] for line in before.splitlines()[:-1]]
    assert 2 <= len(kept) < 8 and not (folder / "record.json").exists()

    shared = []
    together = evaluation._compute_together
    monkeypatch.setattr(
        evaluation,
        "_compute_together",
        lambda plan, f, shares, done: shared.extend(shares) or together(plan, f, shares, done),
    )
    found = evaluated(tmp_path / "cut", *words, "--jobs", "2")
    computed = sorted(batch for batches, *_ in shared for batch in batches)
    assert len(shared) == 2 and computed == [batch for batch in range(8) if batch not in kept]
    assert found.folder == folder and not (folder / "parts").exists()
    for name in ("predictions.jsonl", "predictions.coco.json", "per_image.parquet"):
        assert (folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert found.record["metrics"] == whole.record["metrics"]
    monkeypatch.setattr(evaluation, "_compute", lambda *_: pytest.fail("all is there"))
    assert evaluated(tmp_path / "cut", *words).record == found.record


def test_a_line_that_the_disk_has_no_room_for_is_one_line_of_error(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(GitbenchError, match="the disk is full while writing"):
        append_line(tmp_path / "lines.jsonl", {"a": 1})


def test_a_torn_line_is_cut_off_and_a_damaged_one_left_out(tmp_path):
    path = tmp_path / "lines.jsonl"
    for value in ({"a": 1}, {"b": "\u2028é"}):
        append_line(path, value)
    path.write_bytes(path.read_bytes() + b"\0\0\n" + b'{"c": 3')
    assert whole_lines(path) == [{"a": 1}, {"b": "\u2028é"}]
    append_line(path, {"d": 4})
    assert whole_lines(path) == [{"a": 1}, {"b": "\u2028é"}, {"d": 4}]


@pytest.mark.parametrize("layout", ["own", "huggingface", "official", "wide"])
def test_captions_are_those_of_gitbench_caption(layout, photographs, tmp_path, monkeypatch):
    """Each format by its own rule; of images that differ in size (`test_respect_ratio_max`) those of one size go together."""
    monkeypatch.setattr(caption, "bert_base_uncased", lambda: WORDS)
    crop = "test_crop_size: 32\n"
    wide = crop + "test_respect_ratio_max: 48\n"
    make = {"own": run_folder, "huggingface": huggingface}.get(layout) or (
        lambda folder: official(folder, parameters=crop if layout == "official" else wide)
    )
    found = evaluated(
        tmp_path / "work", make(tmp_path / layout), "--data", photographs, "--split", "train", "--jobs", "1"
    )
    paths = [next(photographs.rglob(f"{number:03}.png")) for number in range(30)]
    said = {str(path.name): text for path, text in caption_files(paths, tmp_path / layout)}
    assert len(set(said.values())) > 1
    images = json.loads((photographs / "captions.json").read_text())["images"]
    named = {str(image["id"]): Path(image["file_name"]).name for image in images}
    assert {row["image_id"]: row["caption"] for row in found.predictions} == {
        row["image_id"]: said[named[row["image_id"]]] for row in found.predictions
    }
    coco_results = json.loads((found.folder / "predictions.coco.json").read_text())
    assert [str(each["image_id"]) for each in coco_results] == [row["image_id"] for row in found.predictions]


def test_only_the_official_rule_leaves_the_exif_orientation_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(caption, "bert_base_uncased", lambda: WORDS)
    folder = tmp_path / "photos"
    coco(folder, [f"{number:03}.jpg" for number in range(10)])
    for path in folder.rglob("*.jpg"):
        with Image.open(path) as opened:
            image = opened.convert("RGB").resize((40, 30))
        exif = image.getexif()
        exif[0x0112] = 6  # to be turned by 90 degrees
        image.save(path, exif=exif)
    seen = []
    normalised = computing.ImageProcessor.normalised
    monkeypatch.setattr(
        computing.ImageProcessor, "normalised", lambda self, image: seen.append(image.shape) or normalised(self, image)
    )
    wide = official(tmp_path / "wide", parameters="test_crop_size: 32\ntest_respect_ratio_max: 48\n")
    evaluated(tmp_path / "work", wide, "--data", folder, "--split", "train", "--jobs", "1")
    assert {shape[0] < shape[1] for shape in seen} == {True}


# ---- what is wrong -----------------------------------------------------------------------------------------------------


def test_a_batch_that_does_not_fit_is_told_with_one_that_does(weights, photographs, tmp_path, monkeypatch):
    memory = GIT.image_memory

    def small(self, images):
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return memory(self, images)

    monkeypatch.setattr(GIT, "image_memory", small)
    words = ["evaluate", str(weights), "--data", str(photographs), "--split", "train", "--work-dir", str(tmp_path)]
    said = error_of(*words, "--jobs", "1", "--batch", "16")
    assert "a batch of 16 images does not fit into the memory of this machine: pass --batch 2, which does" in said
    monkeypatch.setattr(GIT, "image_memory", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("")))
    assert "one image alone does not fit" in error_of(*words, "--jobs", "1", "--batch", "2")


def test_a_full_disk_loses_no_batch(weights, photographs, tmp_path, monkeypatch):
    words = (weights, "--data", photographs, "--split", "train", "--batch", "6", "--jobs", "1")
    whole = evaluated(tmp_path / "whole", *words)

    def full(path, value):
        if value["batch"] == 2:
            raise GitbenchError(f"the disk is full while writing {path}")
        append_line(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(computing, "append_line", full)
        said = error_of("evaluate", *map(str, words), "--work-dir", str(tmp_path / "full"))
    assert "the disk is full" in said
    parts = tmp_path / "full" / "evaluations" / whole.folder.name / "parts" / "0.jsonl"
    assert [line["batch"] for line in whole_lines(parts)] == [0, 1]
    assert evaluated(tmp_path / "full", *words).predictions == whole.predictions


def test_what_is_wrong_is_one_line_before_anything_is_computed(weights, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(computing, "write_batches", lambda *_: pytest.fail("it is told before"))
    other = run_folder(tmp_path / "other")
    (other / "tokenizer.json").unlink()
    cut = huggingface(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:5000])
    pickled = tmp_path / "pickled.pt"
    torch.save({"model": photographs}, pickled)
    endless = run_folder(tmp_path / "endless")
    held = torch.load(endless / "model.pth", weights_only=True)
    held["state_dict"]["head_bias"][0] = torch.nan
    torch.save(held, endless / "model.pth")
    shard = huggingface(tmp_path / "shard") / "model.safetensors"
    shard.rename(shard.with_name("model-00001-of-00002.safetensors"))
    words = official(tmp_path / "words")
    hidden = tmp_path / "hidden"
    coco(hidden, [f"{number:03}.png" for number in range(10)], "captions.json")
    questions = tmp_path / "questions"
    shutil.copytree(hidden, questions)
    (questions / "captions.json").unlink()
    asked = [
        {"question_id": n, "image": next(questions.rglob(f"{n:03}.png")).name, "question": "what?", "answers": [""]}
        for n in range(10)
    ]
    (questions / "questions.json").write_text(json.dumps(asked))
    cases = [
        ([tmp_path / "none"], {}, "does not exist"),
        ([other], {}, "tokenizer.json does not exist"),
        ([cut.parent], {}, "cannot be read as weights"),
        ([pickled], {}, "it holds Python objects"),
        ([endless], {}, "head_bias holds infinities or NaN"),
        ([shard.parent], {}, "1 of the 2 files of its weights"),
        ([words], {}, "word embedding has"),
        ([weights], {"data": tmp_path / "nowhere"}, "does not exist"),
        ([weights], {"split": "tset"}, "unknown split"),
        ([weights], {"task": "vpa"}, "vqa"),
        ([weights], {"task": "vqa"}, "--task vqa"),
        ([weights], {"data": questions}, "answer"),
        ([weights], {"batch": 0}, "--batch 0: use 1 or more"),
        ([weights], {"device": "cuda"}, "no GPU"),
        ([weights, weights], {}, "are the same weights"),
    ]
    for given, options, expected in cases:
        named = {"data": photographs, **options}
        line = error_of(
            *("evaluate", *map(str, given)),
            *(part for name, value in named.items() for part in (f"--{name}", str(value))),
        )
        assert expected in line, (line, expected)


def test_a_checkpoint_that_states_no_task_is_asked_for_what_each_world_is_of():
    first = {name: suited(Asked(data=name))[0] for name in ("scenes", "scenes-shifted", "scenes-motion")}
    assert first == {"scenes": "caption", "scenes-shifted": "caption", "scenes-motion": "video"}


def test_data_that_hold_no_image_are_refused(weights, tmp_path, monkeypatch):
    class Nothing(Scenes):
        def __len__(self) -> int:
            return 0

    monkeypatch.setitem(gitbench.data._REGISTERED, "nothing", lambda name, split, limit: Nothing("scenes", split, 1))
    said = error_of("evaluate", str(weights), "--data", "nothing", "--work-dir", str(tmp_path))
    assert "nothing (test) holds no image to evaluate" in said


def test_a_checkpoint_of_another_task_is_asked_and_that_is_said(weights, tmp_path):
    found = evaluated(tmp_path, weights, "--data", "scenes", "--task", "vqa", "--limit", "4")
    assert {"VQA", "EM", "test_nll"} <= set(found.record["metrics"])
    results = json.loads((found.folder / "predictions.coco.json").read_text())
    assert set(results[0]) == {"question_id", "answer"} and found.predictions[0]["prefix"]
    films = official(tmp_path / "films", 2, "num_image_with_embedding: 2\n")
    words = str(films / "words.json")
    still = evaluated(tmp_path, films, "--data", "scenes", "--limit", "2", "--tokenizer", words)
    assert "still images get no temporal embedding" in still.err and still.record["warnings"]
    moving = evaluated(tmp_path, films, "--data", "scenes-motion", "--limit", "2", "--tokenizer", words)
    assert "temporal" not in moving.err
    assert json.loads((moving.folder / "plan.json").read_text())["plan"]["task"] == {"name": "video", "frames": 2}


# ---- several -----------------------------------------------------------------------------------------------------------


def test_several_checkpoints_are_compared_with_the_first(trained, tmp_path):
    runs = [study_run.run_key for study_run in trained.plan.runs if study_run.arm != "blind"][:3]
    folders = [trained.folder(key).path for key in runs]
    done = call("evaluate", *map(str, folders), "--data", "scenes", "--limit", "24", "--work-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 3
    page = Path(done.stdout.splitlines()[-1].removeprefix("comparison: "))
    scores, differences = (pd.read_csv(page.parent / f"{name}.csv") for name in ("scores", "differences"))
    assert set(scores["system"]) == set(runs) and set(differences["system"]) == set(runs[1:])
    nll = differences[differences["metric"] == "test_nll"].set_index("system")
    values = scores[scores["metric"] == "test_nll"].set_index("system")["value"]
    for key in runs[1:]:
        assert nll.loc[key, "difference"] == pytest.approx(values[key] - values[runs[0]], rel=1e-9)
        assert nll.loc[key, "p_holm"] >= nll.loc[key, "p"]
    text = page.read_text(encoding="utf-8")
    assert f"Differences from {runs[0]}" in text and "Holm" in text and text.count("data:image/png;base64") >= 6


def test_the_page_shows_scores_pictures_and_how_it_was_made(weights, photographs, tmp_path):
    found = evaluated(tmp_path, weights, "--data", photographs, "--split", "train")
    page = (found.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") == 14 and "Best" in page and "At random" in page
    assert "CIDEr-D|lib:pycocoevalcap" in page and "images/s" in page and str(tmp_path) not in page
    assert "The paper beside it" not in page
    scores = pd.read_csv(found.folder / "scores.csv").set_index("metric")
    for metric, row in scores.iterrows():
        assert row["value"] == found.record["metrics"][metric]["value"] and row["low"] <= row["value"] <= row["high"]


def test_an_evaluation_of_other_weights_gets_a_folder_of_its_own(tmp_path, photographs):
    words = ("--data", photographs, "--split", "train", "--limit", "4")
    weights = run_folder(tmp_path / "own")
    first = evaluated(tmp_path / "work", weights, *words)
    second = evaluated(tmp_path / "work", weights, *words, "--beam", "1")
    assert second.folder.name.startswith(f"{first.folder.name}.") and second.record["key"] != first.record["key"]
    assert evaluated(tmp_path / "work", weights, *words).folder == first.folder


def test_a_checkpoint_is_named_by_what_says_something(tmp_path):
    for name in ("GIT_BASE/snapshot/model.pt", "hf/model-00001-of-00002.safetensors", "my model.pth"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert name_of(tmp_path / "GIT_BASE") == name_of(tmp_path / "GIT_BASE/snapshot/model.pt") == "GIT_BASE"
    assert name_of(tmp_path / "hf/model-00001-of-00002.safetensors") == "hf"
    assert name_of(tmp_path / "my model.pth") == "my-model"
