"""Where the encoders of a study start: pre-trained on scenes, from nothing elsewhere, or from what the user gives."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from helpers_cli import error_of
from helpers_data import coco
from helpers_errors import refused
from helpers_model import encoder_file
from helpers_study import make_study, run_of, runs_of, tiny_ablation, tiny_profile, write_configs

from gitbench.ablations import ablation_files, load_ablation
from gitbench.cli import main
from gitbench.commands.starts import profile_for
from gitbench.profiles import PROFILES, SMOKE
from gitbench.study.config import make_config
from gitbench.study.proof import compare_configs
from gitbench.training.run import execute, load_run
from gitbench.variants import resolve


def starts(study) -> dict[str, str]:
    return {run.arm: run.spec.variant_names["encoder_init"] for run in runs_of(study)}


def photographs(folder) -> str:
    coco(folder, [f"{number:02}.png" for number in range(60)])
    return str(folder)


def test_on_scenes_every_arm_starts_from_pre_training_and_elsewhere_from_nothing(tmp_path):
    assert set(starts(make_study(tmp_path)).values()) == {"contrastive"}
    films = make_study(tmp_path, data="scenes-motion", task_name="video")
    assert set(starts(films).values()) == {"contrastive"}
    elsewhere = make_study(tmp_path, data=photographs(tmp_path / "photos"))
    assert set(starts(elsewhere).values()) == {"random"}


def test_an_arm_that_names_its_start_has_it_on_any_data(tmp_path):
    ablation = tiny_ablation("encoder_init", "contrastive", "random", "masked", "contrastive_tenth")
    study = make_study(tmp_path, ablation, data=photographs(tmp_path / "photos"))
    assert starts(study)["base"] == starts(study)["blind"] == "contrastive"  # the floor is the base without sight
    base, blind = (
        make_config(run_of(study, arm).spec, study.plan.vocabulary, arm).to_dict() for arm in ("base", "blind")
    )
    assert {change.what for change in compare_configs(base, blind, ["vision"])} >= {"model.vision.blind"}
    recipe = run_of(study, "base").spec.variants["encoder_init"].recipe
    assert recipe == dataclasses.replace(tiny_profile().pretraining, images=24)  # no more than the study trains on
    assert run_of(study, "masked").spec.variants["encoder_init"].recipe.objective == "masked"
    labels = {arm.name: arm.label for arm in study.plan.arms}
    assert labels["base"] == "contrastive pre-training, 6 \N{MULTIPLICATION SIGN} 8 images"
    assert labels["contrastive_tenth"] == "contrastive pre-training, 1 \N{MULTIPLICATION SIGN} 8 images"
    assert labels["random"] == "random values" and len({run.key for run in runs_of(study)}) == 5


def test_supervised_pre_training_on_photographs_is_refused_before_anything_is_trained(tmp_path):
    ablation = tiny_ablation("encoder_init", "contrastive", "supervised")
    with refused(
        "has no scene graphs, .*: use scenes, or run a copy of the ablation's file, under another name, without"
    ):
        make_study(tmp_path, ablation, data=photographs(tmp_path / "photos"))


def test_a_copy_of_encoder_init_without_the_supervised_arm_is_planned_on_photographs(tmp_path):
    lines = ablation_files()["encoder_init"].read_text(encoding="utf-8").splitlines()
    kept = "\n".join(line for line in lines if '"supervised"' not in line)
    (tmp_path / "start.py").write_text(kept.replace('name="encoder_init"', 'name="start"'), encoding="utf-8")
    study = make_study(tmp_path, load_ablation(str(tmp_path / "start.py")), data=photographs(tmp_path / "photos"))
    assert {arm.name for arm in study.plan.arms} == {"base", "random", "masked", "tenth", "blind"}
    assert len(study.plan.claims) == 2


def test_what_is_trained_or_left_frozen_was_pre_trained_or_given_on_any_data(tmp_path):
    ablation, data = load_ablation("encoder_training"), photographs(tmp_path / "photos")
    own = make_study(tmp_path, ablation, data=data)
    assert set(starts(own).values()) == {"contrastive"} and own.plan.common == {"encoder_init": "contrastive"}
    file = tmp_path / "clip.safetensors"
    file.write_bytes(b"weights")
    given = make_study(tmp_path, ablation, data=data, encoder=str(file))
    assert set(starts(given).values()) == {"given"} and given.plan.common == {"encoder_init": "given"}
    paper = dataclasses.replace(tiny_profile(), name="paper", variants=PROFILES["paper"].variants, on_scenes={})
    assert set(starts(make_study(tmp_path, ablation, paper, data=data)).values()) == {"clip"}


def test_given_weights_are_where_every_arm_starts_that_does_not_vary_it(tmp_path):
    file = tmp_path / "clip.safetensors"
    file.write_bytes(b"weights")
    study = make_study(tmp_path, encoder=str(file))
    assert set(starts(study).values()) == {"given"} and not study.plan.cfg_options
    assert make_study(tmp_path, encoder="vit_base_patch16_clip_224.openai").plan.label.startswith("scenes+encoder-")
    varied = tiny_ablation("encoder_init", "contrastive", "random")
    with refused("every arm of tiny says where its encoder starts: leave it out"):
        make_study(tmp_path, varied, encoder=str(file))
    sizes = tiny_ablation("encoder", "vit_2x64_p8_64", "vit_1x64_p8_64")
    with refused("the arms of tiny have image encoders of several shapes, and weights fit one: leave it out"):
        make_study(tmp_path, sizes, encoder=str(file))
    asked = starts(make_study(tmp_path, tiny_ablation("encoder_init", "given", "random"), encoder=str(file)))
    assert asked == {"base": "given", "random": "random", "blind": "given"}
    with refused("encoder weights .*: that is a folder: pass the file of weights in it"):
        make_study(tmp_path, encoder=str(tmp_path))
    with refused("gone.pth: there is no such file"):
        make_study(tmp_path, encoder=str(tmp_path / "gone.pth"))
    with refused("name them with --encoder FILE"):
        make_study(tmp_path, tiny_ablation("encoder_init", "given", "random"))


def test_the_plan_says_that_an_encoder_starts_from_nothing(tmp_path, capsys):
    plan = ["run", "decoder_size", "--profile", "smoke", "--dry-run", "--work-dir", str(tmp_path)]
    assert main(plan) == 0
    assert "starts from nothing" not in capsys.readouterr().out
    assert main([*plan, "--data", photographs(tmp_path / "photos")]) == 0
    assert "mind: the image encoder starts from nothing (random values)" in capsys.readouterr().out
    file = encoder_file(tmp_path / "clip.pth", resolve("encoder", "vit_2x64_p8_64"))
    assert main([*plan, "--data", str(tmp_path / "photos"), "--encoder", file]) == 0
    assert "starts from nothing" not in capsys.readouterr().out


def test_weights_that_fit_no_arm_are_refused_before_anything_is_tuned_or_run(tmp_path, monkeypatch):
    monkeypatch.setitem(PROFILES, "smoke", dataclasses.replace(SMOKE, rates=(0.5, 1.0)))
    for module in ("tuning.tune", "scheduling.launch"):
        monkeypatch.setattr(f"gitbench.launch.{module}", lambda *_: pytest.fail("trained"))
    clip = "vit_base_patch16_clip_quickgelu_224"
    narrow = dataclasses.replace(resolve("encoder", "vit_2x64_p8_64"), mlp_ratio=2.0)
    encoder_file(tmp_path / "narrow.pth", narrow)
    torch.save({"weight": torch.zeros(2, 2)}, tmp_path / "none.pth")
    other = encoder_file(tmp_path / "other.pth", resolve("encoder", "vit_4x96_p8_64"))
    for given, said in {
        str(
            tmp_path / "narrow.pth"
        ): "narrow.pth does not fit arm base (blocks.0.mlp.fc1.weight is (128, 64), not (256, 64))",
        str(tmp_path / "none.pth"): "none.pth holds no image encoder: pass a CLIP-shaped ViT",
        "not_a_timm_name": "neither an existing file nor a model of timm",
        clip: f"without a tag it stands for other weights in another release of timm: choose one of {clip}.",
        "vit_base_patch16_clip_224.openai": f"has QuickGELU: choose {clip}.openai",
        "vit_base_patch16_clip_224.laion2b": "has QuickGELU: choose one whose name has quickgelu",
        "vit_large_patch14_clip_quickgelu_224.openai": "patches of 14 pixels do not fill the smoke profile's images of 64",
    }.items():
        for command in (["run", "encoder_training", "--rates", "shared"], ["run", "encoder_training", "--dry-run"]):
            assert said in error_of(*command, "--work-dir", str(tmp_path), "--profile", "smoke", "--encoder", given)
        assert said in error_of("tune", "encoder_training", "--profile", "smoke", "--encoder", given)
    assert "image encoders of several shapes" in error_of("tune", "--all", "--profile", "smoke", "--encoder", other)


def test_the_encoder_of_every_profile_has_the_shape_of_the_weights_that_are_given(tmp_path):
    other = encoder_file(tmp_path / "other.pth", resolve("encoder", "vit_4x96_p8_64"))
    clip = "vit_base_patch16_clip_quickgelu_224.openai"
    for given, name, wanted, heads in (
        (other, "smoke", "vit_4x96_p8_64", 3),
        (clip, "smoke", "vit_12x768_p16_64", 12),
        (clip, "cpu", "vit_12x768_p16_64", 12),
        (clip, "gpu", "vit_12x768_p16_128", 12),
        (clip, "paper", "vit_b16", 12),
        ("vit_huge_patch14_clip_quickgelu_224.metaclip_2pt5b", "paper", "vit_h14", 16),
    ):
        profile = profile_for(SimpleNamespace(profile=name, encoder=given, start=None))
        encoder = resolve("encoder", profile.variants["encoder"])
        assert (profile.variants["encoder"], encoder.heads, profile.encoder) == (wanted, heads, given)
        assert encoder.image_size == profile.data.image_size and profile.data == PROFILES[name].data
    assert profile_for(SimpleNamespace(profile="cpu", encoder=None, start=None)) is PROFILES["cpu"]


def test_a_study_on_weights_of_another_size_is_trained_from_them(tmp_path):
    file = encoder_file(tmp_path / "other.pth", resolve("encoder", "vit_1x64_p8_64"))
    profile = profile_for(SimpleNamespace(profile="smoke", encoder=file, start=None))
    ablation = tiny_ablation("encoder_training", "frozen")
    profile = dataclasses.replace(
        tiny_profile(), encoder=file, variants={**tiny_profile().variants, **profile.variants}
    )
    folder = write_configs(make_study(tmp_path / "w", ablation, profile, encoder=file))[0].folder
    execute(folder)
    encoder, given = load_run(folder)[0].git.encoder.state_dict(), torch.load(file)
    assert encoder.keys() == given.keys() and all(torch.equal(encoder[name], given[name]) for name in given)


@pytest.mark.parametrize("name", ["vit_0x64_p8_64", "vit_2x80_p8_64", "vit_2x64_p7_64", "vit_2x64"])
def test_a_name_that_spells_out_no_encoder_is_unknown(name):
    with refused(f"unknown encoder variant '{name}'"):
        resolve("encoder", name)


def test_clip_weights_are_those_of_the_encoders_own_shape(tmp_path):
    profile = tiny_profile()
    for encoder, path in (("vit_b16", "base_patch16"), ("vit_l14", "large_patch14"), ("vit_h14", "huge_patch14")):
        own = dataclasses.replace(profile, variants={**profile.variants, "encoder": encoder, "encoder_init": "clip"})
        init = run_of(make_study(tmp_path, profile=own, data=photographs(tmp_path / encoder)), "base").spec.variants[
            "encoder_init"
        ]
        assert init.source == "file" and path in init.path and init.content == init.path
    small = dataclasses.replace(profile, variants={**profile.variants, "encoder_init": "clip"}, on_scenes={})
    with refused(f"there are no CLIP weights for the encoder {profile.variants['encoder']}: choose vit_b16"):
        make_study(tmp_path, profile=small)
