"""What an image encoder sees: linear probes of its tokens, and how often an image finds its caption.

A probe is a multinomial logistic regression on the class token and the mean of the patch tokens, standardised, trained on
validation scenes and tested on others of them: shape, colour, count, place, size and texture of the only object, the
number of objects, the word on a sign. A random encoder of the same size is the floor.

N images, C features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gitbench.data.base import graph_of
from gitbench.data.cache import decoded_split
from gitbench.data.scenes.world import word_of
from gitbench.data.tasks import TaskSource, open_task
from gitbench.data.wordpiece import CaptionTokenizer
from gitbench.spec import TaskSpec

SCENES, SIGNS = 8000, 2000  # validation scenes looked at, and scenes with one sign
TRAINING = 0.75  # share of them on which probes are trained: the first
PAIRS = 1000  # validation images and captions that are to find each other
PENALTY = 1e-3  # on the squared weights, beside the mean loss
OBJECT_FACTS = ("shape", "colour", "count", "place", "size", "texture")
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Which of the images a probe is about, and the class of each."""

    name: str
    images: np.ndarray  # int64 (n,), ascending
    classes: np.ndarray  # int64 (n,)
    trained: int  # how many of them, from the first, it is trained on


class Quality:
    """The images and labels of all probes, for one size of image; with a tokenizer, the captions of retrieval, too."""

    def __init__(self, image_size: int, tokenizer: CaptionTokenizer | None = None, max_tokens: int = 0) -> None:
        scenes, signs = (
            open_task("scenes", "val", count, TaskSpec(name=task))  # type: ignore[arg-type]
            for task, count in (("caption", SCENES), ("read", SIGNS))
        )
        self._images = [decoded_split(source, image_size) for source in (scenes, signs)]
        self.probes = [*_scene_probes(scenes), _sign_probe(signs)]
        self._tokens = torch.zeros(0, 0, dtype=torch.long)
        if tokenizer is None:
            return
        texts = [scenes.example(index).captions[0] for index in range(min(PAIRS, len(scenes)))]
        ids = [[tokenizer.bos_id, *payload, tokenizer.eos_id] for payload in tokenizer.encode_all(texts, max_tokens)]
        self._tokens = torch.full((len(ids), max(map(len, ids))), tokenizer.pad_id)
        for row, tokens in enumerate(ids):
            self._tokens[row, : len(tokens)] = torch.tensor(tokens)

    @property
    def tested(self) -> dict[str, int]:
        """How many images each number of `of` rests on."""
        tested = {probe.name: len(probe.images) - probe.trained for probe in self.probes}
        return tested | ({"retrieval": len(self._tokens)} if len(self._tokens) else {})

    def of(self, module: Any, prepare: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the share of test images about which `right` finds each probe right, and retrieval, from 0 to 1."""
        return {name: round(float(each.mean()), 4) for name, each in self.right(module, prepare).items()}

    @torch.no_grad()
    def right(self, module: Any, prepare: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
        """Return about which test images each probe of `module.encoder` is right, and of a `PairEncoder` the retrieval.

        prepare: uint8 pixels (N, 3, H, W) -> what the encoder reads. Each bool (n,), in the order of the images.
        """
        features = torch.cat([
            seen_by(module.encoder, prepare(batch)).cpu() for images in self._images for batch in _batches(images)
        ])  # fmt: skip
        found = {
            probe.name: probed(features[probe.images], torch.from_numpy(probe.classes), probe.trained)
            for probe in self.probes
        }
        if hasattr(module, "captions") and len(self._tokens):
            found["retrieval"] = self._retrieval(module, prepare)
        return {name: each.numpy() for name, each in found.items()}

    def _retrieval(self, module: Any, prepare: Callable[[Tensor], Tensor]) -> Tensor:
        """Tell of each image whether its nearest caption is its own, or another in the same words: bool (N,)."""
        images = torch.cat([module.images(prepare(batch)) for batch in _batches(self._images[0][: len(self._tokens)])])
        captions = torch.cat([module.captions(tokens) for tokens in self._tokens.to(images.device).split(BATCH)])
        nearest = (images @ captions.T).argmax(1).cpu()
        return (self._tokens[nearest] == self._tokens).all(1)


def seen_by(encoder: nn.Module, images: Tensor) -> Tensor:
    """Return what probes read of prepared images (N, 3, H, W): class token and mean of the patch tokens, (N, 2 D)."""
    tokens = encoder(images)
    return torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1).float()


def probed(features: Tensor, classes: Tensor, trained: int) -> Tensor:
    """Train a probe on the first `trained` of the features (N, C) and classes (N,); tell about which others it is right.

    Multinomial logistic regression by L-BFGS, a convex problem: nothing is drawn.
    """
    first = features[:trained].double()
    mean, deviation = first.mean(0), first.std(0).clamp(min=1e-6)
    inputs = (features.double() - mean) / deviation
    count = int(classes.max()) + 1
    weight = torch.zeros(count, inputs.shape[1], dtype=torch.double, requires_grad=True)
    bias = torch.zeros(count, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(inputs[:trained], weight, bias), classes[:trained])
        loss = loss + PENALTY * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[arg-type]
    with torch.no_grad():
        guessed = F.linear(inputs[trained:], weight, bias).argmax(1)
    return guessed == classes[trained:]


def _scene_probes(scenes: TaskSource) -> list[Probe]:
    graphs = [graph_of(scenes, index) for index in range(len(scenes))]
    alone = [index for index, graph in enumerate(graphs) if len(graph.objects) == 1]
    border = int(len(graphs) * TRAINING)
    probes = [
        _probe(fact, alone, [getattr(graphs[index].objects[0], fact) for index in alone], border)
        for fact in OBJECT_FACTS
    ]
    return [*probes, _probe("objects", range(len(graphs)), [len(graph.objects) for graph in graphs], border)]


def _sign_probe(signs: TaskSource) -> Probe:
    words = [word_of(graph_of(signs, index)) for index in range(len(signs))]
    return _probe("word", range(SCENES, SCENES + len(words)), words, SCENES + int(len(words) * TRAINING))


def _probe(name: str, images: Any, values: list[Any], border: int) -> Probe:
    """Return the probe of the values of some images, trained on those with a number below `border`."""
    numbers = {value: place for place, value in enumerate(sorted(set(values)))}
    chosen = np.array(list(images), dtype=np.int64)
    return Probe(
        name=name,
        images=chosen,
        classes=np.array([numbers[value] for value in values], dtype=np.int64),
        trained=int((chosen < border).sum()),
    )


def _batches(images: np.ndarray) -> Any:
    """Yield stored images (n, S, S, 3) as uint8 (N, 3, S, S), in order."""
    for start in range(0, len(images), BATCH):
        yield torch.from_numpy(np.array(images[start : start + BATCH])).movedim(-1, 1)
