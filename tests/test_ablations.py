"""All ablations of the repository run whole in the smoke profile, each on seeds of its own."""

import dataclasses
import json

import pytest
import torch
from helpers_cli import call, error_of
from helpers_errors import refused
from helpers_study import make_study, run_of, runs_of

import gitbench
from gitbench.ablations import ablation_files, check_ablation, load_ablation
from gitbench.files import resource
from gitbench.models.encoder import ImageEncoder
from gitbench.profiles import PROFILES, SMOKE
from gitbench.run_key import run_key
from gitbench.spec import Arm, RunSpec
from gitbench.variants import resolve


def test_every_ablation_is_there_in_every_profile():
    assert set(ablation_files()) == {
        "adaptation", "data_scale", "decoder_attention", "decoder_init", "decoder_size", "encoder_init", "encoder_training"
    }  # fmt: skip
    for name in ablation_files():
        ablation = load_ablation(name)
        assert set(ablation.arms) == set(PROFILES) and ablation.claims


# Two mechanisms here (BERT, a frozen and pre-trained encoder); decoder sizes run whole in tests/launch.
SLOW = ("adaptation", "data_scale", "decoder_attention", "decoder_size", "encoder_init")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in sorted(ablation_files())]
)
def test_an_ablation_runs_whole(name, tmp_path):
    work, out = tmp_path / "work", tmp_path / "out"
    reported = [] if load_ablation(name).crossed_with else ["--no-report"]  # figures of every other kind: tests/report
    words = ("--profile", "smoke", "--seeds", "1", "--work-dir", str(work), "--out", str(out))
    result = call("run", name, *words, *reported)
    assert result.returncode == 0, result.stdout + result.stderr
    (plan,) = (path for path in work.glob("studies/*+seeds-1.json"))
    study = json.loads(plan.read_text())
    runs = {run["run_key"] for run in study["runs"]}
    assert {arm["name"] for arm in study["arms"]} == {arm.name for arm in load_ablation(name).arms["smoke"]} | {"blind"}
    assert runs == {path.parent.name for path in work.glob("runs/*/record.json")}
    if load_ablation(name).crossed_with == "amount":  # drawn over the images that each arm was trained on
        frame = gitbench.load_frame(work)
        assert frame[frame["metric"] == "training_images"].groupby("arm")["value"].first().nunique() > 1
        assert "training images" in (out / "interaction.svg").read_text()
        assert "No proof was recorded" not in (out / "report.html").read_text(encoding="utf-8")
    assert plan.with_suffix(".proof.json").is_file()
    if name == "adaptation":
        table = (out / "table.md").read_text(encoding="utf-8")
        assert "stored beside the start" in table and "Does not verify" not in table
        assert "stored beside the start" in (out / "cost.svg").read_text()


def test_no_two_ablations_share_a_run_though_their_bases_are_alike(tmp_path):
    def specs(name: str) -> dict[str, RunSpec]:
        return {run.arm: run.spec for run in runs_of(make_study(tmp_path, load_ablation(name), SMOKE, replicates=1))}

    sizes, attention = specs("decoder_size"), specs("decoder_attention")
    for arm in ("base", "blind"):
        assert run_key(sizes[arm], "data") != run_key(attention[arm], "data")
        assert dataclasses.replace(sizes[arm], seed_root=attention[arm].seed_root) == attention[arm]


def test_an_arm_may_not_differ_in_more_than_the_ablation_varies():
    """Two registry entries of different families differ in dropout too: a second difference within the axis."""
    sizes = load_ablation("decoder_size")
    mixed = (*sizes.arms["smoke"][:-1], Arm(name="large", variants={"decoder": "self_1x192"}))
    with refused(r"arm 'large' has decoder.dropout 0.1 and the base 0.0; it may differ in"):
        check_ablation(dataclasses.replace(sizes, arms={"smoke": mixed}))
    attention = load_ablation("decoder_attention")
    deeper = tuple(
        dataclasses.replace(arm, variants={**arm.variants, "decoder": "self_4x128"})
        if arm.name == "self_least"
        else arm
        for arm in attention.arms["smoke"]
    )
    with refused("arm 'self_least' has decoder.layers 4 and the base 2"):
        check_ablation(dataclasses.replace(attention, arms={"smoke": deeper}, replicates={}))


@pytest.mark.parametrize("profile", PROFILES)
def test_data_scale_has_encoders_of_rising_size(profile):
    named = {arm.name: arm.variants["encoder"] for arm in load_ablation("data_scale").arms[profile]}
    with torch.device("meta"):
        encoders = [ImageEncoder(resolve("encoder", named[arm])) for arm in ("small_all", "base", "large_all")]
    small, base, large = (sum(each.numel() for each in encoder.parameters()) for encoder in encoders)
    assert 1.3 * small < base and 1.3 * base < large


def test_an_amount_of_more_images_than_there_are_is_refused(tmp_path):
    with refused("exceeds the profile's 24"):
        make_study(tmp_path, load_ablation("decoder_attention"))


def test_decoder_attention_compares_at_equal_layers_and_equal_parameters(tmp_path):
    study = make_study(tmp_path, load_ablation("decoder_attention"), SMOKE, replicates=1)
    base, cross, matched, least = (
        run_of(study, arm).spec for arm in ("base", "cross_all", "matched_all", "self_least")
    )
    decoders = [spec.variants["decoder"] for spec in (base, cross, matched, least)]
    assert [each.attention for each in decoders] == ["self", "cross", "cross", "self"]
    assert decoders[1].ffn == decoders[0].ffn > decoders[2].ffn and decoders[3] == decoders[0]
    assert least.data.train_images * 4 == base.data.train_images


def test_an_ablation_has_its_own_start_and_data_where_neither_is_named(tmp_path):
    words = ("run", "adaptation", "--profile", "smoke", "--dry-run", "--work-dir", str(tmp_path))
    plain = call(*words)
    assert "adaptation.smoke.scenes-shifted+start-" in plain.stdout, plain.stderr
    assert plain.stdout == call(*words, "--start", "scenes-captioner", "--data", "scenes-shifted").stdout
    assert "adaptation.smoke.scenes+start-" in call(*words, "--start", "scenes-captioner").stdout
    assert "name it with --start WEIGHTS" in error_of(*words, "--data", "scenes")


def test_an_ablation_of_one_task_is_asked_of_that_alone(tmp_path):
    file = tmp_path / "answers.py"
    text = resource("ablations/_template.py").read_text(encoding="utf-8").replace("_template", "answers")
    text = text.replace('    axis="decoder",', '    axis="decoder",\n    task="vqa",').replace('"cpu": (', '"smoke": (')
    file.write_text(text, encoding="utf-8")
    words = ("run", str(file), "--profile", "smoke", "--dry-run", "--work-dir", str(tmp_path / "work"))
    for asked in ((), ("--task", "vqa")):
        result = call(*words, *asked)
        assert result.returncode == 0 and "answers.smoke.scenes-vqa" in result.stdout, result.stderr
    assert "--task read: answers can be asked of the task vqa alone: leave --task out" in error_of(
        *words, "--task", "read"
    )
    with refused("unknown task 'vqaa'"):
        check_ablation(dataclasses.replace(load_ablation("decoder_size"), task="vqaa"))
