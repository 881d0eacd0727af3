"""A checkpoint as a start: facts that are the same in every layout, and its weights when training begins."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from helpers_captioner import WORDS, huggingface, model, official, run_folder
from helpers_errors import refused
from helpers_resume import assert_same_results, kill_at, run_to_end
from helpers_study import Run, make_study, run_of, tiny_ablation, tiny_profile, write_configs
from safetensors.torch import load_file, save_file

from gitbench.run_folder import RunFolder, read_early_captions
from gitbench.spec import Compute, Profile
from gitbench.study.finetune import ABLATION, Asked, recipe
from gitbench.study.start import started
from gitbench.training.hooks import read_curve
from gitbench.training.run import execute, load_run
from gitbench.training.start import described, fitted

NUMBERS = Asked(epochs=3, batch=4, train_images=16, val_images=4, test_images=6)


def tuned(weights: Path, task: str = "caption", tokenizer: str | None = None, **asked) -> Profile:
    """The recipe of fine-tuning at a tiny size."""
    numbers = dataclasses.replace(NUMBERS, **asked)
    data = "scenes-motion" if task == "video" else "scenes"
    return recipe(described(weights, tokenizer), data, task, numbers, "cpu")


def planned(work_dir: Path, weights: Path, task: str = "caption", **options) -> list[Run]:
    data, profile = "scenes-motion" if task == "video" else "scenes", tuned(weights, task, **options)
    return write_configs(make_study(work_dir, ABLATION, profile, data=data, task_name=task, compute=Compute()))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_run(folder)[0].git.state_dict()


def exported_with(folder: Path, dropout: float) -> Path:
    """A folder of Hugging Face whose config.json states a dropout, which no weight shows."""
    huggingface(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": dropout}))
    return folder


def test_one_model_has_the_same_facts_in_every_layout(tmp_path):
    words = str(tmp_path / "official" / "words.json")
    official(tmp_path / "official")
    facts = [
        described(official(tmp_path / "other", seed=1), words),
        described(tmp_path / "official", words),
        described(huggingface(tmp_path / "hf")),
        described(run_folder(tmp_path / "run")),
    ]
    others, (first, *rest) = facts[0], facts[1:]
    assert others.content != first.content and {each.content for each in rest} == {first.content}
    assert described(exported_with(tmp_path / "dry", 0.0)).decoder.dropout == 0.0 and first.decoder.dropout == 0.1
    for each in facts:
        assert (each.encoder.width, each.decoder.width, each.image_size, each.tied, each.frames) == (
            64,
            64,
            32,
            True,
            0,
        )
        assert each.vocab_size == WORDS.vocab_size and each.tokenizer == first.tokenizer
    assert described(official(tmp_path / "film", frames=3), words).frames == 3


def test_a_run_that_is_not_trained_is_its_checkpoint(tmp_path):
    weights = huggingface(tmp_path / "hf")
    before, start = planned(tmp_path / "work", weights)
    execute(start.folder)
    found = weights_of(start.folder)
    assert all(torch.equal(found[name], tensor) for name, tensor in model().state_dict().items())
    folder = RunFolder(start.folder)
    assert str(tmp_path).encode() not in folder.weights.read_bytes()  # which may be passed on
    ((iteration, split, loss, _),) = read_curve(folder.curve)
    trained = json.loads(folder.trained.read_text())
    assert (iteration, split, loss) == (0, "val", trained["val_nll"]) and trained["train"] == {
        "iterations": 0,
        "final_loss": None,
    }


def test_training_goes_on_from_the_checkpoint_and_says_what_it_writes_on_the_way(tmp_path):
    runs = planned(tmp_path / "work", run_folder(tmp_path / "run"))
    for run in runs:
        execute(run.folder)
    tuned_run, start = runs
    curve = [row for row in read_curve(RunFolder(tuned_run.folder).curve) if row[1] == "val"]
    first = read_curve(RunFolder(start.folder).curve)[0]
    assert curve[0] == first and [row[0] for row in curve] == [0, 2, 4, 6, 8, 10, 12]
    assert curve[-1][2] < first[2] - 0.1
    looks = read_early_captions(RunFolder(tuned_run.folder).early)
    assert [row["iteration"] for row in looks] == [each for row in curve for each in [row[0]] * 4]
    assert len({row["image_id"] for row in looks}) == 4 and all(row["references"] for row in looks)
    assert looks[:4] == read_early_captions(RunFolder(start.folder).early)


@pytest.mark.timeout(240)
def test_a_killed_fine_tuning_ends_as_one_left_alone(tmp_path):
    weights = run_folder(tmp_path / "run")
    runs = []
    for name in ("quiet", "killed"):
        profile = tuned(weights, epochs=8)
        profile = dataclasses.replace(profile, train=dataclasses.replace(profile.train, checkpoint_every=0))
        study = make_study(tmp_path / name, ABLATION, profile, compute=Compute())
        write_configs(study)
        runs.append(run_of(study, "finetuned"))
    quiet, killed = runs
    run_to_end(quiet)
    kill_at(killed, 12)
    assert RunFolder(killed.folder).checkpoints
    run_to_end(killed)
    assert_same_results(quiet.folder, killed.folder)
    assert RunFolder(quiet.folder).early.read_bytes() == RunFolder(killed.folder).early.read_bytes()


def test_positions_for_another_size_are_those_that_the_model_makes_of_its_own(tmp_path):
    run = planned(tmp_path / "work", run_folder(tmp_path / "run"), image_size=64)[1]
    execute(run.folder)
    larger, own = load_run(run.folder)[0].git, model().eval()
    assert larger.encoder.spec.image_size == 64 and own.encoder.spec.image_size == 32
    images, tokens = torch.randn(2, 3, 64, 64), torch.tensor([[WORDS.bos_id, 7, 8]] * 2)
    assert torch.equal(larger.logits(images, tokens), own.logits(images, tokens))


@pytest.mark.parametrize("frames", [0, 2, 6])
def test_frames_of_films_begin_at_the_checkpoints_or_at_zero(frames):
    theirs, ours = model(frames), model(4)
    state = fitted(theirs, ours)
    ours.load_state_dict(state)
    kept = min(frames, 4)
    assert torch.equal(ours.temporal[kept:], torch.zeros(4 - kept, 64))
    if frames:
        assert torch.equal(ours.temporal[:kept], theirs.temporal[:kept]) and theirs.temporal[:kept].abs().min() > 0
    assert "temporal" not in fitted(theirs, model())


@pytest.mark.parametrize("task", ["vqa", "video"])
def test_a_captioner_learns_other_tasks(tmp_path, task):
    runs = planned(tmp_path / "work", run_folder(tmp_path / "run"), task)
    execute(runs[0].folder)
    rows = read_early_captions(RunFolder(runs[0].folder).early)
    assert len(rows) == 28 and all(("prefix" in row) is (task == "vqa") for row in rows)
    frames = load_run(runs[0].folder)[0].git.num_frames
    assert frames == (6 if task == "video" else 0)


def test_an_untied_head_is_trained_as_one(tmp_path):
    folder = huggingface(tmp_path / "hf")
    state = load_file(folder / "model.safetensors")
    state["output.weight"] = state["output.weight"] + 0.5
    save_file(state, folder / "model.safetensors")
    assert not described(folder).tied
    run = planned(tmp_path / "work", folder, epochs=0.1)[0]
    execute(run.folder)
    weights = weights_of(run.folder)
    assert not torch.equal(weights["head_weight"], weights["embedding.words.weight"])


def test_what_cannot_be_a_start_is_told_in_one_line(tmp_path):
    folder = run_folder(tmp_path / "run")
    held = torch.load(folder / "model.pth", weights_only=True)
    config = json.loads(held["model"])
    config["vision"]["blind"] = True
    torch.save({**held, "model": json.dumps(config)}, tmp_path / "blind.pth")
    WORDS.save(tmp_path / "tokenizer.json")
    with refused("blind.pth was trained on images that it did not see"):
        described(tmp_path / "blind.pth")
    held["state_dict"]["head_bias"][0] = torch.nan
    torch.save(held, tmp_path / "nan.pth")
    with refused("nan.pth: head_bias holds infinities or NaN"):
        described(tmp_path / "nan.pth")
    with refused("does not exist"):
        described(tmp_path / "nowhere")
    (tmp_path / "cut.pth").write_bytes((folder / "model.pth").read_bytes()[:2000])
    with refused("cut.pth cannot be read"):
        described(tmp_path / "cut.pth")
    other = huggingface(
        tmp_path / "hf", processor={"size": {"shortest_edge": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    )
    with refused("normalises or resizes photographs otherwise than CLIP"):
        described(other)
    with refused("config.json has hidden_dropout_prob 1.0: give it a share from 0 to below 1"):
        described(exported_with(tmp_path / "drowned", 1.0))
    yaml = "test_crop_size: 48\ntest_respect_ratio_max: 64\n"
    official(tmp_path / "vqa", parameters=yaml)
    found = described(tmp_path / "vqa", str(tmp_path / "vqa" / "words.json"))
    assert found.image_size == 48 and found.notes == (
        "photographs are cut to squares of 48 pixels, which the checkpoint prepares otherwise",
    )


def test_a_checkpoint_that_has_changed_since_is_refused(tmp_path):
    weights = run_folder(tmp_path / "run")
    run = planned(tmp_path / "work", weights)[1]
    held = torch.load(weights / "model.pth", weights_only=True)
    held["state_dict"]["head_bias"] += 1
    torch.save(held, weights / "model.pth")
    with refused("is not the checkpoint that the run was planned with: plan the study again"):
        execute(run.folder)


def test_a_frozen_encoder_is_frozen_at_the_checkpoint(tmp_path):
    profile = started(tiny_profile(), described(run_folder(tmp_path / "run")))
    ablation = tiny_ablation("encoder_training", "frozen", "trained")
    run = write_configs(make_study(tmp_path / "work", ablation, profile))[0]
    execute(run.folder)
    weights, theirs = weights_of(run.folder), model().state_dict()
    assert all(torch.equal(weights[name], theirs[name]) for name in weights if name.startswith("encoder."))
    assert not torch.equal(weights["head_bias"], theirs["head_bias"])
