"""What a run needs of a GPU: the formula against steps of real models that are counted, and what finished runs measured."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from helpers_errors import refused
from helpers_study import make_study, tiny_ablation, tiny_profile
from helpers_tools import load_tool

from gitbench.commands.printing import print_memory
from gitbench.data.base import texts_of
from gitbench.data.tasks import open_task
from gitbench.data.tokenizer import tokenizer_for
from gitbench.gpu_check.sizes import base_spec
from gitbench.machine import Gpu
from gitbench.models import cache, parameter_counts
from gitbench.plan import Vocabulary
from gitbench.profiles import FINETUNE, GPU, SMOKE
from gitbench.run_folder import RECORD_SCHEMA
from gitbench.spec import Compute
from gitbench.study import memory
from gitbench.study.config import make_config
from gitbench.study.memory import (
    CONTEXT_GIB,
    FRAGMENTATION,
    GIB,
    captioning_bytes,
    fit,
    fit_plan,
    fits_card,
    frozen_features_bytes,
    measured_gib,
    parameters,
    peak_bytes,
    planned_gib,
    pretraining_bytes,
    training_bytes,
    with_allowances,
)
from gitbench.study.plan_file import plan_from_json, plan_to_json
from gitbench.study.store import Study
from gitbench.training import frozen
from gitbench.variants import AXES

BF16 = Compute(device="cuda", precision="bfloat16")
TOKENS = 64  # of all texts of an image
IMAGES = 64  # of a training batch


@pytest.fixture
def configs(tmp_path):
    """Return the function that gives the config of a smoke run with a variant: `configs(axis, variant)`."""

    def config(axis: str, variant: str):
        study = make_study(tmp_path, tiny_ablation(axis, variant))
        base = next(run for run in study.plan.runs if run.arm == "base")
        made = make_config(base.resolved, study.plan.vocabulary, base.run_key)
        made["train_dataloader"]["batch_size"] = IMAGES
        return made

    return config


def counted(config, b: int) -> int:
    return load_tool("cuda_memory").training_peak(config, TOKENS, torch.bfloat16 if b == 2 else torch.float32)


@pytest.mark.parametrize(
    ("axis", "variant", "b"),
    [
        ("decoder", "self_2x64", 2),
        ("decoder", "self_2x384", 4),
        ("decoder", "cross_2x384_matched", 2),
        ("encoder", "vit_4x96_p8_64", 4),
        ("encoder_training", "frozen", 2),
        ("vision", "blind", 2),
    ],
)
def test_the_formula_gives_what_a_training_step_holds_within_3_percent(configs, axis, variant, b):
    config = configs(axis, variant)
    assert training_bytes(config, TOKENS, b) == pytest.approx(counted(config, b), rel=0.03)


@pytest.mark.parametrize(("micro", "again"), [(0, True), (8, False), (5, True)])
@pytest.mark.parametrize(
    ("axis", "variant", "b"),
    [
        ("decoder", "self_2x384", 2),
        ("decoder", "cross_2x384_matched", 2),
        ("encoder", "vit_4x96_p8_64", 4),
        ("encoder_training", "frozen", 2),
        ("encoder_training", "frozen", 4),
    ],
)
def test_it_gives_what_a_step_in_parts_or_with_checkpointing_holds_within_15_percent(
    configs, axis, variant, b, micro, again
):
    config = configs(axis, variant)
    whole = counted(config, b)
    config["compute"].update(micro_batch=micro, checkpointing=again)
    found = counted(config, b)
    assert found < whole
    assert training_bytes(config, TOKENS, b) == pytest.approx(found, rel=0.15)


def test_what_is_not_trained_has_no_gradient_and_no_moments(configs):
    config = configs("decoder", "self_2x384")
    fewer = training_bytes(config, TOKENS, 2, trained=sum(parameters(config)[:2]) - 1000)
    assert training_bytes(config, TOKENS, 2) - fewer == 8 * 1000  # gradients come when what is kept is gone


def paper(encoder: str, pixels: int):
    """Return the config of the paper's fine-tuning of a released model."""
    bert = Vocabulary(size=30522, pad_id=0, bos_id=101, eos_id=102)
    config = make_config(base_spec(FINETUNE, {"encoder": encoder, "decoder": "self_6x768"}), bert, "none")
    config["train_dataloader"]["dataset"]["data_spec"]["image_size"] = pixels
    return config


def with_choice(config, micro: int, again: bool):
    return {**config, "compute": {**config["compute"], "micro_batch": micro, "checkpointing": again}}


@pytest.mark.parametrize(
    ("encoder", "pixels", "gib", "expected"),
    [
        ("vit_b16", 224, 16, (0, False)),
        ("vit_b16", 384, 8, (11, False)),
        ("vit_b16", 480, 8, (22, True)),
        ("vit_l14", 476, 24, (11, False)),
        ("vit_l14", 224, 8, (2, True)),
    ],
)
def test_the_largest_part_of_a_batch_that_fits_is_found(encoder, pixels, gib, expected):
    """GIT-base within 8 GB and GIT-large within 24, at the sizes of fine-tuning."""
    config = paper(encoder, pixels)
    micro, again = fit(config, 80, 2, gib)
    assert (micro, again) == expected
    need = with_allowances(peak_bytes(with_choice(config, micro, again), 80, 2))
    assert need <= gib
    if micro:
        parts = -(-64 // micro)
        larger = with_choice(config, -(-64 // (parts - 1)) if parts > 2 else 0, again)
        assert with_allowances(peak_bytes(larger, 80, 2)) > gib


def test_where_nothing_fits_what_is_needed_is_said():
    with refused(r"--memory 6: 10\.2 GiB are needed to train one image at a time with checkpointing, and to caption"):
        fit(paper("vit_l14", 476), 80, 2, 6)


def test_all_arms_of_a_plan_are_trained_alike(tmp_path):
    profile = tiny_profile(batch_images=24)
    plan = make_study(tmp_path, tiny_ablation("decoder", "self_2x64", "self_2x384"), profile, compute=BF16).plan
    needs = {run.arm: planned_gib(plan, run) for run in plan.runs}
    assert fit_plan(plan, 8) == (0, False)
    assert needs["base"] < 0.99 * needs["self_2x384"]
    assert fit_plan(plan, 0.99 * needs["self_2x384"]) == (12, False)  # the smaller one, too


def test_a_run_that_failed_hears_what_fits_by_formula():
    config = paper("vit_b16", 384)
    assert fits_card(config, 8 * GIB) == "; by formula --micro-batch 22 --checkpointing fits"
    assert fits_card(config, 80 * GIB) == ""  # it should have fitted
    assert fits_card(with_choice(config, 4, False), 8 * GIB) == ""
    assert "GiB are needed to train one image" in fits_card(config, 2 * GIB)


@pytest.mark.parametrize("decoder", ["self_2x96", "cross_2x96"])
def test_it_counts_every_parameter(configs, decoder):
    config = configs("decoder", decoder)
    config["model"]["num_frames"] = 3
    tool = load_tool("cuda_memory")
    counts = parameter_counts(tool._git(config, "meta")[0])
    encoder, rest, _ = parameters(config)
    assert (encoder, encoder + rest) == (counts["encoder"], counts["total"])


def test_it_gives_what_captioning_holds_within_15_percent(configs):
    config = configs("decoder", "self_2x96")
    config["model"]["generation"].update(beam_size=4, max_length=40)
    config["test_dataloader"]["batch_size"] = 4
    moments = 8 * sum(parameters(config)[:2])
    found = load_tool("cuda_memory").captioning_peak(config, TOKENS, 4)
    assert captioning_bytes(config, TOKENS) - moments == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize("start", ["contrastive", "supervised", "masked"])
def test_it_gives_what_pre_training_holds_within_10_percent(configs, start):
    config = configs("encoder_init", start)
    config["model"]["encoder_init"].update(content=None)
    config["model"]["encoder_init"]["recipe"].update(batch_images=64)
    own = 4 * sum(parameters(config)[:2])
    found = load_tool("cuda_memory").pretraining_peak(config, torch.bfloat16)
    assert pretraining_bytes(config, 2) - own == pytest.approx(found, rel=0.1)


def test_cuda_graphs_hold_the_memory_of_a_step_beside_that_of_a_plain_one(configs):
    """So what is added is all that a step holds but weights, moments and their copies: what doubles with its texts."""
    config = configs("decoder", "self_2x64")
    plain = [training_bytes(config, tokens, 2) for tokens in (TOKENS, 2 * TOKENS)]
    config["compute"]["cuda_graph"] = True
    graphed = [training_bytes(config, tokens, 2) for tokens in (TOKENS, 2 * TOKENS)]
    assert graphed[1] - graphed[0] == pytest.approx(2 * (plain[1] - plain[0]))
    assert plain[0] < graphed[0] < 2 * plain[0]


def test_the_fullest_moment_counts(configs):
    config = configs("decoder", "self_2x64")
    few, many = (dict(config["test_dataloader"], batch_size=images) for images in (1, 500))
    training = training_bytes(config, TOKENS, 2)
    assert peak_bytes({**config, "test_dataloader": few}, TOKENS, 2) == training
    assert peak_bytes({**config, "test_dataloader": None}, TOKENS, 2) == training  # a tuning run
    assert peak_bytes({**config, "test_dataloader": many}, TOKENS, 2) > training


def test_pre_training_counts_for_the_run_that_makes_an_encoder_which_does_not_ship(tmp_path):
    study = make_study(tmp_path, tiny_ablation("encoder_init", "contrastive", "random"))
    base, random, *_ = study.plan.runs
    assert planned_gib(study.plan, base) == planned_gib(study.plan, base, pretrains=True)  # it ships
    recipe = dataclasses.replace(SMOKE.pretraining, batch_images=4000)
    init = dataclasses.replace(base.resolved.variants["encoder_init"], recipe=recipe, content=None)
    variants = {**base.resolved.variants, "encoder_init": init}
    made = dataclasses.replace(base, spec=dataclasses.replace(base.resolved, variants=variants))
    assert planned_gib(study.plan, made) < planned_gib(study.plan, made, pretrains=True)
    assert planned_gib(study.plan, random) == planned_gib(study.plan, random, pretrains=True)


def test_features_that_a_frozen_encoder_keeps_on_the_card_count(configs):
    config = configs("encoder_training", "frozen")
    features = frozen_features_bytes(config, 2)
    assert features == 65 * 64 * (
        2 * 24 + 4 * 4
    )  # tokens, width, images of training and validation and bytes of a number
    assert peak_bytes(config, TOKENS, 2) == features + training_bytes(config, TOKENS, 2)
    config["train_dataloader"]["dataset"]["data_spec"].update(train_images=None)
    assert frozen_features_bytes(config, 2) == 2 * GIB + 65 * 64 * 4 * 4
    assert (
        frozen_features_bytes(configs("vision", "blind"), 2)
        == 0
        == frozen_features_bytes(configs("decoder", "self_1x64"), 2)
    )


def test_the_limit_of_these_features_is_one_and_leaves_room_for_all_of_the_gpu_profile():
    encoder = AXES["encoder"].resolve(GPU.variants["encoder"])
    tokens = 1 + (encoder.image_size // encoder.patch) ** 2
    assert (GPU.data.train_images, tokens, encoder.width) == (30_000, 65, 384)
    assert memory.FEATURE_LIMIT == frozen.FEATURE_LIMIT >= 30_000 * 65 * 384 * 2  # in bfloat16


def test_overridden_sizes_count(tmp_path):
    usual, doubled = (
        make_study(tmp_path, cfg_options=options) for options in ({}, {"train_dataloader.batch_size": 400})
    )
    needs = [planned_gib(study.plan, study.plan.runs[0]) for study in (usual, doubled)]
    assert needs[0] < needs[1]


def test_the_most_that_finished_runs_of_an_arm_held_on_such_a_card_is_known(tmp_path):
    study = make_study(tmp_path, replicates=3)
    base, *later = (run for run in study.plan.runs if run.arm == "base")

    def finish(run, device: str, gib: float, spec: dict | None = None) -> None:
        folder = study.folder(run.run_key)
        folder.path.mkdir(parents=True, exist_ok=True)
        cost = {"device": device, "peak_memory_bytes": gib * GIB, "seconds": 1.0}
        folder.per_image.touch()
        record = {"schema": RECORD_SCHEMA, "run_key": run.run_key, "metrics": {"CIDEr": {"value": 1.0}}, "cost": cost}
        folder.record.write_text(json.dumps({**record, "spec": spec or {}, "train": {}}))

    finish(base, "cpu", 7.0)
    assert measured_gib(study, {"T4"}) == {}
    for run, gib in zip(later, (5.0, 4.0), strict=True):
        finish(run, "T4", gib)
    again = Study(study.work_dir, study.plan)
    assert measured_gib(again, {"T4"}) == {"base": 5.0 * FRAGMENTATION + CONTEXT_GIB}
    assert measured_gib(again, {"H100"}) == {}
    finish(base, "T4", 9.0, {"compute": {"device": "cuda", "cuda_graph": True}})
    assert measured_gib(Study(study.work_dir, study.plan), {"T4"}) == {"base": 5.0 * FRAGMENTATION + CONTEXT_GIB}


def test_a_plan_knows_how_long_texts_are_and_one_of_an_earlier_version_takes_the_longest_there_may_be(tmp_path):
    plan = make_study(tmp_path).plan
    spec = plan.runs[0].resolved
    source = open_task("scenes", "train", spec.data.train_images, spec.task)
    words = tokenizer_for(spec.text, source)
    lengths = [
        sum(1 + len(words.encode(text.target, spec.text.max_tokens)) for text in texts_of(source, index))
        for index in range(len(source))
    ]
    assert plan.text_tokens == max(lengths)
    earlier = {**plan_to_json(plan), "gpu_gib": 8.0}
    del earlier["text_tokens"]
    read = plan_from_json(json.loads(json.dumps(earlier)))
    assert read.text_tokens == 0
    longest = planned_gib(dataclasses.replace(read, runs=plan.runs), plan.runs[0])
    assert longest > planned_gib(plan, plan.runs[0]) > CONTEXT_GIB


def test_the_search_makes_room_for_as_many_steps_as_the_formula_says():
    assert memory.STEPS_AHEAD == cache.STEPS_AHEAD


def test_a_dry_run_says_what_fits_where_a_card_here_has_less(tmp_path, monkeypatch, capsys):
    profile = tiny_profile(batch_images=24)
    study = make_study(tmp_path, tiny_ablation("decoder", "self_2x384"), profile, compute=BF16)
    need = planned_gib(study.plan, study.plan.runs[0])

    def said(gib: float) -> str:
        card = Gpu(uuid="GPU", name="Small card", free_gib=gib, total_gib=gib, capability=(8, 6))
        monkeypatch.setattr("gitbench.machine.gpus", lambda: (card,))
        print_memory(study)
        return capsys.readouterr().out

    assert "mind" not in said(8) and f"base: about {need:.1f} GiB a run" in said(8)
    assert "into which it fits with --micro-batch 12, or --memory" in said(0.99 * need)
    assert "mind: a GPU here has 0.7 GiB: " in said(0.66) and "to train one image at a time" in said(0.66)
