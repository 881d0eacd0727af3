"""Contrastive pre-training learns to match images with captions, and its result is the same however it was obtained."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import gitbench.training.contrastive as contrastive
import pytest
import torch
from gitbench.training.contrastive import Pretraining, pretrain, pretrained_encoder, pretrained_path
from helpers_study import make_study, run_of, runs_of, tiny_ablation, tiny_profile, write_configs

from gitbench.errors import GitbenchError
from gitbench.files import cache_dir, load_json
from gitbench.models.encoder import ImageEncoder
from gitbench.models.pair_encoder import PairEncoder, contrastive_loss, set_initial_values
from gitbench.spec import ContrastiveSpec
from gitbench.study.store import Study
from gitbench.training.caption_model import ImagePreprocessor
from gitbench.training.data import CaptionData
from gitbench.training.run import execute, load_run
from gitbench.variants.encoder import EncoderSpec

SPEC = EncoderSpec(width=32, layers=2, heads=2, patch=8, image_size=32)
RECIPE = ContrastiveSpec(iterations=6, batch_images=8, lr=2e-3, warmup=2, width=32, layers=1, embedding=16)
CPU = torch.device("cpu")


def pixels(images: torch.Tensor) -> torch.Tensor:
    return ImagePreprocessor()({"images": images})["images"]


@pytest.fixture(scope="module")
def dataset() -> CaptionData:
    data = {"image_size": 32, "train_images": 24, "val_images": 2, "test_images": 2}
    text = {"tokenizer": "wordpiece", "vocab_size": 300, "max_tokens": 20}
    return CaptionData(data="scenes", split="train", data_spec=data, text_spec=text, seed=1, captions_per_image=None)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    return cache_dir() / "encoders"


def job(dataset: CaptionData, seed: int = 0, recipe: ContrastiveSpec = RECIPE, **other) -> Pretraining:
    given = {"encoder": SPEC, "device": CPU, "normalise": pixels, **other}
    return Pretraining(recipe=recipe, dataset=dataset, seed=seed, **given)


def obtain(dataset: CaptionData, seed: int = 0, recipe: ContrastiveSpec = RECIPE):
    return pretrained_encoder(job(dataset, seed, recipe))


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_loss_is_infonce_in_both_directions():
    similarities = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-2))) / 2
    columns = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-3))) / 2
    assert contrastive_loss(similarities).item() == pytest.approx((rows + columns) / 2)
    assert contrastive_loss(torch.zeros(7, 7)).item() == pytest.approx(math.log(7))


def test_it_learns_to_find_the_caption_of_an_image(dataset):
    recipe = dataclasses.replace(RECIPE, iterations=120, warmup=10, batch_images=12)
    made = pretrain(job(dataset, recipe=recipe))
    assert len(made.losses) == 120
    assert sum(made.losses[-10:]) / 10 < 0.6 * math.log(12) < sum(made.losses[:5]) / 5
    ImageEncoder(SPEC).load_state_dict(made.state)


def test_padding_and_later_tokens_do_not_reach_a_caption():
    model = PairEncoder(SPEC, RECIPE, 50, 12, eos_id=3)
    set_initial_values(model, 0)
    assert model.scale.exp().item() == pytest.approx(1 / RECIPE.temperature)
    short = torch.tensor([[2, 7, 8, 3]])
    padded = torch.tensor([[2, 7, 8, 3, 0, 0, 0]])
    torch.testing.assert_close(model.text(short), model.text(padded))
    assert not torch.allclose(model.text(short), model.text(torch.tensor([[2, 8, 7, 3]])))


def test_a_film_of_one_repeated_frame_is_that_image():
    model = PairEncoder(SPEC, RECIPE, 50, 12, eos_id=3)
    set_initial_values(model, 0)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[2, 7, 3], [2, 8, 3]])
    still, _ = model.embed(images, tokens)
    torch.testing.assert_close(model.embed(images[:, None].expand(-1, 4, -1, -1, -1), tokens)[0], still)
    mixed, _ = model.embed(torch.stack([images, images.flip(0)], 1), tokens)
    torch.testing.assert_close(mixed[0], mixed[1])  # the order of frames does not count


def test_made_and_loaded_are_the_same_bits_and_the_global_generator_is_left_alone(dataset, cache, monkeypatch):
    state = torch.get_rng_state()
    made = obtain(dataset)
    assert torch.equal(torch.get_rng_state(), state)
    (file,) = cache.glob("*.pth")
    assert pretrained_path(job(dataset)) == file
    with monkeypatch.context() as patch:
        patch.setattr(contrastive, "pretrain", lambda *_: pytest.fail("made twice"))
        found = obtain(dataset)
    assert equal(found.state, made.state) and found.seconds == made.seconds > 0
    file.unlink()
    torch.manual_seed(99)
    assert equal(obtain(dataset).state, made.state)


def test_a_damaged_file_is_made_again(dataset, cache):
    made = obtain(dataset)
    (file,) = cache.glob("*.pth")
    whole = file.read_bytes()
    for damage in (whole[:500], whole[:-20], b"", b"not torch"):
        file.write_bytes(damage)
        assert equal(obtain(dataset).state, made.state)
    torch.save({"something": "else"}, file)
    assert equal(obtain(dataset).state, made.state)


def test_a_cache_that_cannot_be_written_costs_time_only(dataset, cache):
    made = obtain(dataset)
    for file in cache.iterdir():
        file.unlink()
    cache.rmdir()
    cache.write_text("a file in the way")
    assert equal(obtain(dataset).state, made.state)


def test_seed_recipe_encoder_data_and_device_each_decide_the_file(dataset):
    base = pretrained_path(job(dataset))
    fewer = CaptionData(
        data="scenes", split="train", seed=1, captions_per_image=None, text_spec=dataclasses.asdict(dataset.text_spec),
        data_spec={"image_size": 32, "train_images": 20, "vocabulary_images": 24, "val_images": 2, "test_images": 2},
    )  # fmt: skip
    others = [
        pretrained_path(job(dataset, seed=1)),
        pretrained_path(job(dataset, recipe=dataclasses.replace(RECIPE, lr=1e-3))),
        pretrained_path(job(dataset, encoder=dataclasses.replace(SPEC, layers=3))),
        pretrained_path(job(fewer)),
    ]
    assert len({base, *others}) == 5
    assert not equal(obtain(dataset, seed=0).state, obtain(dataset, seed=1).state)


def test_batches_hold_each_image_once_and_never_span_two_epochs():
    recipe = dataclasses.replace(RECIPE, iterations=5, batch_images=4)
    assert list(contrastive._batches(10, recipe)) == [
        [0, 1, 2, 3], [4, 5, 6, 7], [10, 11, 12, 13], [14, 15, 16, 17], [20, 21, 22, 23],
    ]  # fmt: skip
    assert list(contrastive._batches(3, recipe))[1] == [3, 4, 5]
    with pytest.raises(GitbenchError, match="at least 2 training images"):
        list(contrastive._batches(1, recipe))


def start_study(folder: Path, replicates: int = 2, common: dict[str, str] | None = None, **train) -> Study:
    ablation = tiny_ablation("encoder_init", "random", "contrastive", common=common or {})
    study = make_study(folder, ablation, tiny_profile(**{"iterations": 2, **train}), replicates=replicates)
    write_configs(study)
    return study


def test_a_run_starts_from_the_pretrained_encoder_of_its_replicate(tmp_path, cache):
    study = start_study(tmp_path / "w", common={"encoder_training": "frozen"})
    for run in runs_of(study):
        if run.arm != "blind":
            execute(run.folder)
    kept = [contrastive._load(file).state for file in cache.glob("contrastive-*.pth")]
    assert len(kept) == 2  # one a replicate
    started = {
        (run.arm, run.replicate): load_run(run.folder)[0].git.encoder.state_dict()
        for run in runs_of(study)[:2] + runs_of(study)[3:5]
    }
    owners = [[name for name, state in started.items() if equal(state, each)] for each in kept]
    assert sorted(owners) == [[("contrastive", 0)], [("contrastive", 1)]]


def trained_cost(run) -> dict:
    return load_json(run.folder / "trained.json")["cost"]


def test_runs_that_share_a_pretraining_carry_the_same_seconds_and_others_none(tmp_path, cache):
    study, other = start_study(tmp_path / "w"), start_study(tmp_path / "w", lr_decoder=1e-3)
    heard: list[tuple[int, int]] = []
    runs = [run for each in (study, other) for run in runs_of(each) if run.replicate == 0]
    for run in runs:
        execute(run.folder, pretraining=lambda done, total: heard.append((done, total)))
    (file,) = cache.glob("*.pth")
    first, second = (trained_cost(run) for run in runs if run.arm == "contrastive")
    assert first["pretrain_seconds"] == second["pretrain_seconds"] == contrastive._load(file).seconds > 0
    assert heard == [(done, 6) for done in range(7)]  # of the first alone
    assert not any("pretrain_seconds" in trained_cost(run) for run in runs if run.arm != "contrastive")


def test_a_resumed_run_knows_what_its_pretraining_took_without_the_cache(tmp_path, cache):
    run = run_of(start_study(tmp_path / "w", replicates=1, iterations=4, checkpoint_every=2), "contrastive")

    def die(done: int, total: int, loss: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run.folder, die)
    (file,) = cache.glob("*.pth")
    seconds = contrastive._load(file).seconds
    for each in cache.iterdir():
        each.unlink()
    execute(run.folder, pretraining=lambda *_: pytest.fail("pre-trained again"))
    assert trained_cost(run)["pretrain_seconds"] == seconds > 0
