"""BERT into GIT: hidden states reproduced, every spelling of a checkpoint read, and what does not fit refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from helpers_bert import ENCODER, bidirectional_hidden, decoder_spec, git_for, hf_bert, saved, widest_gap
from helpers_errors import refused
from helpers_model import causal
from safetensors.torch import load_file, save_file
from torch import Tensor

from gitbench.data.bert_folder import (
    bert_folder,
    described,
    fingerprint,
)
from gitbench.errors import GitbenchError
from gitbench.models.bert import BertWeights, initialise_from_bert, load_bert
from gitbench.models.git import GIT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(hf_bert(), tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def weights(folder: Path) -> BertWeights:
    return load_bert(folder)


def batch() -> tuple[Tensor, Tensor]:
    """Five texts of different lengths, padded at the right, and where they hold text."""
    tokens = torch.randint(4, 60, (5, 11), generator=torch.Generator().manual_seed(3))
    valid = torch.arange(11) < torch.tensor([11, 3, 7, 1, 9])[:, None]
    return tokens * valid, valid.long()


def copy_with(folder: Path, target: Path, config: dict | None = None, rename=lambda name: name, **tensors) -> Path:
    """Copy a checkpoint with fields of its config, names or single tensors (None: left out) changed."""
    state = {rename(name): value for name, value in load_file(folder / "model.safetensors").items()}
    state = {name: value for name, value in (state | tensors).items() if value is not None}
    target.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, target / "model.safetensors")
    fields = json.loads((folder / "config.json").read_text()) | (config or {})
    (target / "config.json").write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))
    return target


def no_image(git: GIT) -> list[tuple[Tensor, Tensor]]:
    """The keys and values of no image token at all."""
    memory = git.decoder.image_memory(torch.zeros(1, 1, git.decoder.spec.width))
    return [(k[:, :, :0], v[:, :, :0]) for k, v in memory]


# -- the same numbers ------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{}, {"hidden_size": 24, "num_attention_heads": 6, "type_vocab_size": 1}])
def test_the_loaded_decoder_reproduces_berts_hidden_states(tmp_path: Path, sizes: dict) -> None:
    bert = hf_bert(**sizes)
    weights, (tokens, valid) = load_bert(saved(bert, tmp_path)), batch()
    git = git_for(weights)
    initialise_from_bert(git, weights)
    theirs = bert(tokens, attention_mask=valid, output_hidden_states=True).hidden_states
    assert len(theirs) == 4 and theirs[-1].std() > 0.5
    assert widest_gap(bidirectional_hidden(git, tokens, valid), theirs, valid) < 1e-5
    # causal, as GIT runs, they must differ: the mask is the difference between the two models
    masked = git.decoder.text(git.embedding(tokens), no_image(git), causal(tokens.shape[1]))
    assert (masked - theirs[-1])[0, :-1].abs().max() > 0.1
    exact = git_for(weights).double()
    exact.embedding.norm.eps = 1e-12  # in float64 this eps is all that differs
    initialise_from_bert(exact, weights)
    theirs = bert.double()(tokens, attention_mask=valid, output_hidden_states=True).hidden_states
    assert widest_gap(bidirectional_hidden(exact, tokens, valid), theirs, valid) < 1e-12
    few = git_for(weights, layers=2, max_positions=12)  # fewer layers and positions are the first ones
    initialise_from_bert(few, weights)
    assert len(few.decoder.layers) == 2 and len(few.embedding.positions.weight) == 12
    assert widest_gap(bidirectional_hidden(few, tokens, valid), theirs[:3], valid) < 1e-5


@torch.no_grad()
def test_kept_rows_give_what_all_rows_give_on_the_kept_ids(folder: Path, weights: BertWeights) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = dataclasses.replace(weights, head_bias=torch.randn(60, generator=generator))
    rows = [0, 7, 5, 40, 41, 59]
    whole, small = git_for(weights), git_for(weights, vocab_size=len(rows))
    small.encoder.load_state_dict(whole.encoder.state_dict())
    initialise_from_bert(whole, weights)
    initialise_from_bert(small, weights, rows)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    ids = torch.randint(0, len(rows), (2, 6), generator=generator)
    expected = whole.logits(images, torch.tensor(rows)[ids])[..., rows]
    assert torch.allclose(small.logits(images, ids), expected, atol=1e-5) and expected.std() > 0.5


# -- what is set, and what is not ------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["self", "cross"])
def test_all_else_keeps_its_value_and_the_head_stays_tied(weights: BertWeights, attention: str) -> None:
    """A cross-attention decoder takes what it shares with BERT: everything but its `cross` parts."""
    spec = dataclasses.replace(decoder_spec(weights.config), attention=attention)
    git = GIT(encoder=ENCODER, decoder=spec, vocab_size=60, bos_id=1, eos_id=2)
    before = {name: value.detach().clone() for name, value in git.named_parameters()}
    names = initialise_from_bert(git, weights)
    text = [n for n in before if n.startswith(("embedding.", "decoder.", "head_bias"))]
    assert sorted(names) == sorted(name for name in text if "cross" not in name)
    for name, value in git.named_parameters():
        assert torch.equal(value, before[name]) == (name not in names), name
    assert torch.equal(git.embedding.words.weight, weights.tensors["embeddings.word_embeddings.weight"])
    hidden = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(git.head(hidden), hidden @ git.embedding.words.weight.T) and not git.head_bias.any()
    assert all(value.requires_grad for value in git.parameters())


def test_the_bias_of_a_masked_language_head_becomes_the_heads(tmp_path: Path) -> None:
    bert = hf_bert("BertForPreTraining")
    weights = load_bert(saved(bert, tmp_path))
    for rows in (None, [3, 0, 9]):
        git = git_for(weights, vocab_size=len(rows or range(60)))
        initialise_from_bert(git, weights, rows)
        expected = bert.cls.predictions.bias
        assert torch.equal(git.head_bias, expected if rows is None else expected[rows]) and git.head_bias.any()


# -- spellings of a checkpoint ---------------------------------------------------------------------------------------


def tensorflow_name(name: str) -> str:
    return "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.parametrize(
    "rename",
    [lambda name: f"bert.{name}", lambda name: f"module.bert.{name}", tensorflow_name],
    ids=["bert", "ddp", "tf"],
)
def test_every_spelling_of_names_is_read(folder: Path, weights: BertWeights, tmp_path: Path, rename) -> None:
    heads = {"cls.seq_relationship.weight": torch.ones(2, 32), "classifier.bias": torch.ones(3)}
    ids = {rename("embeddings.position_ids"): torch.arange(20)[None]}
    again = load_bert(copy_with(folder, tmp_path, rename=rename, **heads, **ids))
    assert set(again.tensors) == set(weights.tensors) and again.head_bias is None
    assert all(torch.equal(value, weights.tensors[name]) for name, value in again.tensors.items())


def test_missing_and_unexpected_tensors_are_listed(folder: Path, tmp_path: Path) -> None:
    lost = {"encoder.layer.1.output.dense.bias": None, "embeddings.LayerNorm.weight": None}
    extra = {"encoder.layer.0.crossattention.self.query.bias": torch.ones(32)}
    with pytest.raises(GitbenchError) as caught:
        load_bert(copy_with(folder, tmp_path, **lost, **extra))
    assert all(name in str(caught.value) for name in (*lost, *extra)) and "\n" not in str(caught.value)
    assert "2 missing" in str(caught.value) and "1 unexpected" in str(caught.value)


def test_a_config_of_another_model_is_refused_with_both_shapes(folder: Path, tmp_path: Path) -> None:
    with refused(r"word_embeddings.weight .*\(60, 32\).*\(61, 32\)"):
        load_bert(copy_with(folder, tmp_path, {"vocab_size": 61}))
    with refused(r"predictions.bias has shape \(59,\).*\(60,\)"):
        load_bert(copy_with(folder, tmp_path, **{"cls.predictions.bias": torch.ones(59)}))


# -- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_act", "gelu_new"),
        ("model_type", "roberta"),
        ("position_embedding_type", "relative_key"),
        ("layer_norm_eps", 1e-5),
    ],
)
def test_a_model_that_git_cannot_reproduce_is_refused(folder: Path, tmp_path: Path, name: str, value: object) -> None:
    with refused(f"has {name} {value!r} and GIT's decoder needs"):
        load_bert(copy_with(folder, tmp_path, {name: value}))


def test_a_config_without_sizes_is_refused(folder: Path, tmp_path: Path) -> None:
    with refused("no whole number for hidden_size, vocab_size"):
        load_bert(copy_with(folder, tmp_path, {"hidden_size": None, "vocab_size": "many"}))
    (tmp_path / "config.json").write_text("[]")
    with refused("not the config of a BERT"):
        load_bert(tmp_path)
    (tmp_path / "config.json").unlink()
    with refused("no config.json: pass the whole folder"):
        load_bert(tmp_path)


@pytest.mark.parametrize(
    ("change", "rows", "message"),
    [
        ({"layers": 4}, None, r"has 4 layers and the BERT 3"),
        ({"heads": 8}, None, r"has 8 attention heads and the BERT 4"),
        ({"ffn": 64}, None, r"up.weight has shape \(64, 32\) in the model and \(48, 32\) in BERT"),
        ({"max_positions": 24}, None, r"positions.weight has shape \(24, 32\) in the model and \(20, 32\) in BERT"),
        ({}, [0, 1, 2], r"words.weight has shape \(60, 32\) in the model and \(3, 32\)"),
        ({}, [0, 1, 60, 2], "row 60 lies outside"),
        ({}, [-1, 0, 1, 2], "row -1"),
        ({}, [0, 1, 1, 2], "named twice"),
    ],
)
def test_a_model_of_another_shape_is_refused_and_left_alone(
    weights: BertWeights, change: dict, rows: list[int] | None, message: str
) -> None:
    spec = dataclasses.replace(decoder_spec(weights.config), **change)
    git = GIT(encoder=ENCODER, decoder=spec, vocab_size=60, bos_id=1, eos_id=2)
    before = {name: value.clone() for name, value in git.state_dict().items()}
    with refused(message):
        initialise_from_bert(git, weights, rows)
    assert all(torch.equal(value, before[name]) for name, value in git.state_dict().items())


# -- where a checkpoint is found -------------------------------------------------------------------------------------


def test_a_place_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for source in (tmp_path / "none", str(tmp_path / "file"), "./none"):
        with refused("is not a folder: pass one that holds a BERT's config.json"):
            bert_folder(source)


def test_a_hub_name_is_fetched_and_without_network_a_folder_is_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    state = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    asked = []

    def fetch(name: str, file: str) -> str:
        asked.append((name, file))
        if not (tmp_path / file).is_file():
            raise EntryNotFoundError(f"no {file}")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert load_bert("someone/bert").config.layers == 3
    assert asked[:3] == [("someone/bert", file) for file in ("config.json", "model.safetensors", "pytorch_model.bin")]

    def offline(name: str, file: str) -> str:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with refused("'bert-base-uncased' could not be fetched.*pass the folder"):
        load_bert("bert-base-uncased")


def test_a_description_holds_what_a_report_says_of_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    found = described(str(folder))
    assert (found.source, found.path, found.content) == ("bert", str(folder.resolve()), fingerprint(folder))
    assert (found.layers, found.vocab_size, found.head_bias) == (3, 60, False)
    bias = torch.zeros(60)
    for name in ("cls.predictions.bias", "module.cls.predictions.decoder.bias"):
        assert described(str(copy_with(folder, tmp_path / name, **{name: bias}))).head_bias
