"""What an image encoder is pre-trained for: losses, targets and what each objective learns."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from gitbench.errors import GitbenchError
from gitbench.models.encoder import ImageEncoder
from gitbench.models.fact_classifier import FactClassifier
from gitbench.models.init import initialise_pretraining
from gitbench.models.masked_autoencoder import MaskedAutoencoder
from gitbench.models.pair_encoder import PairEncoder, infonce, sigmoid_loss
from gitbench.spec import PretrainSpec
from gitbench.training.objectives import facts_of, training_images
from gitbench.training.pretrain import Pretraining, pretrain
from gitbench.variants.encoder import EncoderSpec

SPEC = EncoderSpec(width=32, layers=2, heads=2, patch=8, image_size=32)
RECIPE = PretrainSpec(
    images=24, iterations=6, batch_images=8, lr=2e-3, warmup=2, width=32, layers=1, embedding=16, vocab_size=300
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GITBENCH_CACHE", str(tmp_path / "cache"))


def job(recipe: PretrainSpec = RECIPE, **other) -> Pretraining:
    return Pretraining(**{"encoder": SPEC, "recipe": recipe, **other})


def changed(**values) -> PretrainSpec:
    return dataclasses.replace(RECIPE, **values)


def test_infonce_is_the_cross_entropy_in_both_directions():
    similarities = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-2))) / 2
    columns = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-3))) / 2
    assert infonce(similarities).item() == pytest.approx((rows + columns) / 2)
    assert infonce(torch.zeros(7, 7)).item() == pytest.approx(math.log(7))


def test_the_sigmoid_loss_asks_of_each_pair_whether_it_is_one():
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    questions = [math.log(1 + math.exp(x)) for x in (-2.0, 0.0, 1.0, -3.0)]
    assert sigmoid_loss(logits).item() == pytest.approx(sum(questions) / 2)


@pytest.mark.parametrize(
    ("recipe", "share"),
    [
        (changed(batch_images=12), 0.6),
        (changed(batch_images=12, pooling="attention"), 0.6),
        (changed(batch_images=12, loss="sigmoid"), 0.6),
        (changed(objective="supervised", images=40), 0.7),
        (changed(objective="masked"), 0.93),
    ],
    ids=["class", "attention", "sigmoid", "supervised", "masked"],
)
def test_every_objective_lowers_its_loss(recipe, share):
    state, notes = pretrain(job(dataclasses.replace(recipe, iterations=120, warmup=10)))
    losses = [loss for _, loss in notes["curve"]]
    assert len(losses) == 120
    assert sum(losses[-10:]) / 10 < share * sum(losses[:5]) / 5
    ImageEncoder(SPEC).load_state_dict(state)


def test_padding_and_later_tokens_do_not_reach_a_caption():
    model = PairEncoder(SPEC, RECIPE, 50, 12, eos_id=3)
    initialise_pretraining(model, 0, 1)
    assert model.scale.exp().item() == pytest.approx(1 / RECIPE.temperature)
    short = torch.tensor([[2, 7, 8, 3]])
    padded = torch.tensor([[2, 7, 8, 3, 0, 0, 0]])
    torch.testing.assert_close(model.text(short), model.text(padded))
    assert not torch.allclose(model.text(short), model.text(torch.tensor([[2, 8, 7, 3]])))


@pytest.mark.parametrize("pooling", ["class", "attention"])
def test_written_out_attention_is_the_fused_one(pooling):
    model = PairEncoder(SPEC, changed(pooling=pooling), 50, 12, eos_id=3).eval()
    initialise_pretraining(model, 0, 1)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]])
    fused = model(images, tokens)
    for part in model.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    torch.testing.assert_close(model(images, tokens), fused)


def test_hidden_patches_are_painted_from_the_shown_ones_alone():
    model = MaskedAutoencoder(SPEC, RECIPE).eval()
    initialise_pretraining(model, 0, 1)
    assert (model.patches, model.shown) == (16, 4)
    noise = torch.arange(16.0)[None]  # patches 0 to 3 are shown: the upper row
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen = []
    model.encoder.norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    other = image.clone()
    other[:, :, 8:] = torch.randn(1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    assert not torch.isclose(model(image, noise), model(other, noise))  # what is to be painted is another
    torch.testing.assert_close(seen[0], seen[1])
    assert seen[0].shape == (1, 5, 32)


def test_facts_are_those_of_the_scene_graphs(monkeypatch):
    monkeypatch.setattr("gitbench.training.objectives.FACT_SHARE", 0.05)
    source = training_images(changed(images=60), "scenes", 32).source
    truth = facts_of(source)
    counts: dict[tuple[str, ...], int] = {}
    for index in range(60):
        for fact in set().union(*source.example(index).graph.facts().values()):
            counts[fact] = counts.get(fact, 0) + 1
    known = sorted(fact for fact, count in counts.items() if count >= 3)
    assert truth.shape == (60, len(known)) and ("circle",) in known
    assert truth.sum(0).tolist() == [counts[fact] for fact in known]
    assert FactClassifier(SPEC, len(known)).head.out_features == len(known)


def test_supervised_pretraining_needs_scene_graphs():
    source = training_images(RECIPE, "scenes", 32).source
    bare = type("Bare", (), {"graph": None})
    source.example = lambda index: bare
    with pytest.raises(GitbenchError, match="no scene graphs.*use scenes"):
        facts_of(source)
