"""Amounts of data: nested, with one vocabulary, crossed with a second axis, and run from end to end."""

import dataclasses

import pandas as pd
import pytest
from conftest import TINY, tiny_profile

import gitbench
from gitbench.ablations import load_ablation
from gitbench.commands.publish import publish
from gitbench.data import open_source
from gitbench.data.tokenizer import tokenizer_for
from gitbench.errors import GitbenchError
from gitbench.launch.scheduling import launch
from gitbench.profiles import PROFILES, SMOKE
from gitbench.spec import Arm
from gitbench.study.plan import make_plan
from gitbench.training.data import CaptionData

CROSSED = dataclasses.replace(
    TINY,
    crossed_with="amount",
    arms={
        "smoke": (
            Arm(name="base", variants={"decoder": "self_2x64", "amount": "all"}),
            Arm(name="cross", variants={"decoder": "cross_2x64", "amount": "all"}),
            Arm(name="less", variants={"decoder": "self_2x64", "amount": "n32"}),
        )
    },
)


def profile_of(images: int):
    profile = tiny_profile()
    return dataclasses.replace(profile, data=dataclasses.replace(profile.data, train_images=images))


def test_all_of_the_data_is_the_plain_run(tmp_path):
    crossed = make_plan(CROSSED, profile_of(40), "scenes", tmp_path)
    plain = make_plan(TINY, profile_of(40), "scenes", tmp_path)
    keys = {run.arm.name: run.key for run in crossed.runs}
    assert keys["base"] == next(run.key for run in plain.runs if run.arm.name == "base")
    assert len(set(keys.values())) == 4  # and every other arm is a run of its own


def test_less_data_keeps_the_vocabulary_and_takes_the_first_images(tmp_path):
    plan = make_plan(CROSSED, profile_of(40), "scenes", tmp_path)
    less = next(run.spec for run in plan.runs if run.arm.name == "less")
    assert (less.data.train_images, less.data.vocabulary_images) == (32, 40)
    sizes = {key: value for key, value in dataclasses.asdict(less.data).items() if key != "workers"}
    data = CaptionData(
        data="scenes", split="train", data_spec=sizes, text_spec=dataclasses.asdict(less.text), seed=1, captions_per_image=1
    )  # fmt: skip
    assert len(data) == 32
    assert data.tokenizer.fingerprint() == tokenizer_for(less.text, open_source("scenes", "train", 40)).fingerprint()
    everything = open_source("scenes", "train", 40)
    assert [data.source.image_id(i) for i in range(32)] == [everything.image_id(i) for i in range(32)]


def test_more_than_there_is_is_refused(tmp_path):
    with pytest.raises(GitbenchError, match="exceeds the profile's 24"):
        make_plan(CROSSED, profile_of(24), "scenes", tmp_path)


def test_decoder_attention_compares_at_equal_layers_and_equal_parameters(tmp_path):
    plan = make_plan(load_ablation("decoder_attention"), SMOKE, "scenes", tmp_path, replicates=1)
    specs = {run.arm.name: run.spec for run in plan.runs}
    assert specs["base"].decoder.attention == "self" and specs["cross_all"].decoder.attention == "cross"
    assert specs["cross_all"].decoder.ffn == specs["base"].decoder.ffn > specs["matched_all"].decoder.ffn
    assert specs["self_least"].data.train_images * 4 == specs["base"].data.train_images
    assert specs["self_least"].decoder == specs["base"].decoder


def test_the_cpu_amounts_span_a_factor_of_ten():
    arms = load_ablation("decoder_attention").arms["cpu"]
    amounts = {arm.variants["amount"] for arm in arms}
    assert amounts == {"n300", "n1500", "all"} and PROFILES["cpu"].data.train_images / 300 >= 10


def test_a_crossed_study_runs_and_reports_against_the_amount(tmp_path):
    plan = make_plan(CROSSED, profile_of(40), "scenes", tmp_path / "w")
    assert launch(plan, "test", plain=True).failed == ()
    frame = gitbench.load_frame(tmp_path / "w")
    amounts = frame[frame.metric == "training_images"].set_index("arm")["value"]
    assert amounts["less"] == 32 and amounts["base"] == amounts["cross"] == 40
    folder = publish(plan.work_dir, plan.study, tmp_path / "out")
    assert "training images" in (folder / "score.svg").read_text()
    assert {"base", "cross", "less"} <= set(pd.read_csv(folder / "table.csv")["arm"])
