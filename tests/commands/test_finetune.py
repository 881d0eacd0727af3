"""`gitbench finetune`: from a checkpoint and a folder of photographs to the report and an export; and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers_bundle import finish
from helpers_captioner import huggingface, official, run_folder
from helpers_cli import call, error_of
from helpers_data import coco, with_images
from helpers_study import make_study

from gitbench.ablations import check_ablation
from gitbench.profiles import FINETUNE
from gitbench.report.gains import early_looks, gains_of
from gitbench.study.finetune import ABLATION, Asked, recipe
from gitbench.study.store import Study
from gitbench.study.verify import findings
from gitbench.training.caption import load_captioner
from gitbench.training.start import described

SMALL = ("--epochs", "2", "--batch", "8", "--device", "cpu", "--plain")
pytestmark = pytest.mark.usefixtures("svg_alone")


def photographs(folder: Path) -> str:
    coco(folder, [f"{number:02}.png" for number in range(30)])
    return str(folder)


def test_a_captioner_is_fine_tuned_on_photographs_reported_exported_and_replicated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights, data = huggingface(tmp_path / "hf"), photographs(tmp_path / "photos")
    words = ("finetune", str(weights), "--data", data, *SMALL, "--work-dir", str(tmp_path / "w"), "--seeds", "2")
    said = call(*words, "--dry-run").stdout
    assert "3 runs, 0 done, 3 to do" in said and re.search(r"finetuned: about \d\.\d GiB a run, by formula", said)
    assert not (tmp_path / "w").exists()

    done = call(*words)
    assert done.returncode == 0, done.stderr
    (name,) = (path.stem for path in (tmp_path / "w" / "studies").glob("finetune.*.manifest.json"))
    study = Study.open(tmp_path / "w", name.removesuffix(".manifest"))
    plan = study.plan
    assert re.fullmatch(r"photos-[0-9a-f]{6}\+start-[0-9a-f]{6}\+recipe-[0-9a-f]{6}\+seeds-2\+cpu", plan.label)
    assert plan.command == "gitbench finetune hf --data photos --seeds 2 --device cpu --epochs 2 --batch 8"
    assert [arm.label for arm in plan.arms] == ["7 iterations", "as it starts, not trained"]
    assert list(findings(study)) == []

    gains = gains_of(study)
    assert (gains.seeds, gains.images) == (2, len(study.predictions(study.finished[0].run_key)))
    first = gains.differences[0]
    scores = [study.record(run.run_key)["metrics"][first.metric]["value"] for run in study.finished]
    assert first.difference == pytest.approx(np.mean([scores[0], scores[2]]) - scores[1])
    assert {each.metric for each in gains.differences} >= {"CIDEr", "test_nll"}
    (page,) = (tmp_path / "w" / "reports").glob("finetune/*/report.html")
    text = page.read_text()
    assert "Before and after" in text and "training took CIDEr from" in text and "starts from nothing" not in text
    looks = early_looks(study, plan)
    assert looks and all(text.count(look.image_id) for look in looks)
    assert [iteration for iteration, _ in looks[0].texts] == [0, 1, 2, 3, 4, 5, 6, 7]

    again = call(*words)
    assert "0 runs trained, 3 found done" in again.stdout
    export = ("export", "finetune", "--arm", "finetuned", "--work-dir", str(tmp_path / "w"), "--to", "huggingface")
    assert call(*export, str(tmp_path / "out")).returncode == 0
    own, theirs = (
        load_captioner(path).git for path in (study.folder(study.finished[0].run_key).path, tmp_path / "out")
    )
    assert all(torch.equal(own.state_dict()[key], value) for key, value in theirs.state_dict().items())
    card = (tmp_path / "out" / "README.md").read_text()
    assert str(tmp_path) not in card and "checkpoint hf" in card
    assert str(tmp_path) not in text

    assert call("bundle", "finetune", "--work-dir", str(tmp_path / "w"), "--out", "tuned.tar.xz").returncode == 0
    found = call("replicate", "tuned.tar.xz", "--sample", "1", "--data", data, "--work-dir", str(tmp_path / "r"))
    assert found.returncode == 0 and "agree" in found.stdout, found.stdout + found.stderr


def test_an_ablation_from_a_checkpoint_is_planned_from_the_command_line(tmp_path):
    weights = run_folder(tmp_path / "captioner")
    words = (
        "run",
        "encoder_training",
        "--profile",
        "smoke",
        "--start",
        str(weights),
        "--work-dir",
        str(tmp_path / "w"),
    )
    said = call(*words, "--dry-run").stdout
    assert "encoder_training.smoke.scenes+start-" in said and "starts from nothing" not in said
    assert "leave one of them out" in error_of(*words, "--encoder", "x.pth", "--dry-run")
    sizes = ("run", "decoder_size", "--profile", "smoke", "--start", str(weights), "--work-dir", str(tmp_path / "w"))
    assert "has the decoder self_1x64 (layers 1, not 3" in error_of(*sizes, "--dry-run")


def test_what_cannot_be_fine_tuned_is_told_in_one_line(tmp_path):
    weights, data = run_folder(tmp_path / "captioner"), photographs(tmp_path / "photos")

    def said(*words: str, start: Path = weights, on: str = data) -> str:
        return error_of(
            "finetune", str(start), "--data", on, *words, "--work-dir", str(tmp_path / "w"), "--device", "cpu"
        )

    assert "nowhere does not exist: pass" in said(start=tmp_path / "nowhere")
    assert "did you mean 'scenes'" in said(on="scene")
    assert "did you mean 'vqa'" in said("--task", "vqaa")
    assert "--epochs 0: use a number above 0" in said("--epochs", "0")
    assert "--batch 31: there are 27 training images: use that or less" in said("--batch", "31")
    assert "use --image-size 48" in said("--image-size", "50")
    words = official(tmp_path / "official") / "words.json"
    (tmp_path / "official" / "few.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    few = str(tmp_path / "official" / "few.txt")
    assert "the word embedding has 81 rows and the tokenizer 5 entries" in said("--tokenizer", few, start=words.parent)
    asked = [{"question_id": n, "image": f"{n:03}.png", "question": "which?"} for n in range(12)]
    with_images(tmp_path / "hidden", [f"{n:03}.png" for n in range(12)])
    (tmp_path / "hidden" / "questions.json").write_text(json.dumps(asked))
    assert "answers" in said("--task", "vqa", on=str(tmp_path / "hidden"))
    assert not (tmp_path / "w").exists()


def test_the_study_of_fine_tuning_is_one_that_can_be_judged():
    check_ablation(ABLATION)
    assert FINETUNE.rates == (1.0,) and ABLATION.base == "finetuned" and not ABLATION.floor


def test_a_gain_is_measured_on_the_same_images_of_one_start(tmp_path):
    """Two seeds against one start: by hand, image by image."""
    weights = run_folder(tmp_path / "captioner")
    profile = recipe(
        described(weights), "scenes", "caption", Asked(train_images=16, val_images=4, test_images=6), "cpu"
    )
    study = make_study(tmp_path / "w", ABLATION, profile, replicates=2)
    done = finish(study)
    for number, run in enumerate(done.plan.runs):
        table = pd.DataFrame(
            {"image_id": list("abcd"), "CIDEr": np.array([1.0, 3.0, 2.0, 4.0]) + (0.0, 5.0, 2.0)[number]}
        )
        if number != 1:
            table["CIDEr"] += [0.0, 1.0, -1.0, 0.0]
        table.to_parquet(done.folder(run.run_key).per_image)
    gains = gains_of(Study.open(done.work_dir, done.name))
    (only,) = gains.differences
    assert (only.metric, only.a, only.b) == ("CIDEr", (2.5, 4.5), (7.5, 7.5)) and only.difference == -4.0
    assert only.low < -4.0 < only.high and (only.higher, only.tie, only.lower) == (0.0, 0.0, 1.0)
    assert "over test images and seeds (2)" in gains.said("scenes")
    assert gains_of(make_study(tmp_path / "x")) is None


def test_a_limit_of_memory_is_held_by_steps_in_parts_which_the_studys_command_states(tmp_path):
    weights, data = huggingface(tmp_path / "hf"), photographs(tmp_path / "photos")
    words = ("finetune", str(weights), "--data", data, "--batch", "24", "--image-size", "256")
    words += ("--work-dir", str(tmp_path / "w"), "--dry-run")
    gpu = ("--device", "cuda", "--precision", "float16")
    plain = call(*words, *gpu)
    need = float(re.search(r"finetuned: about (\d+\.\d+) GiB", plain.stdout).group(1))
    assert "+micro" not in plain.stdout and "to fit into" not in plain.stderr
    held = call(*words, *gpu, "--memory", f"{need - 0.08:.2f}")
    assert re.search(r"to fit into \d\.\d GiB: --micro-batch \d+", held.stderr), (need, held.stderr)
    assert "+micro-" in held.stdout
    assert "--memory decides --micro-batch and --checkpointing" in error_of(
        *words, *gpu, "--memory", "1", "--checkpointing"
    )
    assert "--memory -1: use a number of GiB above 0" in error_of(*words, *gpu, "--memory", "-1")
    assert "0.1: 0.8 GiB are needed to train one image at a time" in error_of(*words, *gpu, "--memory", "0.1")
