"""Studies from a checkpoint: whose sizes they have, and which ablations make sense on top of one."""

from __future__ import annotations

import dataclasses

import pytest
from helpers_captioner import WORDS
from helpers_errors import refused
from helpers_study import make_study, run_of, runs_of, tiny_ablation, tiny_profile

from gitbench.ablations import load_ablation
from gitbench.profiles import FINETUNE, PROFILES, SMOKE
from gitbench.spec import Profile
from gitbench.study.finetune import ABLATION, Asked, recipe
from gitbench.study.lock import setting_hash
from gitbench.study.start import started
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec
from gitbench.variants.start import Checkpoint

TRAINING = tiny_ablation("encoder_training", "trained", "frozen")
KEYS = {"base": "48fbb08829221f45", "small": "6c275bda5c7f7918", "blind": "fb6324d9957dc080"}
SETTING = "af121e3f126d5605"


@pytest.fixture
def found(tmp_path) -> Checkpoint:
    WORDS.save(tmp_path / "words.json")
    return Checkpoint(
        path=str(tmp_path / "captioner"),
        content="c0ffee" * 5,
        encoder=EncoderSpec(width=64, layers=3, heads=1, patch=16, image_size=32),
        decoder=DecoderSpec(layers=3, width=64, heads=1, ffn=200, max_positions=30),
        tied=False,
        frames=0,
        tokenizer=str(tmp_path / "words.json"),
        vocab_size=WORDS.vocab_size,
        image_size=32,
        flops=1e9,
    )


def from_it(found: Checkpoint, profile: Profile | None = None, size: int | None = None) -> Profile:
    return started(profile or tiny_profile(), found, size)


def test_every_arm_has_the_sizes_and_the_words_of_the_checkpoint(tmp_path, found):
    study = make_study(tmp_path, tiny_ablation("encoder_training", "trained", "frozen"), from_it(found, size=64))
    for run in runs_of(study):
        spec, start = run.spec, run.spec.variants["start"]
        assert spec.variants["encoder"] == dataclasses.replace(found.encoder, image_size=64)
        assert spec.variants["decoder"] == found.decoder
        assert (start.source, start.content, start.tied) == ("checkpoint", found.content, False)
        assert spec.variants["encoder_init"].source == spec.variants["decoder_init"].source == "random"
        assert (spec.data.image_size, spec.text.vocab_size, spec.text.max_tokens) == (64, WORDS.vocab_size, 24)
        assert spec.variant_names["encoder"] == "vit_3x64_p16_64" and spec.variant_names["decoder"] == "self_3x64"
    assert study.plan.vocabulary.size == WORDS.vocab_size
    assert study.plan.data == "scenes+start-c0ffee"
    short = from_it(dataclasses.replace(found, decoder=dataclasses.replace(found.decoder, max_positions=20)))
    assert (short.text.max_tokens, short.evaluate.max_length) == (18, 20)


def test_the_key_of_a_run_knows_the_checkpoint_by_its_content_alone(tmp_path, found):
    keys = {}
    for name, changes in {
        "it": {},
        "elsewhere": {"path": "/elsewhere"},
        "other": {"content": "0123456789abcdef"},
        "tied": {"tied": True},
    }.items():
        study = make_study(tmp_path, TRAINING, from_it(dataclasses.replace(found, **changes)))
        keys[name] = run_of(study, "base").key
    assert keys["it"] == keys["elsewhere"] and len(set(keys.values())) == 3


def test_without_a_checkpoint_no_key_and_no_seed_changes(tmp_path):
    """Those of the commit before there was an axis `start`."""
    study = make_study(tmp_path)
    assert {run.arm: run.key for run in runs_of(study)} == KEYS
    assert setting_hash(load_ablation("decoder_size"), PROFILES["cpu"]) == SETTING


def test_an_arm_that_needs_other_weights_is_refused_and_what_differs_is_named(tmp_path, found):
    profile = from_it(found)
    for axis, variants, said in (
        (
            "decoder",
            ("self_2x64", "self_1x64"),
            "the decoder self_2x64 .layers 2, not 3, heads 2, not 1, ffn 256, not 200 as in the checkpoint",
        ),
        ("encoder", ("vit_2x64_p8_64", "vit_1x64_p8_64"), "layers 2, not 3, heads 2, not 1, patch 8, not 16"),
        (
            "encoder_init",
            ("random", "masked"),
            "arm 'base' of tiny says where its weights start .encoder_init: random.",
        ),
        ("decoder_init", ("random", "bert"), "says where its weights start .decoder_init: random."),
    ):
        with refused(f"--start captioner: .*{said}.*: leave --start out"):
            make_study(tmp_path, tiny_ablation(axis, *variants), profile)
    words = tiny_ablation("encoder_training", "trained", "frozen", common={"text": "bert_subset"})
    with refused("every arm of tiny has other word pieces .text: bert_subset. than the checkpoint"):
        make_study(tmp_path, words, profile)
    with refused("starts from a checkpoint whose decoder has layers 3, and --cfg-options give it 1"):
        make_study(tmp_path, TRAINING, profile, cfg_options={"model.decoder.layers": 1})
    with refused("model.start.content: planning decides it"):
        make_study(tmp_path, TRAINING, profile, cfg_options={"model.start.content": "x"})
    with refused("images of 40 pixels are not filled by patches of 16: use --image-size 32"):
        from_it(found, size=40)


def test_an_ablation_whose_arms_share_another_start_runs_from_the_checkpoint_instead(tmp_path, found):
    study = make_study(tmp_path, load_ablation("encoder_training"), from_it(found))
    assert study.plan.common == {"encoder_init": "random"}
    assert {run.spec.variants["start"].source for run in runs_of(study)} == {"checkpoint"}


@pytest.mark.parametrize(
    ("axis", "variants"),
    [
        ("amount", ("all", "n32")),
        ("steps", ("all", "none")),
        ("vision", ("sighted", "blurred")),
        ("adaptation", ("everything", "last_1")),
    ],
)
def test_what_needs_no_other_weights_is_asked_of_a_checkpoint(tmp_path, found, axis, variants):
    profile = tiny_profile()
    profile = dataclasses.replace(profile, data=dataclasses.replace(profile.data, train_images=40))
    runs = runs_of(make_study(tmp_path, tiny_ablation(axis, *variants), from_it(found, profile)))
    assert {run.spec.variants["start"].content for run in runs} == {found.content}
    assert len({run.key for run in runs if run.replicate == 0}) == 3  # the floor's, too


def test_a_start_may_be_varied_and_needs_a_checkpoint_then(tmp_path, found):
    varied = tiny_ablation("start", "given", "nothing")
    with refused("an arm starts from a checkpoint: name it with --start WEIGHTS"):
        make_study(tmp_path, varied)
    study = make_study(tmp_path, varied, from_it(found))
    starts = {run.arm: run.spec.variants["start"] for run in runs_of(study)}
    assert starts["base"].content == found.content and starts["nothing"].content is None
    assert {run.spec.variants["decoder"] for run in runs_of(study)} == {found.decoder}
    labels = {arm.name: arm.label for arm in study.plan.arms}
    assert (labels["base"], labels["nothing"]) == ("the checkpoint captioner", "random values")


# ---- the recipe of fine-tuning ---------------------------------------------------------------------------------------


def tuned(found: Checkpoint, task: str = "caption", device: str = "cuda", **asked) -> Profile:
    return recipe(found, "scenes", task, Asked(**asked), device)


def test_the_recipe_of_a_released_model_is_the_papers_and_follows_the_number_of_images(found):
    base = dataclasses.replace(
        found,
        encoder=EncoderSpec(width=768, layers=12, heads=12, patch=16, image_size=224),
        decoder=DecoderSpec(layers=6, width=768, heads=12, ffn=3072),
        image_size=224,
    )
    train = tuned(base, train_images=64_000).train
    assert (train.lr_encoder, train.lr_decoder, train.warmup) == (1e-5, 5e-5, 500)
    assert (train.batch_images, train.iterations, train.captions_per_image) == (64, 10_000, 5)
    assert train.weight_decay == 0.01 and train.label_smoothing == 0.1 and train.val_every == 1000
    assert tuned(base).data.crop_scale == (0.8, 1.0) and tuned(base).data.image_size == 224
    assert tuned(base, "vqa").data.image_size == 480 and tuned(base, "vqa").train.iterations == 20 * 300 // 18 + 1
    large = dataclasses.replace(base, encoder=dataclasses.replace(base.encoder, patch=14))
    assert tuned(large, "vqa").data.image_size == 420 and tuned(large, "vqa", image_size=224).data.image_size == 224


def test_the_recipe_of_little_data_and_a_small_model_makes_sense(found):
    train = tuned(found).train  # 300 images of scenes
    assert (train.batch_images, train.iterations, train.warmup) == (18, 167, 16)
    assert (train.lr_decoder, train.lr_encoder) == (4e-3, 8e-4)
    wider = dataclasses.replace(found, decoder=dataclasses.replace(found.decoder, width=384))
    assert tuned(wider).train.lr_decoder == pytest.approx(2e-4) and tuned(wider).train.lr_encoder == pytest.approx(4e-5)
    assert tuned(found, train_images=5).train.batch_images == 5
    assert tuned(found, train_images=5, epochs=0.1).train.iterations == 1
    asked = tuned(found, epochs=2, batch=4, lr=1e-3, image_size=64)
    assert (asked.train.iterations, asked.train.lr_encoder, asked.data.image_size) == (150, 2e-4, 64)
    assert (
        asked.mark.startswith("+recipe-")
        and tuned(found).mark == ""
        and len({asked.mark, tuned(found, lr=1.0).mark}) == 2
    )
    for name, said in {"batch": "--batch 0: use 1 or more", "epochs": "--epochs 0: use a number above 0"}.items():
        with refused(said):
            tuned(found, **{name: 0})
    with refused("--batch 400: there are 300 training images"):
        tuned(found, batch=400)


def test_fine_tuning_is_one_arm_and_its_start_once(tmp_path, found):
    study = make_study(tmp_path, ABLATION, tuned(found, train_images=16, val_images=4, test_images=6), replicates=2)
    runs = [(run.arm, run.replicate, run.spec.train.iterations) for run in runs_of(study)]
    assert runs == [("finetuned", 0, 20), ("start", 0, 0), ("finetuned", 1, 20)]
    assert FINETUNE.name not in PROFILES and SMOKE.train.looks == 0
