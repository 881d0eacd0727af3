"""What of a checkpoint is trained: what is frozen stays as it is, adapters start at nothing and are merged in the end."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from helpers_captioner import WORDS, exported, model, run_folder
from helpers_errors import refused
from helpers_model import pictures
from helpers_resume import assert_same_results, kill_at, run_to_end
from helpers_study import make_study, run_of, runs_of, tiny_ablation, tiny_profile, write_configs

from gitbench.ablations import ablation_files
from gitbench.cli import parser
from gitbench.commands.tune import _built_in
from gitbench.flops import forward_parts, step_flops
from gitbench.registry import MODELS
from gitbench.run_folder import RunFolder
from gitbench.study.config import make_config
from gitbench.study.start import started
from gitbench.study.store import Study
from gitbench.training.adaptation import adapt, load_plain, merge, plain_name
from gitbench.training.caption import load_captioner
from gitbench.training.hooks import read_curve
from gitbench.training.optimizer import parameter_groups
from gitbench.training.run import execute, load_run
from gitbench.training.start import described
from gitbench.variants import resolve
from gitbench.variants.adaptation import AdaptationSpec

VARIANTS = ("everything", "frozen_encoder", "frozen_decoder", "last_1", "norms_biases", "lora_4")
PARTS = VARIANTS[2:]


def planned(folder: Path, *variants: str, weights: Path | None = None, train=None, **changes) -> Study:
    weights = weights or run_folder(folder / "start")
    profile = started(tiny_profile(**(train or {})), described(weights))
    return make_study(folder / "work", tiny_ablation("adaptation", *variants, **changes), profile)


def is_trained(name: str, variant: str, layers: tuple[int, int] = (1, 1)) -> bool:
    """Whether a tensor of a plain model moves; `layers`: the last ones of encoder and decoder."""
    if variant == "frozen_decoder":
        return name.startswith("encoder.")
    if variant == "last_1":
        return name.startswith((f"encoder.blocks.{layers[0]}.", f"decoder.layers.{layers[1]}."))
    if variant == "norms_biases":
        return name.endswith("bias") or "norm" in name or name.startswith("projection.1.")
    attention = name.endswith(("attn.qkv.weight", "attn.proj.weight", ".qkv.weight", ".out.weight"))
    return name.startswith(("encoder.blocks.", "decoder.layers.")) and attention


@pytest.mark.parametrize("variant", PARTS)
def test_what_is_frozen_has_no_gradient_and_no_state_and_stays_as_it_is_to_the_bit(tmp_path, variant):
    study = planned(tmp_path, variant)
    write_configs(study)
    run = run_of(study, "base")
    built = MODELS.build(make_config(run.spec, study.plan.vocabulary, run.key).model.to_dict())
    own = dict(built.git.named_parameters())
    grouped = {id(each) for group in parameter_groups(built, 1.0, 1.0, 0.1) for each in group["params"]}
    assert grouped == {id(each) for each in own.values() if each.requires_grad}
    execute(run.folder)
    before, after = model().state_dict(), load_run(run.folder)[0].git.state_dict()
    assert list(before) == list(after)
    depth = tuple(max(int(n.split(".")[2]) for n in before if n.startswith(p)) for p in ("encoder.b", "decoder.l"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    allowed = {name for name in before if is_trained(name, variant, depth)}
    assert moved <= allowed and len(moved) >= 0.8 * len(allowed)
    cost = json.loads(RunFolder(run.folder).trained.read_text())["cost"]
    if variant != "lora_4":
        assert cost["stored_bytes"] == 4 * sum(before[name].numel() for name in allowed)
        assert cost["state_bytes"] == 4 * sum(each.numel() for each in before.values()) + 3 * cost["stored_bytes"]
    assert [row for row in read_curve(run.folder / "curve.csv") if row[1] == "train" and row[3] > 0]


def test_a_frozen_encoder_is_that_of_the_axis_encoder_training_and_its_run(tmp_path):
    weights = run_folder(tmp_path / "start")
    profile = started(tiny_profile(), described(weights))
    (ours, theirs) = (
        runs_of(make_study(tmp_path / name, tiny_ablation(name, first, second), profile))[1].spec
        for name, first, second in (
            ("adaptation", "everything", "frozen_encoder"),
            ("encoder_training", "trained", "frozen"),
        )
    )
    assert ours.variants == theirs.variants and ours.train == theirs.train
    assert ours.variants["encoder_training"].frozen and ours.variants["adaptation"] == AdaptationSpec()


def adapted(rank: int = 4) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A model, and the same with adapters that have learned something."""
    plain, git = model().eval(), model().eval()
    adapt(git, resolve("adaptation", f"lora_{rank}"), 3)
    return plain, git


def answers(git) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images, tokens = pictures(2, 3, 32, 32), torch.tensor([[WORDS.bos_id, 7, 8, 9]] * 2)
    with torch.no_grad():
        return git.logits(images, tokens), *git.generate(images, beam_size=3, max_length=9)


def test_adapters_begin_at_the_captions_of_the_start_and_their_values_follow_from_the_seed():
    plain, git = adapted()
    assert all(map(torch.equal, answers(plain), answers(git)))
    trained = {name: each for name, each in git.named_parameters() if each.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    assert all(each.abs().max() == 0 for name, each in trained.items() if "lora_B" in name)
    again, other = adapted()[1], model()
    adapt(other, resolve("adaptation", "lora_4"), 4)
    for name, each in trained.items():
        assert torch.equal(each, again.get_parameter(name))
        assert torch.equal(each, other.get_parameter(name)) is ("lora_B" in name)


def test_merged_adapters_give_the_captions_that_they_gave_beside_the_weights():
    plain, git = adapted()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, each in git.named_parameters():
            if "lora_B" in name:
                each.copy_(torch.randn(each.shape, generator=generator) * 0.05)
    logits, texts, scores = answers(git)
    assert not torch.allclose(logits, answers(plain)[0], atol=1e-3)
    held, stored = merge(git)
    assert list(git.state_dict()) == list(plain.state_dict()) and held > stored
    merged = answers(git)
    assert torch.equal(merged[1], texts)
    torch.testing.assert_close(merged[0], logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(merged[2], scores, rtol=0, atol=1e-6)
    assert stored == 4 * sum(  # rank x (inputs + outputs) of every adapted product
        4 * sum(git.get_parameter(name).shape) for name in git.state_dict() if is_trained(name, "lora_4")
    )


def test_the_weights_of_a_plain_model_fit_one_with_adapters_and_nothing_else_does():
    _, git = adapted()
    other = model(seed=5)
    load_plain(git, other.state_dict())
    ours = {plain_name(name): each for name, each in git.state_dict().items() if ".lora_" not in name}
    assert all(torch.equal(each, ours[name]) for name, each in other.state_dict().items())
    state = other.state_dict()
    del state["head_bias"]
    with pytest.raises(RuntimeError, match="do not fit: head_bias"):
        load_plain(git, state)


def test_adapters_are_in_the_weights_of_a_run_and_of_its_exports(tmp_path):
    study = planned(tmp_path, "lora_4")
    write_configs(study)
    run = run_of(study, "base")
    execute(run.folder)
    rows = [json.loads(line) for line in RunFolder(run.folder).predictions.read_text().splitlines()]
    own = load_captioner(run.folder).git.state_dict()
    assert rows and not any("lora" in name for name in own)
    theirs = load_captioner(exported(run.folder, "huggingface", tmp_path / "hf")).git.state_dict()
    assert all(torch.equal(each, theirs[name]) for name, each in own.items())


@pytest.mark.timeout(240)
def test_a_killed_run_with_adapters_leaves_no_trace(tmp_path):
    train, weights = {"iterations": 30, "checkpoint_every": 0}, run_folder(tmp_path / "start")
    studies = [planned(tmp_path / name, "lora_4", weights=weights, train=train) for name in ("quiet", "killed")]
    quiet, killed = (write_configs(study)[0] for study in studies)
    kill_at(killed, 20)
    run_to_end(killed)
    run_to_end(quiet)
    assert_same_results(quiet.folder, killed.folder)


def test_what_cannot_be_adapted_is_refused(tmp_path):
    with refused("trains a part of a model that starts from nothing: name a checkpoint with --start"):
        make_study(tmp_path, tiny_ablation("adaptation", "everything", "lora_4"))
    with refused("trains the last 9 layers of a model that has 3: choose 1 to 3"):
        planned(tmp_path, "everything", "last_9")
    with refused("has a frozen encoder, and an adaptation that says what else is trained"):
        planned(tmp_path / "two", "lora_4", "everything", common={"encoder_training": "frozen"})


def test_adapters_without_their_package_are_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with refused("adapters need the package peft: .*pip install gitbench.lora."):
        adapted()


@pytest.mark.parametrize("words", [("gpu",), ("cpu", "--data", "scenes"), ("cpu", "--encoder", "weights.pth")])
def test_what_starts_from_a_checkpoint_that_nobody_names_is_not_tuned_with_all_others(words):
    def asked(*words: str) -> set[str]:
        return set(_built_in(parser().parse_args(["tune", "--all", "--profile", *words])))

    assert set(ablation_files()) - asked(*words) == {"adaptation"} and "adaptation" in asked("cpu")


def test_without_an_adaptation_no_key_changes(tmp_path):
    """Those of the commit before there was an axis `adaptation`."""
    keys = {"base": "48fbb08829221f45", "small": "6c275bda5c7f7918", "blind": "fb6324d9957dc080"}
    assert {run.arm: run.key for run in runs_of(make_study(tmp_path))} == keys


# ---- equal time -------------------------------------------------------------------------------------------------


def test_a_step_costs_three_forward_passes_trained_whole_and_less_in_parts():
    git = model()
    parts = forward_parts(git.encoder.spec, git.decoder.spec, git.vocab_size, captions=2)
    forward = sum(part.forward for part in parts.values())

    def cost(name: str, kept: bool = False) -> float:
        spec = resolve("adaptation", name)
        frozen = spec.trains == "decoder"
        return step_flops(parts, AdaptationSpec() if frozen else spec, frozen=frozen, kept=kept) / forward

    assert cost("everything") == pytest.approx(3, rel=1e-12)
    vision = sum(parts[name].forward for name in ("patches", "encoder")) / forward
    saved = parts["projection"].weights / forward  # nothing before it asks for a gradient
    assert cost("frozen_encoder") == pytest.approx(3 - 2 * vision - saved, rel=1e-12)
    assert cost("frozen_encoder", kept=True) == pytest.approx(3 - 3 * vision - saved, rel=1e-12)
    beside = sum(part.weights for name, part in parts.items() if name not in ("patches", "encoder")) / forward
    assert cost("frozen_decoder") == pytest.approx(3 - beside, rel=1e-12)
    assert cost("last_9") < 3 and cost("last_1") < cost("last_2") < cost("last_9")
    assert cost("norms_biases") < cost("lora_4") < cost("lora_16") < 3


def test_equal_time_scales_the_steps_and_the_share_of_the_warm_up(tmp_path):
    ablation = tiny_ablation("adaptation", "everything", *VARIANTS[1:], crossed_with="steps")
    arms = tuple(
        dataclasses.replace(arm, name=f"{arm.name}{mark}", variants={**arm.variants, "steps": steps})
        for mark, steps in (("", "all"), ("_time", "equal_time"))
        for arm in ablation.arms["smoke"]
    )
    profile = started(
        tiny_profile(iterations=100, warmup=10, batch_images=4), described(run_folder(tmp_path / "start"))
    )
    study = make_study(tmp_path / "work", dataclasses.replace(ablation, arms={"smoke": arms}), profile)
    found = {run.arm: run for run in runs_of(study)}
    assert found["base"].key == found["base_time"].key
    steps = {name: run.spec.train.iterations for name, run in found.items() if name.endswith("_time")}
    assert steps["base_time"] == 100 and all(count > 100 for name, count in steps.items() if name != "base_time")
    assert steps["norms_biases_time"] > steps["lora_4_time"]
    warmup = found["frozen_encoder_time"].spec.train.warmup
    assert warmup == round(steps["frozen_encoder_time"] / 10)
    labels = {arm.labels["steps"] for arm in study.plan.arms if arm.role == "arm"}
    assert labels == {"100 iterations", "equal time"}
