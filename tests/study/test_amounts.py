"""Amounts of data: nested, with one vocabulary, crossed with a second axis, and run from end to end."""

import dataclasses

import pandas as pd
import pytest
from helpers_study import TINY, make_study, run_of, tiny_profile

import gitbench
from gitbench.ablations import load_ablation
from gitbench.commands.report import make_report
from gitbench.data import open_source
from gitbench.data.tokenizer import tokenizer_for
from gitbench.errors import GitbenchError
from gitbench.launch.scheduling import launch
from gitbench.profiles import SMOKE
from gitbench.spec import Arm
from gitbench.study.store import Study
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
    crossed = make_study(tmp_path, CROSSED, profile_of(40))
    plain = make_study(tmp_path, TINY, profile_of(40))
    assert run_of(crossed, "base").key == run_of(plain, "base").key
    assert len({run.run_key for run in crossed.plan.runs}) == 4  # and every other arm is a run of its own


def test_less_data_keeps_the_vocabulary_and_takes_the_first_images(tmp_path):
    less = run_of(make_study(tmp_path, CROSSED, profile_of(40)), "less").spec
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
        make_study(tmp_path, CROSSED, profile_of(24))


def test_decoder_attention_compares_at_equal_layers_and_equal_parameters(tmp_path):
    study = make_study(tmp_path, load_ablation("decoder_attention"), SMOKE, replicates=1)
    base, cross, matched, least = (
        run_of(study, arm).spec for arm in ("base", "cross_all", "matched_all", "self_least")
    )
    decoders = [spec.variants["decoder"] for spec in (base, cross, matched, least)]
    assert [each.attention for each in decoders] == ["self", "cross", "cross", "self"]
    assert decoders[1].ffn == decoders[0].ffn > decoders[2].ffn and decoders[3] == decoders[0]
    assert least.data.train_images * 4 == base.data.train_images


def test_a_crossed_study_runs_and_reports_against_the_amount(tmp_path):
    study = make_study(tmp_path / "w", CROSSED, profile_of(40))
    assert launch(study, plain=True).failed == ()
    frame = gitbench.load_frame(tmp_path / "w")
    amounts = frame[frame.metric == "training_images"].set_index("arm")["value"]
    assert amounts["less"] == 32 and amounts["base"] == amounts["cross"] == 40
    folder = make_report(Study.open(tmp_path / "w", study.name), tmp_path / "out")
    assert "training images" in (folder / "score.svg").read_text()
    assert {"base", "cross", "less"} <= set(pd.read_csv(folder / "table.csv")["arm"])
