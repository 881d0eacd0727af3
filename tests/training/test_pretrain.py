"""Pre-training teaches an encoder something, and its result is the same however it was obtained."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path

import pytest
import torch
from helpers_study import make_study, run_of, runs_of, tiny_ablation, tiny_profile, write_configs

import gitbench.training.pretrain as pretrain_module
from gitbench.data import open_source
from gitbench.encoders.store import StoredEncoder, read_encoder
from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, load_json
from gitbench.run_key import PRETRAIN_VERSION
from gitbench.spec import PretrainSpec
from gitbench.study.store import Study
from gitbench.training.objectives import training_images
from gitbench.training.pretrain import Pretraining, pretrained_encoder, pretrained_path
from gitbench.training.run import execute, load_run
from gitbench.variants.encoder import EncoderSpec

SPEC = EncoderSpec(width=32, layers=2, heads=2, patch=8, image_size=32)
RECIPE = PretrainSpec(
    images=24, iterations=6, batch_images=8, lr=2e-3, warmup=2, width=32, layers=1, embedding=16, vocab_size=300
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    return cache_dir() / "encoders"


def job(recipe: PretrainSpec = RECIPE, **other) -> Pretraining:
    return Pretraining(**{"encoder": SPEC, "recipe": recipe, **other})


def equal(one: StoredEncoder, other: StoredEncoder) -> bool:
    return one.state.keys() == other.state.keys() and all((one.state[k] == other.state[k]).all() for k in one.state)


def changed(**values) -> PretrainSpec:
    return dataclasses.replace(RECIPE, **values)


# ---- data --------------------------------------------------------------------------------------------------------


def test_images_of_pretraining_come_from_a_stream_of_their_own():
    streams = {split: open_source("scenes", split, 300) for split in ("pretrain", "train", "val", "test")}
    images = {split: {source.image(index).tobytes() for index in range(300)} for split, source in streams.items()}
    for split in ("train", "val", "test"):
        assert not images["pretrain"] & images[split]
    assert len(images["pretrain"]) == 300


def test_each_use_of_an_image_takes_one_of_its_captions_at_random():
    images = training_images(RECIPE, "scenes", 32)
    first = images.index_of(0)
    numbers = [n for epoch in range(12) for n in range(24 * epoch, 24 * epoch + 24) if images.index_of(n) == first]
    said = {tuple(images[number]["tokens"][0]) for number in numbers}
    assert len(numbers) == 12 and 2 < len(said) <= 5
    assert all(len(images[number]["tokens"]) == 1 for number in numbers)


def test_batches_hold_each_image_once_and_never_span_two_epochs():
    recipe = changed(iterations=5, batch_images=4)
    ranges = [(0, 4), (4, 8), (10, 14), (14, 18), (20, 24)]
    assert list(pretrain_module._batches(10, recipe)) == [range(*each) for each in ranges]
    assert list(pretrain_module._batches(10, recipe, 3)) == [range(*each) for each in ranges[3:]]
    assert list(pretrain_module._batches(3, recipe))[1] == range(3, 6)
    with pytest.raises(GitbenchError, match="at least 2 images"):
        list(pretrain_module._batches(1, recipe))


def test_batches_for_a_gpu_come_from_memory_that_it_can_copy_while_the_host_goes_on():
    images = training_images(RECIPE, "scenes", 32)
    loaders = [pretrain_module._loader(job(device=torch.device(device)), images, 0) for device in ("cpu", "cuda")]
    assert [loader.pin_memory for loader in loaders] == [False, True]


# ---- one result --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["contrastive", "masked"])
def test_made_and_loaded_are_the_same_bits_and_the_global_generator_is_left_alone(cache, monkeypatch, objective):
    recipe = changed(objective=objective)
    state = torch.get_rng_state()
    made = pretrained_encoder(job(recipe))
    assert torch.equal(torch.get_rng_state(), state)
    (file,) = cache.glob("*.safetensors")
    assert pretrained_path(job(recipe)) == file
    with monkeypatch.context() as patch:
        patch.setattr(pretrain_module, "pretrain", lambda *_: pytest.fail("made twice"))
        assert pretrained_encoder(job(recipe)) is not made and read_encoder(file).content == made.content
    file.unlink()
    torch.manual_seed(99)
    again = pretrained_encoder(job(recipe))
    assert equal(again, made) and again.content == made.content


@pytest.mark.parametrize("objective", ["contrastive", "supervised", "masked"])
def test_a_stopped_pretraining_goes_on_to_the_same_bits(cache, monkeypatch, objective):
    recipe = changed(objective=objective)
    whole = pretrained_encoder(job(recipe))
    (file,) = cache.glob("*.safetensors")
    file.unlink()
    monkeypatch.setattr(pretrain_module, "CHECKPOINT_SECONDS", -1.0)
    heard: list[int] = []

    def stop(done: int, total: int, loss: float) -> None:
        heard.append(done)
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrained_encoder(job(recipe, progress=stop))
    checkpoint = file.with_suffix(".checkpoint")
    assert checkpoint.exists() and not file.exists()
    heard.clear()
    again = pretrained_encoder(job(recipe, progress=lambda done, total, loss: heard.append(done)))
    assert heard == [0, 4, 5, 6]  # the checkpoint held three iterations
    assert equal(again, whole) and again.notes["curve"] == whole.notes["curve"]
    assert not checkpoint.exists()


def test_a_damaged_file_or_checkpoint_is_made_again(cache):
    made = pretrained_encoder(job())
    (file,) = cache.glob("*.safetensors")
    whole = file.read_bytes()
    for damage in (whole[:500], whole[:-20], b"", b"nothing of ours"):
        file.write_bytes(damage)
        file.with_suffix(".checkpoint").write_bytes(b"neither")
        assert equal(pretrained_encoder(job()), made)


def test_a_file_or_checkpoint_of_another_encoder_is_not_taken_for_this_one(cache):
    made = pretrained_encoder(job())
    other = pretrained_encoder(job(changed(seed=1)))
    path = pretrained_path(job())
    path.write_bytes(pretrained_path(job(changed(seed=1))).read_bytes())
    assert equal(pretrained_encoder(job()), made) and not equal(made, other)
    path.unlink()
    half = job(changed(seed=1), progress=lambda done, total, loss: None)
    checkpoint = path.with_suffix(".checkpoint")
    training = pretrain_module._Training(half)
    training._save(checkpoint)
    assert equal(pretrained_encoder(job()), made) and not checkpoint.exists()
    torch.save({"points": "[]"}, checkpoint)
    path.unlink()
    assert equal(pretrained_encoder(job()), made)


def test_a_cache_that_cannot_be_written_costs_time_only(cache):
    made = pretrained_encoder(job())
    for file in cache.iterdir():
        file.unlink()
    cache.rmdir()
    cache.write_text("a file in the way")
    again = pretrained_encoder(job())
    assert equal(again, made) and again.content == made.content


def test_recipe_encoder_and_data_each_decide_the_file():
    others = [job(), job(changed(lr=1e-3)), job(changed(seed=1)), job(changed(images=20))]
    others.append(job(encoder=dataclasses.replace(SPEC, layers=3)))
    assert len({pretrained_path(each) for each in others}) == 5
    assert pretrained_path(job(data="scenes-motion")) == pretrained_path(job())
    assert not equal(pretrained_encoder(job()), pretrained_encoder(job(changed(seed=1))))


def test_a_step_leaves_no_tensor_behind():
    training = pretrain_module._Training(job(changed(iterations=30)))
    alive = []
    for batch in pretrain_module._loader(training.job, training.images, 0):
        training._step(batch)
        gc.collect()
        alive.append(sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()))
        if len(alive) == 5:
            break
    assert alive[1:] == alive[1:2] * 4  # from the second on: the first makes AdamW's state
    assert training.done == 5 and training.losses[:5].all() and not training.losses[5:].any()


# ---- runs --------------------------------------------------------------------------------------------------------


def start_study(folder: Path, replicates: int = 2, common: dict[str, str] | None = None, **train) -> Study:
    ablation = tiny_ablation("encoder_init", "contrastive", "random", common=common or {})
    study = make_study(folder, ablation, tiny_profile(**{"iterations": 2, **train}), replicates=replicates)
    write_configs(study)
    return study


def test_all_runs_start_from_one_pretrained_encoder(tmp_path, cache):
    study = start_study(tmp_path / "w", common={"encoder_training": "frozen"})
    runs = [run for run in runs_of(study) if run.arm != "blind"]
    for run in runs:
        execute(run.folder)
    (kept,) = (read_encoder(file) for file in cache.glob("contrastive-*.safetensors"))
    for run in runs:
        started = load_run(run.folder)[0].git.encoder.state_dict()
        same = all((started[name].numpy() == array).all() for name, array in kept.state.items())
        assert same == (run.arm == "base")


def trained_cost(run) -> dict:
    return load_json(run.folder / "trained.json")["cost"]


def test_runs_that_share_a_pretraining_carry_the_same_seconds_and_others_none(tmp_path, cache):
    study, other = start_study(tmp_path / "w"), start_study(tmp_path / "w", lr_decoder=1e-3)
    heard: list[tuple[int, int]] = []
    runs = [run for each in (study, other) for run in runs_of(each) if run.replicate == 0 and run.arm != "blind"]
    for run in runs:
        execute(run.folder, pretraining=lambda done, total: heard.append((done, total)))
    (file,) = cache.glob("*.safetensors")
    first, second = (trained_cost(run) for run in runs if run.arm == "base")
    assert first["pretrain_seconds"] == second["pretrain_seconds"] == read_encoder(file).notes["seconds"] > 0
    assert heard == [(done, 6) for done in range(7)]  # of the first alone
    content = {run.arm: load_json(run.folder / "trained.json")["encoder_content"] for run in runs}
    assert content == {"base": read_encoder(file).content, "random": None}
    assert not any("pretrain_seconds" in trained_cost(run) for run in runs if run.arm != "base")


def test_a_resumed_run_knows_what_its_pretraining_took_without_the_cache(tmp_path, cache):
    run = run_of(start_study(tmp_path / "w", replicates=1, iterations=4, checkpoint_every=0), "base")

    def die(done: int, total: int, loss: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run.folder, die)
    (file,) = cache.glob("*.safetensors")
    made = read_encoder(file)
    for each in cache.iterdir():
        each.unlink()
    execute(run.folder, pretraining=lambda *_: pytest.fail("pre-trained again"))
    assert trained_cost(run)["pretrain_seconds"] == made.notes["seconds"] > 0
    assert load_json(run.folder / "trained.json")["encoder_content"] == made.content


def test_a_run_of_another_version_of_pre_training_is_refused(tmp_path, monkeypatch):
    run = run_of(start_study(tmp_path / "w"), "base")
    monkeypatch.setattr("gitbench.training.encoder_init.PRETRAIN_VERSION", PRETRAIN_VERSION + 1)
    with pytest.raises(GitbenchError, match="planned with version 1 of pre-training, this is 2: use the version"):
        execute(run.folder)
