"""Run keys: what decides a result enters, what does not stays out."""

import dataclasses
import json

import pytest

from gitbench.errors import GitbenchError
from gitbench.profiles import PROFILES, get_profile
from gitbench.run_key import canonical, from_json, run_key
from gitbench.seeding import derive_seed
from gitbench.spec import RunSpec
from gitbench.variants import AXES, get_axis, resolve


def spec_of(variants=None, **changes) -> RunSpec:
    profile = PROFILES["smoke"]
    names = {"encoder": "", "decoder": "", "vision": "sighted", "encoder_init": "random", **profile.variants}
    specs = {axis: resolve(axis, name) for axis, name in names.items()}
    base = RunSpec(
        variants={**specs, **(variants or {})},
        data=profile.data,
        text=profile.text,
        train=profile.train,
        evaluate=profile.evaluate,
        replicate=0,
        variant_names=names,
    )
    return dataclasses.replace(base, **changes)


def test_the_key_of_a_pinned_run_is_what_it_was():
    """A changed key means that every finished run is trained again: raise NUMERICS_VERSION instead, on purpose."""
    assert run_key(spec_of(), "data") == "1b230e4a6daa4a22"


def test_a_field_at_its_default_never_enters_a_key():
    spec = spec_of()
    more = spec_of({"decoder_init": resolve("decoder_init", "random"), "amount": resolve("amount", "all")})
    explicit = dataclasses.replace(spec, text=dataclasses.replace(spec.text, subset=False), cfg_options={})
    assert run_key(spec, "d") == run_key(more, "d") == run_key(explicit, "d")
    found = canonical(spec)
    assert found["variants"].keys() == {"encoder", "decoder"} and "task" not in found
    assert "workers" not in found["data"] and "checkpoint_every" not in found["train"]


@pytest.mark.parametrize("axis", sorted(AXES))
def test_every_field_of_every_axis_decides_a_key_unless_it_says_otherwise(axis):
    spec_type, some = AXES[axis].spec, next(iter(AXES[axis].variants.values()))
    plain = canonical({"axis": some})
    for field in dataclasses.fields(spec_type):
        if field.name == "recipe":
            continue
        value = getattr(some, field.name)
        other = (
            (not value) if isinstance(value, bool) else f"other {value}" if isinstance(value, str) else (value or 0) + 3
        )
        changed = canonical({"axis": dataclasses.replace(some, **{field.name: other})})
        assert (changed != plain) == field.metadata.get("keyed", True), field.name


def test_a_spec_survives_json():
    spec = spec_of(cfg_options={"model.decoder.layers": 3}, data=PROFILES["paper"].data)
    values = json.loads(json.dumps(dataclasses.asdict(spec)))
    again = from_json(RunSpec, values)
    specs = {axis: from_json(AXES[axis].spec, value) for axis, value in again.variants.items()}
    assert dataclasses.replace(again, variants=specs) == spec
    with pytest.raises(TypeError, match="RunSpec has no field nothing"):
        from_json(RunSpec, {**values, "nothing": 1})


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
        {"variants": {"vision": resolve("vision", "blind")}},
        {"train": dataclasses.replace(PROFILES["smoke"].train, lr_encoder=1.0)},
        {"data": dataclasses.replace(PROFILES["smoke"].data, train_images=5)},
    ],
)
def test_key_changes_with_what_decides_the_result(change):
    assert run_key(spec_of(), "d") != run_key(spec_of(**change), "d")
    assert run_key(spec_of(**change), "d") != run_key(spec_of(**change), "e")


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
    decoder = resolve("decoder", paper.variants["decoder"])
    table_11 = (6, 768, 12, 3072, 0.1)
    assert (decoder.layers, decoder.width, decoder.heads, decoder.ffn, decoder.dropout) == table_11
    encoder = resolve("encoder", paper.variants["encoder"])
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


def test_an_axis_builds_nested_specs_from_a_config_and_names_values_of_another_kind():
    start = get_axis("encoder_init")
    spec = dataclasses.replace(start.variants["contrastive"], recipe=PROFILES["smoke"].pretraining)
    plain = json.loads(json.dumps(dataclasses.asdict(spec)))
    assert start.build("contrastive", **plain) == spec == start.build("gone_since", **plain)
    assert start.build("contrastive", recipe=plain["recipe"]) == spec
    for values, said in (
        ({"source": "foo"}, "source is 'foo'"),
        ({"recipe": {**plain["recipe"], "iterations": "3"}}, "iterations is '3'"),
        ({"sorce": "file"}, "unknown field of encoder_init/contrastive 'sorce': did you mean 'source'"),
    ):
        with pytest.raises(GitbenchError, match=said):
            start.build("contrastive", **values)
