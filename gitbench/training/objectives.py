"""What an image encoder is pre-trained for: the module that an objective trains, and what a batch gives it beside images."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gitbench.data import pretrain_data
from gitbench.data.base import content_hash, graph_of
from gitbench.data.cache import cached
from gitbench.data.dataset import CaptionDataset
from gitbench.data.tasks import TaskSource, open_task
from gitbench.data.tokenizer import tokenizer_for
from gitbench.encoders.store import quantised, restored
from gitbench.files import cache_dir
from gitbench.models.fact_classifier import FactClassifier
from gitbench.models.init import initialise_pretraining
from gitbench.models.masked_autoencoder import MaskedAutoencoder
from gitbench.models.pair_encoder import PairEncoder
from gitbench.seeding import derive_seed
from gitbench.spec import DataSpec, PretrainSpec, TaskSpec, TextSpec
from gitbench.variants.encoder import EncoderSpec

VOCABULARY_IMAGES = 10_000  # whose captions train the word pieces
FACT_IMAGES, FACT_SHARE = 10_000, 0.001  # a fact is learned that is true of this share of the first images
FACTS_VERSION = 1  # raise when the same images would have other facts


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A module with an `encoder`, called with images (N, 3, H, W) and targets, which gives the loss.

    targets: (a batch of `collate`, the number of the step) -> the second argument.
    """

    module: Any
    targets: Callable[[dict[str, Any], int], Tensor]

    def module_as_stored(self) -> nn.Module:
        """Return a copy in evaluation, whose encoder has the values that its file would hold."""
        module = copy.deepcopy(self.module).eval()
        arrays = {name: tensor.cpu().numpy() for name, tensor in module.encoder.state_dict().items()}
        state = restored(quantised(arrays))
        module.encoder.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        return module


def training_images(recipe: PretrainSpec, data: str, image_size: int) -> CaptionDataset:
    """Return the images of pre-training for a data set, each with one of its captions, in an order of the recipe's seed."""
    name, split = pretrain_data(data)
    text = TextSpec(vocab_size=recipe.vocab_size, max_tokens=recipe.max_tokens)
    words = open_task(name, split, min(recipe.images, VOCABULARY_IMAGES), TaskSpec())
    return CaptionDataset(
        data=name,
        split=split,
        data_spec=DataSpec(image_size=image_size, train_images=recipe.images),
        text_spec=text,
        tokenizer=tokenizer_for(text, words),
        seed=recipe.seed,
        captions_per_image=1,
        train=True,
    )


def objective_for(encoder: EncoderSpec, recipe: PretrainSpec, images: CaptionDataset) -> Objective:
    """Return the objective of a recipe with its initial values."""
    if recipe.objective == "contrastive":
        positions = recipe.max_tokens + 2
        pairs = PairEncoder(encoder, recipe, images.tokenizer.vocab_size, positions, images.eos_id)
        return _objective(pairs, recipe, lambda batch, step: batch["tokens"][:, 0])
    if recipe.objective == "supervised":
        truth = facts_of(images.source)
        namer = FactClassifier(encoder, truth.shape[1])
        return _objective(namer, recipe, lambda batch, step: torch.from_numpy(truth[batch["indices"]]))
    painter = MaskedAutoencoder(encoder, recipe)

    def noise(batch: dict[str, Any], step: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed("hidden", recipe.seed, step))
        return torch.rand(len(batch["indices"]), painter.patches, generator=generator)

    return _objective(painter, recipe, noise)


def _objective(module: nn.Module, recipe: PretrainSpec, targets: Callable[[dict[str, Any], int], Tensor]) -> Objective:
    initialise_pretraining(module, recipe.seed, recipe.layers)
    return Objective(module=module, targets=targets)


def facts_of(source: TaskSource) -> np.ndarray:
    """Return which facts are true of which image: uint8 (images, facts), of the facts that are seen often enough.

    Facts are those of `SceneGraph.facts`, sorted, that are true of at least `FACT_SHARE` of the first `FACT_IMAGES`
    images. Kept in the cache under the content of the images.
    Errors: a data set without graphs.
    """
    key = content_hash([source.fingerprint(), str(FACTS_VERSION)])[:20]
    path = cache_dir() / "facts" / f"{source.split}-{key}.npy"

    def save(temporary: Path) -> None:
        said = [set().union(*graph_of(source, index).facts().values()) for index in range(len(source))]
        first = said[:FACT_IMAGES]
        counts = Counter(fact for facts in first for fact in facts)
        usual = sorted(fact for fact, count in counts.items() if count >= FACT_SHARE * len(first))
        numbers = {fact: place for place, fact in enumerate(usual)}
        truth = np.zeros((len(said), len(numbers)), dtype=np.uint8)
        for row, facts in enumerate(said):
            truth[row, [numbers[fact] for fact in facts if fact in numbers]] = 1
        with open(temporary, "wb") as file:
            np.save(file, truth)

    return cached(path, save, np.load)
