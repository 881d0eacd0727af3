"""Run keys: what decides a result enters, what does not stays out."""

import dataclasses

import pytest

from gitbench.errors import GitbenchError
from gitbench.profiles import PROFILES, get_profile
from gitbench.seeding import derive_seed
from gitbench.spec import RunSpec
from gitbench.run_key import run_key
from gitbench.variants import axes, resolve


def spec_of(**changes) -> RunSpec:
    profile = PROFILES["smoke"]
    base = RunSpec(
        encoder=resolve("encoder", profile.encoder),
        decoder=resolve("decoder", profile.decoder),
        vision=resolve("vision", "sighted"),
        data_name="scenes",
        data=profile.data,
        text=profile.text,
        train=profile.train,
        evaluate=profile.evaluate,
        replicate=0,
        variant_names={"decoder": profile.decoder},
    )
    return dataclasses.replace(base, **changes)


def test_key_ignores_names_workers_and_checkpoint_interval():
    spec = spec_of()
    same = spec_of(
        variant_names={"decoder": "another name"},
        data_name="a path",
        data=dataclasses.replace(spec.data, workers=7),
        train=dataclasses.replace(spec.train, checkpoint_every=3),
    )
    assert run_key(spec, "d") == run_key(same, "d")


@pytest.mark.parametrize(
    "change",
    [
        {"replicate": 1},
        {"cfg_options": {"model.decoder.layers": 3}},
        {"vision": resolve("vision", "blind")},
        {"train": dataclasses.replace(PROFILES["smoke"].train, lr_encoder=1.0)},
        {"data": dataclasses.replace(PROFILES["smoke"].data, train_images=5)},
    ],
)
def test_key_changes_with_what_decides_the_result(change):
    assert run_key(spec_of(), "d") != run_key(spec_of(**change), "d")


def test_key_changes_with_the_data():
    assert run_key(spec_of(), "d") != run_key(spec_of(), "e")


def test_seeds_differ_by_every_part_and_repeat():
    seeds = {derive_seed("data", r, i) for r in range(10) for i in range(10)}
    assert len(seeds) == 100
    assert derive_seed("a", 1) == derive_seed("a", 1) != derive_seed("a1")


def test_every_profile_keeps_the_papers_ratio_of_learning_rates():
    for profile in PROFILES.values():
        assert profile.train.lr_decoder / profile.train.lr_encoder == pytest.approx(5.0), profile.name


def test_paper_profile_has_the_papers_values():
    paper = get_profile("paper")
    assert (paper.train.lr_encoder, paper.train.lr_decoder) == (1e-5, 5e-5)  # p. 6
    decoder = resolve("decoder", paper.decoder)
    assert (decoder.layers, decoder.width, decoder.heads, decoder.ffn, decoder.dropout) == (
        6,
        768,
        12,
        3072,
        0.1,
    )  # Table 11
    encoder = resolve("encoder", paper.encoder)
    assert (encoder.width, encoder.layers, encoder.heads, encoder.patch, encoder.image_size) == (768, 12, 12, 16, 224)


@pytest.mark.parametrize(
    ("call", "near"),
    [
        (lambda: get_profile("smok"), "smoke"),
        (lambda: resolve("decoder", "self_6x76"), "self_6x768"),
        (lambda: resolve("decodr", "x"), "decoder"),
    ],
)
def test_unknown_names_offer_the_nearest(call, near):
    with pytest.raises(GitbenchError, match=f"did you mean '{near}'"):
        call()


def test_variants_cover_their_axes():
    assert {"encoder", "decoder", "vision"} <= set(axes())
