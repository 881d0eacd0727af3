"""The single-difference proof: honest studies pass and are told so, every planted second difference is refused."""

import copy
import dataclasses
from pathlib import Path

import pytest
from helpers_errors import refused
from helpers_study import Run, make_study, run_of, tiny_ablation

from gitbench.ablations import ablation_files, load_ablation
from gitbench.launch.prove import axes_of, is_proven, prove
from gitbench.launch.scheduling import launch, prepare_images
from gitbench.processes import start_context
from gitbench.profiles import SMOKE
from gitbench.study.config import make_config
from gitbench.study.proof import (
    ABSENT,
    Change,
    SecondDifference,
    compare_arm,
    compare_configs,
    compare_data,
    compare_tensors,
)
from gitbench.study.start import started
from gitbench.study.store import Study
from gitbench.training.fingerprints import fingerprint
from gitbench.training.start import described


def with_arm(study: Study, name: str, change) -> Study:
    """Return the study with the specs of one arm changed, keys and folders as they were."""
    runs = (dataclasses.replace(run, spec=change(run.spec)) if run.arm == name else run for run in study.plan.runs)
    return Study(study.work_dir, dataclasses.replace(study.plan, runs=tuple(runs)))


def of_run(**changes):
    """Return a change of a spec: other values of its fields."""
    return lambda spec: dataclasses.replace(spec, **changes)


def of_part(part: str, **changes):
    """Return a change of a spec: other values within `part`, for example its training."""
    return lambda spec: dataclasses.replace(spec, **{part: dataclasses.replace(getattr(spec, part), **changes)})


def of_axis(axis: str, **changes):
    """Return a change of a spec: other values in one axis."""
    return lambda spec: dataclasses.replace(
        spec, variants={**spec.variants, axis: dataclasses.replace(spec.variants[axis], **changes)}
    )


def config_of(study: Study, arm: str, **options) -> dict:
    run: Run = run_of(study, arm)
    spec = dataclasses.replace(run.spec, cfg_options={key.replace("__", "."): value for key, value in options.items()})
    return make_config(spec, study.plan.vocabulary, run.key).to_dict()


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    study = make_study(tmp_path_factory.mktemp("proof"))
    prepare_images(study.plan)
    return study


@pytest.fixture(scope="module")
def base(study) -> dict:
    return fingerprint(config_of(study, "base"), [12])


# ---- honest studies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ablation_files()))
def test_every_ablation_of_the_repository_is_proven(name, tmp_path):
    profile = started(SMOKE, described(Path("scenes-captioner"))) if name == "adaptation" else SMOKE
    study = make_study(tmp_path, load_ablation(name), profile, replicates=1)
    prepare_images(study.plan)
    proof = prove(study, start_context())
    assert {arm.arm for arm in proof.arms} == {run.arm for run in study.plan.runs} - {"base"}
    assert Study(study.work_dir, study.plan).proof == proof and is_proven(study)
    for arm in proof.arms:
        same = arm.arm == "everything_time"  # as many steps take as long: it is the base's run
        assert bool(arm.config and arm.varied) is not same and arm.shared > 20
        assert arm.batches_equal == ("amount" not in arm.varied)
    floor = next(arm for arm in proof.arms if arm.arm == "blind")
    assert floor.varied == ("vision",) and not floor.shapes and not floor.training


def test_what_an_arm_changes_is_listed_and_the_rest_is_counted(study, base):
    small = fingerprint(config_of(study, "small"), [12])
    found = compare_arm("small", ("decoder",), (config_of(study, "base"), config_of(study, "small")), (base, small))
    assert {change.what for change in found.config} == {"model.decoder.type", "model.decoder.layers"}
    assert found.shapes and all(change.what.startswith("decoder.layers.1.") for change in found.shapes)
    assert all(change.arm == ABSENT for change in found.shapes)
    assert found.shared == len(small["tensors"]) == len(base["tensors"]) - len(found.shapes)
    assert found.batches_equal and found.train_images == found.shared_images == 24


def test_replicates_differ_in_everything_that_a_seed_decides(study, base):
    """Else the equality of two arms of one replicate would prove nothing."""
    spec = dataclasses.replace(run_of(study, "base").spec, replicate=1)
    other = fingerprint(make_config(spec, study.plan.vocabulary, "k").to_dict(), [12])
    drawn = [name for name in base["tensors"] if name.endswith("weight") and "norm" not in name and ".1.w" not in name]
    assert drawn and all(base["tensors"][name]["hash"] != other["tensors"][name]["hash"] for name in drawn)
    assert base["dropout_seed"] != other["dropout_seed"]
    assert base["batches"]["training batch 1"] != other["batches"]["training batch 1"]
    assert base["batches"]["training batch 1"]["images"] != base["batches"]["training batch 2"]["images"]
    assert base["batches"]["test batch 1"] == other["batches"]["test batch 1"]


def test_pre_training_is_not_run_and_what_it_will_set_is_counted(tmp_path, monkeypatch):
    study = make_study(tmp_path, load_ablation("encoder_init"))
    monkeypatch.setattr("gitbench.training.encoder_init.pretrained_encoder", lambda *_: pytest.fail("pre-trained"))
    pair = [fingerprint(config_of(study, arm), []) for arm in ("base", "random")]
    found = compare_tensors(*pair, ["encoder_init"])
    encoder = [name for name in pair[0]["tensors"] if name.startswith("encoder.")]
    assert found["set_by_axis"] == len(encoder) > 10 and found["shared"] == len(pair[0]["tensors"])


# ---- planted second differences, through the whole program ------------------------------------------------------

PLANTED = {
    "another learning rate": (of_part("train", lr_decoder=0.004), r"paramwise_cfg.lr_decoder is 0.004, not 0.002"),
    "another number of iterations": (of_part("train", iterations=7), r"train_cfg.max_iters is 7, not 6"),
    "fewer test images": (of_part("data", test_images=4), r"data_spec.test_images is 4, not 6"),
    "less training data": (of_part("data", train_images=12), r"data_spec.train_images is 12, not 24"),
    "another axis": (of_axis("vision", blind=True), r"model.vision.blind is True, not False"),
    "another encoder": (of_axis("encoder", width=32, heads=2), r"model.encoder.width is 32, not 64"),
    "another replicate": (of_run(replicate=3), r"seed is \d+, not \d+"),
    "other initial values": (of_run(cfg_options={"model.init_seed": 5}), r"model.init_seed is 5, not \d+"),
    "another order of the data": (of_run(cfg_options={"train_dataloader.dataset.seed": 5}), r"seed is 5, not \d+"),
}


@pytest.mark.parametrize("planted", list(PLANTED))
def test_a_second_difference_stops_the_study_before_anything_is_trained(planted, tmp_path):
    change, message = PLANTED[planted]
    study = with_arm(make_study(tmp_path), "small", change)
    with refused(rf"^tiny: arm 'small' differs .* its decoder .*{message}"):
        launch(study, plain=True)
    assert not list(tmp_path.rglob("*.json")) and not (tmp_path / "runs").exists()


def test_the_floor_is_held_to_the_base_as_well(tmp_path):
    study = make_study(tmp_path, tiny_ablation("decoder", "self_1x64"))  # not the profile's own: the floor has it too
    assert {
        change.what for change in compare_configs(config_of(study, "base"), config_of(study, "blind"), ["vision"])
    } == {
        "model.vision.type",
        "model.vision.blind",
    }
    with refused("arm 'blind' .* its vision .*model.decoder.layers is 2, not 1"):
        launch(with_arm(study, "blind", of_axis("decoder", layers=2)), plain=True)


def test_encoders_of_two_sizes_may_start_from_weights_of_their_own_but_not_in_another_way(study):
    base, large = (config_of(study, "base") for _ in range(2))
    large["model"]["encoder"]["layers"] = 3
    large["model"]["encoder_init"]["content"] = "hash"
    changes = compare_configs(base, large, ["encoder"])
    assert {change.what for change in changes} == {"model.encoder.layers", "model.encoder_init.content"}
    large["model"]["encoder_init"]["recipe"]["iterations"] += 1
    with pytest.raises(SecondDifference, match="model.encoder_init.recipe.iterations"):
        compare_configs(base, large, ["encoder"])


def test_a_difference_in_a_later_replicate_is_found(tmp_path):
    later = of_part("train", warmup=3)
    study = with_arm(
        make_study(tmp_path, replicates=4), "small", lambda spec: later(spec) if spec.replicate == 3 else spec
    )
    with refused(r"\(replicate 3\): param_scheduler.0.warmup is 3, not 2"):
        prove(study, start_context())


def test_options_for_all_arms_alike_are_no_difference(study):
    options = {"model__decoder__dropout": 0.3, "optim_wrapper__clip_grad__max_norm": 0.5, "model__init_seed": 9}
    pair = [config_of(study, arm, **options) for arm in ("base", "small")]
    changes = compare_configs(*pair, ["decoder"])
    assert {change.what for change in changes} == {"model.decoder.type", "model.decoder.layers"}


# ---- planted in what is built: each comparison finds what the configs do not show -------------------------------


def planted(base: dict, change) -> dict:
    other = copy.deepcopy(base)
    change(other)
    return other


def test_other_seeds_show_in_values_and_batches_too(study, base):
    """Without the config's help: what is built with another seed is itself told apart."""
    seeded = fingerprint(config_of(study, "small", model__init_seed=5), [12])
    with pytest.raises(SecondDifference, match="has another initial value"):
        compare_tensors(base, seeded, ["decoder"])
    ordered = fingerprint(config_of(study, "small", train_dataloader__dataset__seed=5), [12])
    assert compare_tensors(base, ordered, ["decoder"])["shared"] > 20
    with pytest.raises(SecondDifference, match="training batch 1 has other images, tokens"):
        compare_data(base, ordered, ["decoder"])


def set_tensor(name: str, **values):
    return lambda other: other["tensors"].setdefault(name, {}).update(values)


def set_batch(name: str, part: str):
    return lambda other: other["batches"][name][part].update(hash="0")


@pytest.mark.parametrize(
    ("change", "axes", "message"),
    [
        (
            lambda other: other["tensors"].pop("encoder.blocks.0.norm1.weight"),
            ["decoder"],
            r"encoder.blocks.0.norm1.weight has shape absent, not \[64\]",
        ),
        (set_tensor("encoder.pos_embed", shape=[1, 1]), ["decoder", "encoder_init"], "encoder.pos_embed has shape"),
        (
            set_tensor("head_bias", training="no training"),
            ["encoder_training"],
            "head_bias has no training, not learning rate 0.002 and weight decay 0.0",
        ),
        (set_tensor("encoder.cls_token", hash="0"), ["encoder_init"], "initial value"),
        (lambda other: other.update(optimizer="other"), ["decoder"], "the optimizer is other"),
        (set_tensor("decoder.more", shape=[2], hash="0", training="rate 9"), ["decoder"], "more has rate 9, which no"),
    ],
)
def test_a_second_difference_in_the_tensors_is_refused(base, change, axes, message):
    with pytest.raises(SecondDifference, match=message):
        compare_tensors(base, planted(base, change), axes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda other: other.update(vocabulary="v"), "vocabulary is v"),
        (lambda other: other.update(dropout_seed=1), "dropout seed is 1"),
        (set_batch("training batch 2", "tokens"), "batch 2 has other tokens"),
        (set_batch("training batch 1", "need_predict"), "other need_predict"),
        (set_batch("test batch 1", "image_ids"), "test batch 1 has other"),
        (lambda other: other.update(train_images=23), "23 training images, not 24"),
    ],
)
def test_a_second_difference_in_the_data_is_refused(base, change, message):
    with pytest.raises(SecondDifference, match=message):
        compare_data(base, planted(base, change), ["decoder"])


def test_less_data_must_be_the_first_images_in_batches_of_one_shape(study, base):
    options = {f"{split}_dataloader__dataset__data_spec__train_images": 12 for split in ("train", "val", "test")}
    options["train_dataloader__dataset__data_spec__vocabulary_images"] = 24
    options["test_dataloader__dataset__data_spec__vocabulary_images"] = 24
    less = fingerprint(config_of(study, "base", **options), [12])
    assert compare_data(base, less, ["amount"]) == dict(train_images=12, shared_images=12, batches_equal=False)
    with pytest.raises(SecondDifference, match="12 training images, not 24"):
        compare_data(base, less, ["decoder"])
    with pytest.raises(SecondDifference, match="first 12 training images are others"):
        compare_data(base, planted(less, lambda other: other["first_images"].update({12: "0"})), ["amount"])
    smaller = planted(less, lambda other: other["batches"]["training batch 1"]["images"].update(shape=[3, 3, 64, 64]))
    with pytest.raises(SecondDifference, match="has images of shape"):
        compare_data(base, smaller, ["amount"])


def test_configs_are_compared_to_the_last_key():
    base = {"experiment_name": "a", "model": {"decoder": {"type": "decoder/a", "layers": 2}, "init_seed": 1}}
    base["model"] |= {"encoder": {"type": "encoder/a"}, "recipe": None, "betas": (0.9, 0.98)}
    base["hooks"] = [{"type": "A", "seed": 1}, {"type": "B"}]
    other = copy.deepcopy(base) | {"experiment_name": "b"}
    other["model"]["encoder"]["type"] = "encoder/b"  # a name, beside the same values
    assert compare_configs(base, other, ["decoder"]) == ()
    other["model"]["decoder"]["layers"] = 3
    assert compare_configs(base, other, ["decoder"]) == (Change(what="model.decoder.layers", base="2", arm="3"),)
    for change, message in (
        (lambda each: each["hooks"][0].update(seed=2), "hooks.0.seed is 2, not 1"),
        (lambda each: each["hooks"].append({"type": "C"}), "hooks.2.type is 'C', not absent"),
        (lambda each: each["model"].update(recipe={"lr": 1}), "model.recipe is absent, not None"),
        (lambda each: each["model"].update(betas=(0.9, 0.99)), r"model.betas is \[0.9, 0.99\]"),
        (lambda each: each["model"].update(type="Other"), "model.type is 'Other', not absent"),
        (lambda each: each["model"].pop("init_seed"), "model.init_seed is absent, not 1"),
    ):
        with pytest.raises(SecondDifference, match=message):
            compare_configs(base, planted(other, change), ["decoder"])


# ---- the file and the report ------------------------------------------------------------------------------------


def test_a_proof_is_of_the_runs_and_axes_that_were_proven(study):
    prove(study, start_context())
    assert is_proven(study) and not is_proven(make_study(study.work_dir, replicates=2))
    assert not is_proven(Study(study.work_dir, dataclasses.replace(study.plan, axis="encoder")))
    study.proof_path.write_text(study.proof_path.read_text()[:100])
    assert not is_proven(Study(study.work_dir, study.plan))


def test_axes_are_those_of_the_study_that_an_arm_names(study, tmp_path):
    plan = study.plan
    assert axes_of(plan, plan.arm("small")) == ("decoder",) and axes_of(plan, plan.arm("blind")) == ("vision",)
    crossed = make_study(tmp_path, load_ablation("decoder_attention"), SMOKE, replicates=1).plan
    assert axes_of(crossed, crossed.arm("cross_all")) == ("decoder", "amount")


def test_an_error_in_the_child_is_one_line_and_a_killed_child_is_told(study, tmp_path, monkeypatch):
    broken = Study(tmp_path, with_arm(study, "small", of_axis("decoder", heads=7)).plan)
    with refused("arm 'small': decoder width 64 is not a multiple of its 7 heads"):
        prove(broken, start_context())
    monkeypatch.setattr("gitbench.launch.prove._make_fingerprints", exit_at_once)
    with refused("was ended from outside .*exit status 9"):
        prove(Study(tmp_path, study.plan), start_context())
    assert not list(tmp_path.rglob("*.json"))


def exit_at_once(*_) -> None:
    raise SystemExit(9)
