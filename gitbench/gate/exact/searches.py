"""Search: greedy and beams, lengths, prefixes, a closed vocabulary; that a cache changes nothing; small runs of tasks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gitbench.gate.exact.constant import pictures
from gitbench.gate.exact.order import runs_of
from gitbench.gate.exact.subject import Place, Small
from gitbench.gate.exact.tiny import ATTENTIONS, BOS, EOS, tiny
from gitbench.gate.exact.values import Values
from gitbench.models.git import GIT
from gitbench.models.trie import Trie
from gitbench.training.hooks import ClosedVocabularyHook
from gitbench.training.run import _prediction

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"greedy": True},
    "4 beams": {},
    "4 beams, no length penalty": {"length_penalty": 0.0},
    "4 beams, length penalty 2": {"length_penalty": 2.0},
    "1 beam": {"beam_size": 1},
    "3 beams, cut": {"beam_size": 3, "max_length": 5},
}
SHOWN = 8  # predictions of a run that stand in a reference with their texts
PREFIXES = [[BOS, 7, 9, 11], [BOS, 5, 0, 0], [BOS, 30, 31, 0], [BOS, 0, 0, 0], [BOS, 12, 0, 0]]
ENTRIES = [[5, 6], [36, 4], [36, 4, 7], [8, 5], [24, 9, 12, 13], [9, 9]]


SIZES = {"self": (0.5, 1.0, 1.0), "cross": (1.0, 2.0, 3.0)}  # of all weights; of words and image, relative to these


def searched(attention: str, device: str) -> GIT:
    """Return a tiny model that writes different texts, of different lengths, about different images (found by trying)."""
    size, words, image = SIZES[attention]
    model = tiny(attention, device, size)
    with torch.no_grad():
        model.embedding.words.weight.mul_(words)
        model.embedding.positions.weight.mul_(0.5)
        model.get_parameter("projection.1.weight").mul_(image)
        model.head_bias.zero_()
        model.head_bias[EOS] = 1.5
    return model


def add(values: Values, place: Place) -> None:
    """Add what tiny models write about six images."""
    images = pictures(6, 3, 24, 24).to(place.device)
    for attention in ATTENTIONS:
        model = searched(attention, place.device)
        for way, options in WAYS.items():
            _texts(values, f"{attention}-attention, {way}", *model.generate(images, **{"max_length": 12, **options}))
        index = torch.tensor([0, 2, 1, 0, 5], device=place.device)
        prefix = torch.tensor(PREFIXES, device=place.device)
        for way in ("greedy", "4 beams"):
            written = model.generate(images, prefix, image_index=index, max_length=12, **WAYS[way])
            _texts(values, f"{attention}-attention, {way}, prefixes of several images", *written)
        closed = Trie.of(ENTRIES, EOS)
        for beams in (2, 6):
            written = model.generate(images, vocabulary=closed, beam_size=beams, length_penalty=0.0, max_length=12)
            _texts(values, f"{attention}-attention, closed vocabulary, {beams} beams", *written)
        _uncached(values, model, images, attention)
        alone = [model.generate(images[i : i + 1], max_length=12) for i in range(len(images))]
        together = model.generate(images, max_length=12)[1]
        gaps = [one[1].item() - each for one, each in zip(alone, together.tolist(), strict=True)]
        values.near(
            f"{attention}-attention: scores of images alone, less those together", gaps, together.abs().max().item()
        )


def _texts(values: Values, name: str, sequences: Tensor, scores: Tensor) -> None:
    values.equal(f"{name}: ids", [" ".join(map(str, each)) for each in sequences.tolist()])
    values.near(f"{name}: scores", scores)


def _uncached(values: Values, model: GIT, images: Tensor, name: str) -> None:
    """Add log-probabilities by the cache less those of `logits`: of greedy texts, whose score is their sum."""
    sequences, scores = model.generate(images, greedy=True, length_penalty=0.0, max_length=12)
    logs = model.logits(images, sequences).log_softmax(-1)[:, :-1]
    said = logs.gather(2, sequences[:, 1:, None])[..., 0]
    ended = (sequences[:, 1:] == EOS).long()
    sums = (said * (ended.cumsum(1) - ended == 0)).sum(1)
    values.near(f"{name}-attention: scores by the cache, less those without", scores - sums, scores.abs().max().item())


def add_run(values: Values, small: Small, name: str) -> None:
    """Add what a small run's model writes about test images, as it enters the run's predictions."""
    model, loader = small.model(), small.loaders["test"]
    if small.data("test").source.closed:
        runner: Any = type("Runner", (), {"test_dataloader": loader, "model": model})()
        ClosedVocabularyHook().before_test(runner)
    number = 0
    rows: list[dict[str, Any]] = []
    data = small.data("test")
    with torch.no_grad():
        for batch in loader:
            for each in model.test_step(batch):
                pairs = zip(data.source.requests(number), each["outputs"], strict=True)
                rows += [_prediction(request, output, each["image_id"], data.tokenizer) for request, output in pairs]
                number += 1
    numbers = ("score", "nll", "closed_score")
    said = [{key: value for key, value in row.items() if key not in numbers} for row in rows]
    said = [{**row, "references": row["references"][:1]} for row in said]
    values.equal(f"{name}: predictions", [" / ".join(map(str, row.values())) for row in said[:SHOWN]])
    values.near(f"{name}: scores and likelihoods", [[row.get(key, 0.0) for key in numbers] for row in rows])


def add_runs(values: Values, place: Place) -> None:
    """Add the predictions of the small runs."""
    for name, small in runs_of(place).items():
        add_run(values, small, name)
