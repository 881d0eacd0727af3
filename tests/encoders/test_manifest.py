"""What ships is found by size and recipe, is the encoder that was meant, and makes its page."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers_cli import error_of
from helpers_errors import refused
from helpers_study import make_study, tiny_ablation, write_configs

import gitbench.training.probes as probes
from gitbench.cli import main
from gitbench.data.scenes.world import VERSION
from gitbench.encoders import manifest as module
from gitbench.encoders.manifest import FOLDER, find_shipped, load_shipped, manifest
from gitbench.encoders.quality import ALLOWANCE, MEASURED, differences, final
from gitbench.encoders.ship import MOST_BYTES, ship
from gitbench.encoders.store import read_encoder, write_encoder
from gitbench.encoders.wanted import Wanted, wanted_encoders
from gitbench.files import load_json
from gitbench.models.encoder import ImageEncoder
from gitbench.profiles import CPU, SMALL_GPU, SMOKE
from gitbench.report.encoders import write_encoder_page
from gitbench.run_key import PRETRAIN_VERSION
from gitbench.training.caption_model import ImagePreprocessor
from gitbench.training.run import execute, load_run
from gitbench.variants import resolve

SIZE, RECIPE = resolve("encoder", "vit_2x64_p8_64"), SMOKE.pretraining
NAME = "vit_2x64_p8_64-contrastive"


def notes(share: float = 0.8, **other: Any) -> dict[str, Any]:
    point = dict.fromkeys(MEASURED, share)
    return {
        "encoder": dataclasses.asdict(SIZE),
        "recipe": dataclasses.asdict(RECIPE),
        "scenes": VERSION,
        "precision": "float32",
        "machine": "a processor",
        "seconds": 90.0,
        "curve": [[1, 3.0], [6, 2.5]],
        "points": [
            {"iteration": 0, "seconds": 0.0, **dict.fromkeys(MEASURED, 0.2)},
            {"iteration": 6, "seconds": 90.0, **point},
        ],
        "tested": dict.fromkeys(MEASURED, 1000),
        **other,
    }


def state(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = ImageEncoder(SIZE).state_dict()
    return {name: random.normal(size=tensor.shape).astype(np.float32) * 0.1 for name, tensor in shapes.items()}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A package in which one encoder ships."""
    write_encoder(tmp_path / "made.safetensors", state(), notes())
    shipped = tmp_path / "package"
    ship({NAME: tmp_path / "made.safetensors"}, [Wanted(name=NAME, encoder=SIZE, recipe=RECIPE)], shipped)
    monkeypatch.setattr(module, "FOLDER", shipped)
    return shipped


def test_a_shipped_encoder_is_found_by_size_recipe_and_version_of_the_scenes(folder, monkeypatch):
    entry = find_shipped(SIZE, RECIPE)
    assert entry is not None and entry.name == NAME and entry.recipe == RECIPE
    assert load_shipped(entry.content).content == entry.content
    assert find_shipped(SIZE, dataclasses.replace(RECIPE, lr=1.0)) is None
    assert find_shipped(dataclasses.replace(SIZE, layers=3), RECIPE) is None
    for version, value in (("VERSION", VERSION + 1), ("PRETRAIN_VERSION", PRETRAIN_VERSION + 1)):
        with monkeypatch.context() as patch:
            patch.setattr(module, version, value)
            assert find_shipped(SIZE, RECIPE) is None
    assert find_shipped(SIZE, RECIPE) == entry
    monkeypatch.setattr(module, "read_json", lambda path: pytest.fail("read again"))
    assert find_shipped(SIZE, RECIPE) == entry


def test_whatever_arms_of_the_small_gpu_profile_start_from_ships():
    wanted = wanted_encoders(SMALL_GPU)
    assert {each.encoder.shape for each in wanted} == {(2, 64, 8), (4, 96, 8), (6, 128, 8)} and len(wanted) == 6
    assert all(find_shipped(each.encoder, each.recipe) for each in wanted)


def test_another_version_of_pre_training_is_not_shipped_on(folder, tmp_path, monkeypatch):
    wanted = [Wanted(name=NAME, encoder=SIZE, recipe=RECIPE)]
    monkeypatch.setattr("gitbench.encoders.ship.PRETRAIN_VERSION", PRETRAIN_VERSION + 1)
    assert not ship({}, wanted, folder)


def test_what_is_not_the_shipped_encoder_is_refused(folder):
    content = find_shipped(SIZE, RECIPE).content
    with refused("no encoder of this installation has the content 00000000"):
        load_shipped("0" * 64)
    write_encoder(folder / f"{NAME}.safetensors", state(1), notes())
    with refused("holds another encoder than the one asked for"):
        load_shipped(content)


def test_shipping_takes_out_what_no_profile_wants_any_more(folder, tmp_path):
    other = dataclasses.replace(RECIPE, lr=2.0)
    write_encoder(tmp_path / "new.safetensors", state(1), notes(recipe=dataclasses.asdict(other)))
    entries = ship({"new": tmp_path / "new.safetensors"}, [Wanted(name="new", encoder=SIZE, recipe=other)], folder)
    assert list(entries) == ["new"] and manifest(folder) == entries
    assert [file.name for file in folder.glob("*.safetensors")] == ["new.safetensors"]


def test_an_encoder_of_unknown_quality_or_too_many_bytes_are_not_shipped(folder, tmp_path):
    before = manifest(folder)
    points = notes()["points"]
    for some in ([], points[:1], points[1:]):  # not at all; not at the end; not the floor
        write_encoder(tmp_path / "new.safetensors", state(), notes(points=some))
        with refused("its quality was not measured"):
            ship({"new": tmp_path / "new.safetensors"}, [], folder)
    big = {"a.weight": np.ones((1100, 4000), np.float32)}
    assert write_encoder(tmp_path / "big.safetensors", big, notes()) and MOST_BYTES == 4_000_000
    with refused(r"4.4 MB of encoders are more than the 4 MB"):
        ship({"big": tmp_path / "big.safetensors"}, [], folder)
    assert manifest(folder) == before


def test_what_the_cpu_profile_wants_ships_and_nothing_else():
    entries = manifest(FOLDER)
    wanted = {each.name: each for each in wanted_encoders(CPU)}
    assert {file.stem for file in FOLDER.glob("*.safetensors")} == set(entries) == set(wanted)
    for name, entry in entries.items():
        assert read_encoder(FOLDER / f"{name}.safetensors", entry.content).notes == entry.notes
        assert (entry.encoder, entry.recipe) == (wanted[name].encoder, wanted[name].recipe)


def test_the_cpu_profile_wants_every_start_of_its_ablations_once():
    wanted = {each.name: each.recipe for each in wanted_encoders(CPU)}
    starts = [f"vit_4x96_p8_64-{start}" for start in ("contrastive", "contrastive_tenth", "masked", "supervised")]
    assert {*starts, "vit_2x64_p8_64-contrastive", "vit_6x128_p8_64-contrastive"} <= set(wanted)
    assert wanted["vit_4x96_p8_64-contrastive"] == CPU.pretraining
    assert wanted["vit_4x96_p8_64-contrastive_tenth"].iterations == CPU.pretraining.iterations // 10
    assert wanted["vit_4x96_p8_64-masked"].objective == "masked"


# ---- studies -----------------------------------------------------------------------------------------------------


def test_a_run_starts_from_what_ships_and_its_content_is_in_the_key(folder, tmp_path):
    ablation = tiny_ablation("encoder_training", "frozen")
    run, late = (write_configs(make_study(tmp_path / place, ablation))[0] for place in "ab")
    entry = find_shipped(SIZE, RECIPE)
    assert run.spec.variants["encoder_init"].content == entry.content
    execute(run.folder, pretraining=lambda *_: pytest.fail("pre-trained"))
    ours, shipped = load_run(run.folder)[0].git.encoder.state_dict(), load_shipped(entry.content)
    assert all((ours[name].numpy() == array).all() for name, array in shipped.state.items())
    assert load_json(run.folder / "trained.json")["cost"]["pretrain_seconds"] == 90.0

    write_encoder(tmp_path / "other.safetensors", state(1), notes())
    ship({NAME: tmp_path / "other.safetensors"}, [Wanted(name=NAME, encoder=SIZE, recipe=RECIPE)], folder)
    assert make_study(tmp_path / "a", ablation).plan.runs[0].run_key != run.key
    with refused("that the run was planned with"):
        execute(late.folder)


def test_the_version_of_pre_training_is_in_the_key_of_a_run_whose_encoder_does_not_ship(folder, tmp_path, monkeypatch):
    starts = tiny_ablation("encoder_init", "contrastive", "masked", "random")
    keys = []
    for version in (PRETRAIN_VERSION, PRETRAIN_VERSION + 1):
        monkeypatch.setattr("gitbench.variants.encoder_init.PRETRAIN_VERSION", version)
        keys.append({run.arm: run.run_key for run in make_study(tmp_path, starts).plan.runs})
    assert {arm for arm in keys[0] if keys[0][arm] != keys[1][arm]} == {"masked"}


def test_overridden_sizes_have_no_encoder_to_start_from(folder, tmp_path):
    with refused("arm 'base' starts from weights of another size than --cfg-options give its encoder"):
        make_study(tmp_path, cfg_options={"model.encoder.layers": 3})
    with refused("model.encoder_init.path: planning decides it"):
        make_study(tmp_path, cfg_options={"model.encoder_init.path": "x.pth"})


@pytest.mark.parametrize(
    "change",
    [
        lambda values: [],
        lambda values: {"schema": 1},
        lambda values: values["encoders"][NAME].pop("content"),
        lambda values: values["encoders"][NAME].pop("recipe"),
        lambda values: values["encoders"][NAME]["recipe"].update(strange=1),
    ],
)
def test_a_damaged_manifest_and_a_missing_file_are_one_line_before_anything_is_trained(folder, tmp_path, change):
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    found = change(values)
    path.write_text(json.dumps(found if found in ([], {"schema": 1}) else values))
    module._read.cache_clear()
    with refused("manifest.json is damaged: reinstall gitbench"):
        make_study(tmp_path)


def test_a_file_that_is_missing_from_the_package_is_said_when_planning(folder, tmp_path):
    (folder / f"{NAME}.safetensors").unlink()
    with refused(f"{NAME}.safetensors is missing: reinstall gitbench"):
        make_study(tmp_path)


# ---- quality -----------------------------------------------------------------------------------------------------


def right(share: float, count: int = 1000, shift: int = 0) -> dict[str, np.ndarray]:
    """About which of `count` images two probes are right: the first, but for `shift` of them."""
    each = np.roll(np.arange(count) < share * count, shift)
    return {"shape": each, "colour": each}


def test_an_encoder_is_worse_beyond_the_allowance_and_three_standard_errors_of_the_pairs():
    apart = ALLOWANCE + 3 * (0.05 * 0.95 / 1000) ** 0.5  # right about 50 fewer of the same images
    for lower, found in ((0.05, differences(right(0.75), right(0.8))), (-0.05, differences(right(0.85), right(0.8)))):
        assert [each.tolerance for each in found] == pytest.approx([apart] * 2)
        assert [each.shipped - each.here for each in found] == pytest.approx([lower] * 2)
        assert not any(each.worse for each in found)
    assert all(each.worse for each in differences(right(0.74), right(0.8)))
    assert not any(each.worse for each in differences(right(0.74, shift=200), right(0.8)))  # about other images, too
    (same, _) = differences(right(0.8), right(0.8))
    assert same.tolerance == ALLOWANCE and not same.worse


def test_check_probes_the_weights_whatever_the_notes_say(folder, tmp_path, capsys, monkeypatch):
    for name, value in (("SCENES", 400), ("SIGNS", 8), ("OBJECT_FACTS", ("colour",))):
        monkeypatch.setattr(probes, name, value)
    made = tmp_path / "remade"
    write_encoder(made / "a.safetensors", state(), notes(0.1))
    assert main(["encoders", "--check", str(made)]) == 0
    assert f"{NAME}: the same weights, bit for bit" in capsys.readouterr().out
    write_encoder(made / "b.safetensors", {name: tensor * 1.01 for name, tensor in state().items()}, notes(points=[]))
    write_encoder(made / "c.safetensors", {name: tensor * 0 for name, tensor in state().items()}, notes())
    assert main(["encoders", "--check", str(made)]) == 1
    _, near, nothing, rule = capsys.readouterr().out.splitlines()
    assert near == f"{NAME}: as good"
    assert re.fullmatch(rf"{NAME}: WORSE: colour [\d.]+ %, below [\d.]+ % by more than [\d.]+", nothing)
    assert "at most 3 points lower" in rule and "retrieval is not measured again" in rule


def test_check_tells_of_encoders_that_are_missing_and_of_files_that_are_none(folder, tmp_path, capsys):
    made = tmp_path / "remade"
    write_encoder(made / "other.safetensors", state(), notes(scenes=VERSION + 1))
    write_encoder(made / "later.safetensors", state(), notes(version=PRETRAIN_VERSION + 1))
    write_encoder(made / "bare.safetensors", state(), {})
    (made / "half.safetensors").write_bytes((made / "other.safetensors").read_bytes()[:500])
    assert main(["encoders", "--check", str(made)]) == 1
    told = capsys.readouterr().out
    assert (
        f"{NAME}: MISSING: make it with" in told and "half.safetensors is damaged" in told and "as good\n" not in told
    )


def test_check_says_what_is_wrong_with_a_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".contrastive.tmp.safetensors").write_bytes(b"half, of a process that was killed")
    for place, said in (
        ([str(tmp_path / "gone")], "gone does not exist: pass the folder of encoders"),
        ([str(folder / "manifest.json")], "manifest.json is no folder"),
        ([str(tmp_path / "empty")], "empty holds no encoder"),
        ([], "no encoder was made here yet: run `gitbench pretrain` first"),
    ):
        assert said in error_of("encoders", "--check", *place)


@pytest.mark.slow
def test_what_ships_sees_what_its_notes_say():
    quality = functools.cache(lambda size: probes.Quality(size))
    for name, entry in manifest(FOLDER).items():
        module = SimpleNamespace(encoder=ImageEncoder(entry.encoder).eval())
        stored = load_shipped(entry.content).state
        module.encoder.load_state_dict({each: torch.from_numpy(array) for each, array in stored.items()})
        found = quality(entry.encoder.image_size).of(module, ImagePreprocessor().normalised)
        said = {probe: final(entry.notes)[probe] for probe in found}
        assert found == pytest.approx(said, abs=0.01), name


def test_the_list_shows_what_each_sees_and_the_floor(folder, capsys):
    assert main(["encoders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(NAME) and lines[1].count("80.0") == 9 and lines[2].count("20.0") == 9


def test_the_page_shows_quality_floor_and_what_failed(folder, tmp_path):
    out = tmp_path / "page"
    out.mkdir()
    (out / "failed.md").write_text("Batches of 64 do not see counts.")
    text = write_encoder_page(out, manifest(folder)).read_text()
    assert f"| `{NAME}` | {' | '.join(['80.0'] * 9)} |" in text and f"| *random* | {' | '.join(['20.0'] * 9)} |" in text
    assert "## What failed\n\nBatches of 64 do not see counts." in text and "90 s" in text
    assert {file.name for file in out.iterdir()} >= {"quality.png", "curves.png", "README.md"}
