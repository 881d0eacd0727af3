"""Encoder weights of others: timm's, OpenAI's and open_clip's names fit, anything else is refused in one line."""

from __future__ import annotations

import dataclasses
import re

import pytest
import timm
import torch
from helpers_errors import refused
from helpers_study import make_study, run_of, tiny_ablation, tiny_profile, write_configs
from safetensors.torch import save_file

from gitbench.encoders.store import write_encoder
from gitbench.errors import GitbenchError
from gitbench.models.encoder import ImageEncoder
from gitbench.training.encoder_init import check_weights, encoder_weights
from gitbench.training.run import execute, load_run
from gitbench.variants import resolve
from gitbench.variants.encoder import EncoderSpec

SPEC = EncoderSpec(width=32, layers=2, heads=2, patch=8, image_size=32)


def some_state(spec: EncoderSpec = SPEC, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ImageEncoder(spec).state_dict()
    return {name: torch.randn(tensor.shape, generator=generator) * 0.1 for name, tensor in shapes.items()}


def openai_names(state: dict[str, torch.Tensor], layers: int, width: int) -> dict[str, torch.Tensor]:
    """The same tensors under the names of OpenAI's `CLIP/model.py`, with what GIT has no use for."""
    out = {
        "visual.class_embedding": state["cls_token"][0, 0],
        "visual.positional_embedding": state["pos_embed"][0],
        "visual.conv1.weight": state["patch_embed.proj.weight"],
        "visual.proj": torch.zeros(width, 16),
        "text_projection": torch.zeros(16, 16),
        "logit_scale": torch.tensor(2.0),
    }
    for ours, theirs in (("norm_pre", "ln_pre"), ("norm", "ln_post")):
        out |= {f"visual.{theirs}.{kind}": state[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    names = {"norm1.": "ln_1.", "norm2.": "ln_2.", "attn.qkv.": "attn.in_proj_", "attn.proj.": "attn.out_proj."}
    names |= {"mlp.fc1.": "mlp.c_fc.", "mlp.fc2.": "mlp.c_proj."}
    for layer in range(layers):
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                out[f"visual.transformer.resblocks.{layer}.{theirs}{kind}"] = state[f"blocks.{layer}.{ours}{kind}"]
    return out


@pytest.mark.parametrize("encoder", ["vit_b16", "vit_l14", "vit_h14"])
def test_the_clip_weights_of_an_encoder_are_those_of_its_shape_heads_and_activation(encoder, tmp_path):
    profile = dataclasses.replace(
        tiny_profile(), variants={**tiny_profile().variants, "encoder": encoder, "encoder_init": "clip"}, on_scenes={}
    )
    planned = run_of(make_study(tmp_path, profile=profile), "base").spec.variants
    with torch.device("meta"):
        ours, theirs = ImageEncoder(planned["encoder"]), timm.create_model(planned["encoder_init"].path, num_classes=0)
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1] and planned["encoder_init"].path in timm.list_pretrained()
    assert len({model.blocks[0].attn.num_heads for model in (ours, theirs)}) == 1
    assert type(theirs.blocks[0].mlp.act).__name__.startswith("QuickGELU")


def test_the_same_weights_under_three_naming_schemes_are_the_same_encoder(tmp_path):
    state = some_state()
    forms = {
        "timm.pth": {**state, "head.weight": torch.zeros(10, 32), "head.bias": torch.zeros(10)},
        "openai.pth": openai_names(state, 2, 32),
        "open_clip.pth": {"state_dict": {f"visual.trunk.{name}": tensor for name, tensor in state.items()}},
        "half.pth": {name: tensor.half() for name, tensor in state.items()},
    }
    for name, form in forms.items():
        torch.save(form, tmp_path / name)
    save_file(state, tmp_path / "timm.safetensors")
    for name in (*forms, "timm.safetensors"):
        found = encoder_weights(str(tmp_path / name), SPEC)
        assert found.keys() == state.keys() and all(tensor.dtype == torch.float32 for tensor in found.values())
        for key, tensor in state.items():
            torch.testing.assert_close(found[key], tensor, rtol=0, atol=1e-3 if name == "half.pth" else 0)


def test_values_that_are_no_weights_are_refused(tmp_path):
    state = some_state()
    name = "blocks.0.attn.qkv.weight"
    for bad, said in (
        (torch.full_like(state[name], torch.nan), "is not finite"),
        (state[name].to(torch.int64), "is int64"),
        (state[name].to(torch.complex64), "is complex64"),
    ):
        save_file({**state, name: bad}, tmp_path / "bad.safetensors")
        with refused(f"bad.safetensors: {name} {said}: pass weights in floating point"):
            check_weights(str(tmp_path / "bad.safetensors"), {"base": SPEC})


def test_a_wrapper_s_prefix_is_taken_off_and_a_stranger_s_names_are_not_all_listed(tmp_path):
    state = some_state()
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "wrapped.pth")
    assert torch.equal(encoder_weights(str(tmp_path / "wrapped.pth"), SPEC)["norm.weight"], state["norm.weight"])
    with pytest.raises(GitbenchError) as caught:
        check_weights("resnet50.a1_in1k", {"base": SPEC})
    assert len(str(caught.value)) < 500


def test_the_size_of_an_encoder_whose_weights_are_given_is_not_overridden(tmp_path):
    file = tmp_path / "clip.pth"
    torch.save(some_state(resolve("encoder", "vit_2x64_p8_64")), file)
    for option in ("layers=1", "heads=4"):
        name, value = option.split("=")
        with refused("arm 'base' starts from weights of another size than --cfg-options give its encoder"):
            make_study(tmp_path / "w", encoder=str(file), cfg_options={f"model.encoder.{name}": int(value)})


def test_a_position_table_of_another_size_is_resized(tmp_path):
    torch.save(some_state(dataclasses.replace(SPEC, image_size=48)), tmp_path / "big.pth")
    assert encoder_weights(str(tmp_path / "big.pth"), SPEC)["pos_embed"].shape == (1, 17, 32)


def test_weights_that_do_not_fit_are_refused_with_what_does_not(tmp_path):
    state = some_state()
    partial = {name: tensor for name, tensor in state.items() if not name.startswith("norm_pre")}
    torch.save(partial, tmp_path / "partial.pth")
    torch.save(some_state(dataclasses.replace(SPEC, width=64)), tmp_path / "wide.pth")
    torch.save(some_state(dataclasses.replace(SPEC, layers=3)), tmp_path / "deep.pth")
    torch.save(some_state(dataclasses.replace(SPEC, patch=16)), tmp_path / "coarse.pth")
    torch.save(some_state(dataclasses.replace(SPEC, mlp_ratio=2.0)), tmp_path / "fat.pth")
    for name, said in {
        "partial.pth": r"2 missing \(norm_pre.bias, norm_pre.weight\)",
        "wide.pth": "wide.pth is a 2 x 64 ViT of 8-pixel patches, the encoder needs 2 x 32 of 8-pixel patches: choose",
        "deep.pth": "deep.pth is a 3 x 32 ViT of 8-pixel patches, ",
        "coarse.pth": "coarse.pth is a 2 x 32 ViT of 16-pixel patches, ",
        "fat.pth": r"blocks.0.mlp.fc1.weight is \(64, 32\), not \(128, 32\)",
    }.items():
        with refused(said):
            encoder_weights(str(tmp_path / name), SPEC)


def test_the_shape_is_told_whatever_the_names(tmp_path):
    state = some_state()
    torch.save(openai_names(state, 2, 32) | {"transformer.resblocks.7.ln_1.weight": torch.ones(8)}, tmp_path / "a.pth")
    torch.save({f"visual.trunk.{name}": tensor for name, tensor in state.items()}, tmp_path / "b.pth")
    write_encoder(tmp_path / "c.safetensors", {name: tensor.numpy() for name, tensor in state.items()}, {})
    for name in ("a.pth", "b.pth", "c.safetensors"):
        check_weights(str(tmp_path / name), {"base": SPEC})
        with refused(f"{name} is a 2 x 32 ViT of 8-pixel patches, arm large needs 3 x 32 of 8-pixel patches"):
            check_weights(str(tmp_path / name), {"base": SPEC, "large": dataclasses.replace(SPEC, layers=3)})


def test_names_of_timm_need_a_tag_and_are_checked_without_fetching_them():
    clip = "vit_base_patch16_clip_quickgelu_224"
    check_weights(f"{clip}.openai", {"base": resolve("encoder", "vit_b16")})
    for name, said in {
        f"{clip}.openai": "is a 12 x 768 ViT of 16-pixel patches, arm base needs 2 x 32 of 8-pixel patches",
        clip: f"without a tag it stands for other weights in another release of timm: choose one of {clip}.*{clip}.openai",
        f"{clip}.opnai": f"timm knows no such tag: choose one of {clip}",
        "not_a_timm_name": "neither an existing file nor a model of timm",
        "resnet10t.c3_in1k": "resnet10t.c3_in1k does not fit arm base",
    }.items():
        with refused(said):
            check_weights(name, {"base": SPEC})


def test_a_name_that_is_unknown_or_cannot_be_fetched_gives_one_line():
    for name, said in {
        "no_such_model": "neither an existing file nor a model of timm",
        "vit_base_patch16_clip_quickgelu_224.openai": "could not be fetched from the hub .*: download the file",
        None: "has no path",
    }.items():
        with refused(said):
            encoder_weights(name, resolve("encoder", "vit_b16"))


def test_a_run_starts_from_a_file_whose_content_is_in_its_key(tmp_path):
    ablation = tiny_ablation("encoder_training", "frozen")
    file = tmp_path / "clip.pth"
    keys, labels = [], []
    for seed in (0, 1):
        state = some_state(resolve("encoder", "vit_2x64_p8_64"), seed)
        torch.save(state, file)
        study = make_study(tmp_path / "w", ablation, encoder=str(file))
        keys.append(study.plan.runs[0].run_key)
        labels.append(study.plan.label)
    assert keys[0] != keys[1] and labels[0] != labels[1]
    assert all(re.fullmatch(r"scenes\+encoder-[0-9a-f]{6}", label) for label in labels)
    moved = file.rename(tmp_path / "renamed.pth")  # where it lies decides nothing
    assert make_study(tmp_path / "w", ablation, encoder=str(moved)).plan.runs[0].run_key == keys[1]
    moved.rename(file)
    folder = write_configs(study)[0].folder
    execute(folder)
    model = load_run(folder)[0]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.git.encoder.state_dict().items())


def test_a_file_that_changed_after_planning_is_refused(tmp_path):
    file = tmp_path / "clip.pth"
    torch.save(some_state(resolve("encoder", "vit_2x64_p8_64")), file)
    folder = write_configs(make_study(tmp_path / "w", encoder=str(file)))[0].folder
    torch.save(some_state(resolve("encoder", "vit_2x64_p8_64"), 1), file)
    with refused("is not the file that the run was planned with"):
        execute(folder)


def test_a_file_that_pretrain_wrote_is_read_as_well(tmp_path):
    state = some_state()
    write_encoder(tmp_path / "own.safetensors", {name: tensor.numpy() for name, tensor in state.items()}, {})
    found = encoder_weights(str(tmp_path / "own.safetensors"), SPEC)
    for name, tensor in state.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0.003)
