"""Contrastive pre-training learns to match images with captions, and its result is the same however it was obtained."""

from __future__ import annotations

import dataclasses
import errno
import math
import multiprocessing
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import TINY, tiny_profile

import gitbench.training.contrastive as contrastive
from gitbench.data import pretrained as pretraining
from gitbench.errors import GitbenchError
from gitbench.files import load_json, write_json
from gitbench.launch import pool as pool_module
from gitbench.launch.estimate import IMAGE_SHARE, estimate_seconds, pretraining_to_do
from gitbench.launch.progress import Display
from gitbench.launch.worker import run_worker
from gitbench.models.encoder import ImageEncoder
from gitbench.models.pair_encoder import PairEncoder, contrastive_loss, set_initial_values
from gitbench.report.tables import cost_heading, cost_names, cost_text
from gitbench.seeding import derive_seed
from gitbench.spec import Arm, ContrastiveSpec
from gitbench.variants.encoder import EncoderSpec
from gitbench.study.plan import Plan, make_plan, write_plan
from gitbench.training.contrastive import Pretraining, pretrain, pretrained_encoder, pretrained_path
from gitbench.training.data import CaptionData
from gitbench.training.model import ImagePreprocessor
from gitbench.training.run import execute

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
    for module in (contrastive, pretraining):
        monkeypatch.setattr(module, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "encoders"


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
    assert len(made.losses) == len(made.accuracies) == 120
    assert sum(made.losses[-10:]) / 10 < 0.6 * math.log(12) < sum(made.losses[:5]) / 5
    assert sum(made.accuracies[-10:]) / 10 > 4 / 12  # chance is 1 in 12
    ImageEncoder(SPEC).load_state_dict(made.state)


def test_padding_and_later_tokens_do_not_reach_a_caption():
    model = PairEncoder(SPEC, RECIPE, 50, 12, eos_id=3)
    set_initial_values(model, 0)
    short = torch.tensor([[2, 7, 8, 3]])
    padded = torch.tensor([[2, 7, 8, 3, 0, 0, 0]])
    torch.testing.assert_close(model.text(short), model.text(padded))
    assert not torch.allclose(model.text(short), model.text(torch.tensor([[2, 8, 7, 3]])))


def test_a_film_of_one_repeated_frame_is_that_image():
    model = PairEncoder(SPEC, RECIPE, 50, 12, eos_id=3)
    set_initial_values(model, 0)
    images, tokens = torch.randn(2, 3, 32, 32), torch.tensor([[2, 7, 3], [2, 8, 3]])
    still, _ = model.embed(images, tokens)
    torch.testing.assert_close(model.embed(images[:, None].expand(-1, 4, -1, -1, -1), tokens)[0], still)
    mixed, _ = model.embed(torch.stack([images, images.flip(0)], 1), tokens)
    torch.testing.assert_close(mixed[0], mixed[1])  # the order of frames does not count


def test_initial_values_are_those_of_name_and_seed():
    one, same, other = (PairEncoder(SPEC, RECIPE, 50, 12, eos_id=3) for _ in range(3))
    for model, seed in ((one, 5), (same, 5), (other, 6)):
        set_initial_values(model, seed)
    assert equal(one.state_dict(), same.state_dict()) and not equal(one.state_dict(), other.state_dict())
    assert one.scale.exp().item() == pytest.approx(1 / RECIPE.temperature)


def test_made_and_loaded_are_the_same_bits_and_the_global_generator_is_left_alone(dataset, cache, monkeypatch):
    state = torch.get_rng_state()
    made = obtain(dataset)
    assert torch.equal(torch.get_rng_state(), state)
    (file,) = cache.glob("*.pth")
    assert pretrained_path(job(dataset)) == file
    real = contrastive.pretrain
    monkeypatch.setattr(contrastive, "pretrain", lambda *_: pytest.fail("made twice"))
    assert equal(obtain(dataset).state, made.state)
    monkeypatch.setattr(contrastive, "pretrain", real)
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


def start_plan(folder: Path, replicates: int = 2, **train) -> Plan:
    arms = (
        Arm(name="base", variants={"encoder_init": "random"}),
        Arm(name="contrastive", variants={"encoder_init": "contrastive"}),
    )
    ablation = dataclasses.replace(TINY, axis="encoder_init", arms={"smoke": arms})
    return make_plan(ablation, tiny_profile(**{"iterations": 2, **train}), "scenes", folder, replicates=replicates)


def test_a_run_starts_from_the_pretrained_encoder_of_its_replicate(tmp_path, cache, monkeypatch):
    plan = start_plan(tmp_path / "w")
    write_plan(plan, "test")
    started = {}
    real = torch.optim.AdamW.step

    def step(optimizer, *arguments):
        names = {group.get("name") for group in optimizer.param_groups}
        if "encoder" in names and current not in started:
            group = next(group for group in optimizer.param_groups if group["name"] == "encoder")
            started[current] = [parameter.detach().clone() for parameter in group["params"]]
        return real(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    for run in plan.runs:
        if run.arm.role == "arm":
            current = (run.arm.name, run.replicate)
            execute(run.folder)
    assert len(list(cache.glob("*.pth"))) == 2  # one a replicate
    for replicate in (0, 1):
        run = next(r for r in plan.runs if r.arm.name == "contrastive" and r.replicate == replicate)
        values = dataclasses.asdict(run.spec.data)
        values.pop("workers")
        data = CaptionData(
            data="scenes", split="train", data_spec=values, text_spec=dataclasses.asdict(run.spec.text), seed=0,
            captions_per_image=None,
        )  # fmt: skip
        recipe = run.spec.encoder_init.recipe
        seed = derive_seed("contrastive", replicate)
        path = pretrained_path(job(data, seed, recipe, encoder=run.spec.encoder))
        assert path.is_file()
        kept = {t.numpy().tobytes() for t in contrastive._load(path).state.values()}
        assert all(t.numpy().tobytes() in kept for t in started["contrastive", replicate])
        assert not any(t.numpy().tobytes() in kept for t in started["base", replicate])


def _die_while_saving(dataset: CaptionData, folder: str) -> None:
    contrastive.cache_dir = lambda: Path(folder)  # type: ignore[assignment]

    def killed(*_) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    contrastive._save = killed  # type: ignore[assignment]
    torch.set_num_threads(1)
    obtain(dataset)


def test_a_process_killed_in_the_middle_leaves_nothing_that_counts(dataset, cache, tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=_die_while_saving, args=(dataset, str(tmp_path / "cache"))
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and not [p for p in cache.glob("contrastive-*.pth")]
    assert len(obtain(dataset).losses) == RECIPE.iterations and len(list(cache.glob("contrastive-*.pth"))) == 1


def test_the_seconds_are_those_of_the_making_whoever_finds_the_file(dataset, cache):
    made = obtain(dataset)
    assert made.seconds is not None and made.seconds > 0
    assert obtain(dataset).seconds == made.seconds
    (note,) = cache.glob("contrastive-*.json")
    write_json(note, {**load_json(note), "seconds": 12.5})
    found = obtain(dataset)
    assert found.seconds == 12.5 and equal(found.state, made.state)


def test_a_file_without_a_note_is_found_and_its_seconds_are_unknown(dataset, cache, monkeypatch):
    made = obtain(dataset)
    (note,) = cache.glob("contrastive-*.json")
    note.unlink()
    monkeypatch.setattr(contrastive, "pretrain", lambda *_: pytest.fail("made twice"))
    for damage in (None, "", "[1]", '{"seconds": "soon"}'):
        if damage is not None:
            note.write_text(damage)
        found = obtain(dataset)
        assert equal(found.state, made.state) and found.seconds is None


def test_older_versions_read_the_file(dataset, cache):
    obtain(dataset)
    (file,) = cache.glob("*.pth")
    payload = torch.load(file, weights_only=True)
    assert set(payload) == {"format", "state", "losses", "accuracies"}  # they refuse any other field


def test_a_full_disk_does_not_cost_the_pretraining_twice(dataset, cache, monkeypatch):
    calls = []
    real = contrastive.pretrain
    monkeypatch.setattr(contrastive, "pretrain", lambda given: calls.append(given) or real(given))

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(contrastive, "_save", full)
    made = obtain(dataset)
    assert len(calls) == 1 and made.seconds > 0 and not list(cache.glob("*.pth"))


def test_progress_starts_at_nothing_ends_at_all_and_is_silent_where_the_file_is_there(dataset):
    heard: list[tuple[int, int]] = []
    given = job(dataset, progress=lambda done, total: heard.append((done, total)))
    pretrained_encoder(given)
    assert heard == [(done, 6) for done in range(7)]
    heard.clear()
    pretrained_encoder(given)
    assert heard == []
    long = dataclasses.replace(RECIPE, iterations=250, batch_images=2)
    pretrain(dataclasses.replace(given, recipe=long))
    assert heard[-1] == (250, 250) and len(heard) == 125  # every second one


def trained_cost(run) -> dict:
    return load_json(run.folder / "trained.json")["cost"]


def test_runs_that_share_a_pretraining_carry_the_same_seconds_and_others_none(tmp_path, cache):
    plan, other = start_plan(tmp_path / "w"), start_plan(tmp_path / "w", lr_decoder=1e-3)
    heard: list[tuple[int, int]] = []
    runs = [run for each in (plan, other) for run in each.runs if run.replicate == 0]
    for each in (plan, other):
        write_plan(each, "test")
    for run in runs:
        execute(run.folder, pretraining=lambda done, total: heard.append((done, total)))
    (file,) = cache.glob("*.pth")
    first, second = (trained_cost(run) for run in runs if run.arm.name == "contrastive")
    assert first["pretrain_seconds"] == second["pretrain_seconds"] == pretraining.noted_seconds(file) > 0
    assert heard == [(done, 6) for done in range(7)]  # of the first alone
    assert not any("pretrain_seconds" in trained_cost(run) for run in runs if run.arm.name != "contrastive")


def test_a_resumed_run_knows_what_its_pretraining_took_without_the_cache(tmp_path, cache):
    plan = start_plan(tmp_path / "w", replicates=1, iterations=4)
    write_plan(plan, "test")
    run = next(run for run in plan.runs if run.arm.name == "contrastive")

    def die(done: int, total: int, loss: float) -> None:
        if done == 3:  # a checkpoint every second iteration
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run.folder, die)
    (file,) = cache.glob("*.pth")
    seconds = pretraining.noted_seconds(file)
    for each in cache.iterdir():
        each.unlink()
    execute(run.folder, pretraining=lambda *_: pytest.fail("pre-trained again"))
    assert trained_cost(run)["pretrain_seconds"] == seconds > 0


def finish(run, **cost) -> None:
    """Write what makes a run count as complete."""
    write_json(
        run.folder / "record.json",
        {"run_key": run.key, "spec": {}, "metrics": {}, "train": {}, "cost": {"seconds": 10.0, **cost}},
    )
    (run.folder / "per_image.parquet").write_bytes(b"")


def test_the_estimate_adds_each_pretraining_that_is_still_to_be_made_once(tmp_path):
    plan = start_plan(tmp_path / "w")
    profile, recipe = plan.profile, plan.profile.contrastive
    images = profile.train.iterations * profile.train.batch_images
    guess = profile.run_seconds * recipe.iterations * recipe.batch_images / images * IMAGE_SHARE
    assert [seconds for _, seconds in pretraining_to_do(plan)] == [guess, guess]  # one a replicate
    assert estimate_seconds(plan, 1) == (pytest.approx(6 * profile.run_seconds + 2 * guess), False)
    assert estimate_seconds(plan, 2)[0] == pytest.approx(estimate_seconds(plan, 1)[0] / 2)
    first, second = (run for run in plan.runs if run.arm.name == "contrastive")
    finish(first, pretrain_seconds=7.0)
    ((of, seconds),) = pretraining_to_do(plan)
    assert seconds == 7.0 and of["seed"] == derive_seed("contrastive", 1)  # as long as the one that was measured
    assert estimate_seconds(plan, 1) == (pytest.approx(5 * 10 + 7), True)
    finish(second)
    assert pretraining_to_do(plan) == []


def test_the_estimate_finds_a_pretraining_in_the_cache(tmp_path, cache):
    plan = start_plan(tmp_path / "w")
    write_plan(plan, "test")
    run = next(run for run in plan.runs if run.arm.name == "contrastive" and run.replicate == 0)
    execute(run.folder)
    (note,) = cache.glob("contrastive-*.json")
    ((of, seconds),) = pretraining_to_do(plan)  # the run has no record yet, but its encoder is there
    assert of["seed"] == derive_seed("contrastive", 1) and seconds == load_json(note)["seconds"]
    note.with_suffix(".pth").unlink()
    assert len(pretraining_to_do(plan)) == 2


def test_an_estimate_of_runs_without_pretraining_is_that_of_the_runs(tiny_plan):
    assert pretraining_to_do(tiny_plan) == []
    assert estimate_seconds(tiny_plan, 1) == (pytest.approx(3 * tiny_plan.profile.run_seconds), False)


def test_the_display_says_pretraining_and_counts_none_of_it(tiny_plan, capsys, monkeypatch):
    run = tiny_plan.runs[0]
    with Display(tiny_plan, 0, 3, plain=True) as display:
        monkeypatch.setattr("gitbench.launch.progress.QUIET_SECONDS", -1.0)
        display.started(run)
        display.pretraining(run, 2, 5)
        assert "base/0 pre-training 40%" in capsys.readouterr().out
        assert display.bar.tasks[0].completed == 0
        display.progress(run, 1, 4, 2.5)
        assert "base/0 25% loss 2.50" in capsys.readouterr().out
        assert display.bar.tasks[0].completed == 0.25
        display.finished(
            run, {"metrics": {"test_nll": {"value": 1.0}, "VQA": {"value": 41.23}}, "cost": {"seconds": 9}}
        )
        assert "VQA accuracy 41.2, 9 s" in capsys.readouterr().out


def test_a_worker_passes_on_how_far_the_pretraining_is(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    plan = start_plan(tmp_path / "w", replicates=1)
    write_plan(plan, "test")
    run = next(run for run in plan.runs if run.arm.name == "contrastive")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run_worker, args=(run.folder, theirs, {"OMP_NUM_THREADS": "1"}))
    process.start()
    theirs.close()
    messages = []
    while True:
        try:
            messages.append(ours.recv())
        except EOFError:
            break
    process.join(60)
    assert process.exitcode == 0 and [rest for kind, *rest in messages if kind == "pretraining"][-1] == [6, 6]
    kinds = [kind for kind, *_ in messages]
    assert kinds.index("pretraining") < kinds.index("progress") and set(kinds) == {"pretraining", "progress"}


def test_tables_have_the_shared_seconds_only_where_a_run_has_them():
    row = {"arm": "base", "metric": "seconds", "value": 1.0}
    assert cost_names(pd.DataFrame([row])) == ["seconds"]
    with_it = pd.DataFrame([row, {**row, "metric": "pretrain_seconds", "value": 52.3}])
    assert cost_names(with_it) == ["seconds", "pretrain_seconds"]
    assert cost_heading("pretrain_seconds") == "pre-training seconds (shared)"
    assert cost_text("pretrain_seconds", 52.34) == "52.3"


def test_the_launcher_hands_pretraining_to_the_display(tiny_plan):
    ours, theirs = multiprocessing.Pipe()
    heard = []
    pool = object.__new__(pool_module.Pool)
    pool.display = SimpleNamespace(pretraining=lambda *said: heard.append(said))  # type: ignore[assignment]
    run_of = pool_module.Job(run=tiny_plan.runs[0], connection=ours)
    theirs.send(("pretraining", 2, 5))
    pool._read(run_of)
    assert heard == [(tiny_plan.runs[0], 2, 5)] and run_of.message == ""
