"""Search: greedy and beams, lengths, prefixes, a closed vocabulary; that a cache changes nothing; small runs of tasks."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from gitbench.files import make_dir
from gitbench.gate.exact.constant import pictures
from gitbench.gate.exact.order import runs_of
from gitbench.gate.exact.subject import Place, Small
from gitbench.gate.exact.tiny import ATTENTIONS, BOS, EOS, tiny
from gitbench.gate.exact.values import Values
from gitbench.models.git import GIT
from gitbench.models.trie import Trie
from gitbench.run_folder import RunFolder
from gitbench.training.evaluation import PerImage
from gitbench.training.hooks import ClosedVocabularyHook
from gitbench.training.run import _write_predictions

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"greedy": True},
    "4 beams": {},
    "4 beams, no length penalty": {"length_penalty": 0.0},
    "4 beams, length penalty 2": {"length_penalty": 2.0},
    "1 beam": {"beam_size": 1},
    "3 beams, cut": {"beam_size": 3, "max_length": 5},
}
TEXTS = ("image_id", "caption", "tokens", "references", "image", "prefix", "closed")  # of a row of predictions
NUMBERS = ("score", "nll", "closed_score")
SHOWN = 5  # predictions of a run that stand in a reference with their texts
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
    for attention in ATTENTIONS:
        add_model(values, searched(attention, place.device), f"{attention}-attention", place.device)


def add_model(values: Values, model: GIT, name: str, device: str) -> None:
    """Add what a model writes in every way, and what should make no difference."""
    images = pictures(6, 3, 24, 24).to(device)
    for way, options in WAYS.items():
        _texts(values, f"{name}, {way}", *model.generate(images, **{"max_length": 12, **options}))
    index = torch.tensor([0, 2, 1, 0, 5], device=device)
    prefix = torch.tensor(PREFIXES, device=device)
    for way in ("greedy", "4 beams"):
        written = model.generate(images, prefix, image_index=index, max_length=12, **WAYS[way])
        _texts(values, f"{name}, {way}, prefixes of several images", *written)
    closed = Trie.of(ENTRIES, EOS)
    for beams in (2, 6):
        written = model.generate(images, vocabulary=closed, beam_size=beams, length_penalty=0.0, max_length=12)
        _texts(values, f"{name}, closed vocabulary, {beams} beams", *written)
    _uncached(values, model, images, name)
    together = model.generate(images, max_length=12)[1].tolist()
    alone = [model.generate(images[i : i + 1], max_length=12)[1].item() for i in range(len(images))]
    gaps = [one - other for one, other in zip(alone, together, strict=True)]
    values.near(f"{name}: scores of images alone, less those together", gaps, max(map(abs, together)))


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
    values.near(f"{name}: scores by the cache, less those without", scores - sums, scores.abs().max().item())


def add_run(values: Values, small: Small, name: str, folder: Path) -> None:
    """Add what a small run's model writes about test images, as it enters the run's predictions."""
    model, loader = small.model(), small.loaders["test"]
    if small.data("test").source.closed:
        ClosedVocabularyHook().before_test(SimpleNamespace(test_dataloader=loader, model=model))
    items = PerImage("test_nll")
    with torch.no_grad():
        for batch in loader:
            items.process(batch, model.test_step(batch))
    with values.of("metric"):
        values.near(f"{name}: test_nll", items.evaluate(len(loader.dataset))["test_nll"])
    evaluator = SimpleNamespace(metrics=[items])
    file = RunFolder(make_dir(folder))
    _write_predictions(SimpleNamespace(test_dataloader=loader, test_evaluator=evaluator), file)  # type: ignore[arg-type]
    rows = [json.loads(line) for line in file.predictions.read_text(encoding="utf-8").splitlines()]
    said = [{**row, "references": row["references"][:1]} for row in rows[:SHOWN]]
    values.equal(f"{name}: predictions", [" / ".join(str(row[key]) for key in TEXTS if key in row) for row in said])
    values.near(f"{name}: scores and likelihoods", [[row.get(key, 0.0) for key in NUMBERS] for row in rows])


def add_runs(values: Values, place: Place) -> None:
    """Add the predictions of the small runs."""
    for name, small in runs_of(place).items():
        add_run(values, small, name, place.folder / "predictions")
