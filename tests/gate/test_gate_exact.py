"""Tier 1 of the gate: each kind of mistake is found, and the first finding names the part in which it was made."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image
from torch import nn

from gitbench.data import dataset
from gitbench.data.cache import EncodedCaptions
from gitbench.data.random_stream import Stream
from gitbench.data.tasks import SceneTaskSource
from gitbench.data.wordpiece import CaptionTokenizer
from gitbench.errors import MachineError
from gitbench.files import ROOT
from gitbench.gate import exact
from gitbench.gate.exact import (
    costs,
    decoder,
    encoder,
    fresh_cache,
    order,
    pixels,
    scores,
    searches,
    steps,
    tokens,
    weights,
)
from gitbench.gate.exact.compare import compared, read
from gitbench.gate.exact.constant import pictures
from gitbench.gate.exact.subject import Place, Small
from gitbench.gate.exact.tiny import tiny
from gitbench.gate.exact.values import Failure, Value, Values
from gitbench.gate.setting import Setting, Subject
from gitbench.metrics import bleu, cider, meteor, spice
from gitbench.metrics.meteor import Meteor
from gitbench.models import git
from gitbench.models.decoder import Decoder
from gitbench.models.git import GIT
from gitbench.models.search_state import Search
from gitbench.seeding import derive_seed
from gitbench.study import config
from gitbench.training import caption_model, loop, optimizer, run
from gitbench.training.caption_model import ImagePreprocessor
from gitbench.training.data import CountedSampler
from gitbench.training.frozen import FrozenEncoder
from gitbench.training.hooks import DecoderInitHook
from gitbench.training.optimizer import DeviceOptimWrapper

TINY: dict[str, Any] = {}  # small runs, planned once


def questions(values: Values, place: Place) -> None:
    with values.of("data"):
        order.add_batches(values, place.small("vqa"), "vqa")
    decoder.add_run(values, place.small("vqa"), "vqa")


def writing(values: Values, place: Place) -> None:
    model, images = tiny("cross"), pictures(2, 3, 24, 24)
    for length in (4, 8):
        work = functools.partial(model.generate, images, max_length=length)
        costs.add_work(values, f"writing {length} ids", work)


def anew(place: Place) -> Place:
    """Return a place in which nothing is planned yet."""
    return Place(setting=place.setting, folder=place.folder)


# What is taken, and the part that it is about where it does not say so itself.
TAKES: dict[str, tuple[str, Callable[[Values, Place], None]]] = {
    "tokens": ("data", tokens.add),
    "pixels": ("data", pixels.add),
    "seeds": ("data", lambda values, place: order.add_seeds(values, anew(place).small())),
    "orders": ("data", lambda values, place: order.add_orders(values, place.small())),
    "captions": ("data", lambda values, place: order.add_captions_and_crops(values, place.small())),
    "loop": ("data", lambda values, place: order.add_steps(values, place.small())),
    "film": ("data", lambda values, place: order.add_batches(values, anew(place).small("video"), "video")),
    "questions": ("decoder", questions),
    "encoder": ("encoder", encoder.add),
    "decoder": ("decoder", lambda values, place: decoder.add_model(values, tiny(), "self-attention", "cpu")),
    "predictions": ("search", lambda values, place: searches.add_run(values, place.small(), "caption", place.folder / "p")),
    "groups": ("optimizer", lambda values, place: steps.add_groups(values, place.small(), "caption")),
    "steps": ("optimizer", lambda values, place: steps.add_steps(values, place.small(), "caption")),
    "search": ("search", lambda values, place: searches.add_model(values, searches.searched("self", "cpu"), "self", "cpu")),
    "scores": ("metric", scores.add),
    "weights": ("decoder", weights.add),
    "spice": ("metric", scores.add_spice_answer),
    "meteor": ("metric", scores.add_meteor),
    "costs": ("search", writing),
}  # fmt: skip


def take(kind: str, folder: Path) -> list[Value | Failure]:
    """Take the values of a kind of this process's code, whatever a test has made of it."""
    init_default_scope("gitbench")
    values, place = Values(), Place(setting=Setting(folder=str(folder)), folder=folder, planned=TINY)
    part, add = TAKES[kind]
    with fresh_cache(folder / "cache"):
        values.attempt(kind, part, lambda: add(values, place))
    return values.found


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Value]]:
    """The values of a kind, of code that is right."""

    @functools.cache
    def of(kind: str) -> dict[str, Value]:
        found = [each for each in take(kind, tmp_path_factory.mktemp("right")) if isinstance(each, Value)]
        return {value.name: value for value in found}

    return of


def wrapped(owner: Any, name: str, change: Callable[..., Any]) -> tuple[Any, str, Any]:
    """Return what replaces a function by `change`, which is given the original first."""
    return owner, name, _bound(getattr(owner, name), change)


def _bound(original: Any, change: Callable[..., Any]) -> Callable[..., Any]:
    def changed(*arguments: Any, **options: Any) -> Any:
        return change(original, *arguments, **options)

    return changed


def doubled_smoothing(original: Any, self: GIT, *rest: Any) -> Any:
    self.label_smoothing *= 2
    try:
        return original(self, *rest)
    finally:
        self.label_smoothing /= 2


def without_temporal(original: Any, self: GIT, images: Any) -> Any:
    kept, self.temporal = self.temporal, None
    try:
        return original(self, images)
    finally:
        self.temporal = kept


def equal_rates(original: Any, model: Any, lr_encoder: float, lr_decoder: float, weight_decay: float) -> Any:
    return original(model, lr_decoder, lr_decoder, weight_decay)


def decay_of_all(original: Any, model: Any, *rest: Any, **options: Any) -> Any:
    return [{**group, "weight_decay": 0.01} for group in original(model, *rest, **options)]


def waiting_step(original: Any, self: Search) -> Any:
    found = original(self)
    found.sum().item()
    return found


def begun_otherwise(original: Any, self: DecoderInitHook, runner: Any) -> Any:
    return original(self, SimpleNamespace(**{**vars(runner), "iter": not runner.iter}))


def first_beam(x: torch.Tensor, parent: torch.Tensor) -> torch.Tensor:
    return x[:, :1].expand(-1, parent.shape[1], -1)


# Name, what is taken, the part that the first finding has to name, and what is replaced by what.
BROKEN: list[tuple[str, str, str, tuple[Any, str, Any]]] = [
    ("truncation", "tokens", "data", wrapped(CaptionTokenizer, "encode", lambda f, self, text, most=40: f(self, text, 40))),
    ("bgr", "pixels", "data", wrapped(ImagePreprocessor, "normalised", lambda f, self, x: f(self, x.flip(1)))),
    ("mean and std swapped", "pixels", "data", (caption_model, "CLIP_MEAN", caption_model.CLIP_STD)),
    ("nearest", "pixels", "data", wrapped(Image.Image, "resize", lambda f, self, size, *_: f(self, size, 0))),
    ("a seed for all replicates", "seeds", "data", (config, "_seed", lambda purpose, spec: derive_seed(purpose, 0))),
    ("one order", "orders", "data", wrapped(dataset, "permutation", lambda f, seed, epoch, count: f(seed, 0, count))),
    ("one caption", "captions", "data", (dataset, "Stream", lambda purpose, seed, number: Stream(purpose, seed, 0))),
    ("a batch again", "loop", "data", (CountedSampler, "__iter__", lambda self: iter(range(max(0, 4 * self.start - 4), 99)))),
    ("one dropout seed", "loop", "optimizer", (loop, "derive_seed", lambda *parts: 7)),
    ("frames reversed", "film", "data", wrapped(SceneTaskSource, "pixels", lambda f, *rest: f(*rest)[::-1])),
    ("loss on the prefix", "questions", "data", (EncodedCaptions, "prefixes_of", lambda self, i: [0] * len(self.of(i)))),
    ("references shifted", "questions", "data", wrapped(SceneTaskSource, "requests", lambda f, self, i: f(self, (i + 1) % 5))),
    ("mask off by one", "decoder", "decoder", wrapped(torch.Tensor, "tril", lambda f, self: f(self, 1))),
    ("smoothing doubled", "decoder", "decoder", wrapped(GIT, "packed_loss", doubled_smoothing)),
    ("padding predicted", "decoder", "decoder", wrapped(git, "pack", lambda f, a, b, rows, pad: f(a, a >= 0, rows, -1))),
    ("eps", "decoder", "decoder", wrapped(nn.LayerNorm, "__init__", lambda f, self, width, eps: f(self, width, eps=1e-8))),
    ("dropout in evaluation", "decoder", "decoder", (Decoder, "attention_dropout", property(lambda self: self.spec.dropout))),
    ("temporal", "encoder", "encoder", wrapped(GIT, "encode", without_temporal)),
    ("frozen in training mode", "encoder", "encoder", (FrozenEncoder, "train", nn.Module.train)),
    ("equal rates", "groups", "optimizer", wrapped(optimizer, "parameter_groups", equal_rates)),
    ("decay of norms", "groups", "optimizer", wrapped(optimizer, "parameter_groups", decay_of_all)),
    ("no warm-up", "groups", "optimizer", wrapped(optimizer, "warmup_cosine", lambda f, step, w, total: f(step, 0, total))),
    ("not clipped", "steps", "optimizer", (DeviceOptimWrapper, "_clip_grad", lambda self: self.norms.append(torch.ones(())))),
    ("not zeroed", "steps", "optimizer", (DeviceOptimWrapper, "zero_grad", lambda self, **_: None)),
    ("penalty's sign", "search", "search", wrapped(Search, "_norm", lambda f, self, length: 1 / f(self, length))),
    ("beams mixed up", "search", "search", (Search, "_of_parent", staticmethod(first_beam))),
    ("bert on resume", "weights", "decoder", wrapped(DecoderInitHook, "before_train", begun_otherwise)),
    ("cider", "scores", "metric", (cider, "SIGMA", 4.0)),
    ("spider of spice", "spice", "metric", (spice, "SCALE", 1.0)),
    ("bleu", "scores", "metric", wrapped(bleu, "_closest", lambda f, comparison: f(comparison) + 1)),
    ("a wait a token", "costs", "search", wrapped(Search, "step", waiting_step)),
    ("the head twice", "costs", "search", wrapped(GIT, "head", lambda f, self, x: (f(self, x), f(self, x))[0])),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "part", "change"), BROKEN, ids=[each[0] for each in BROKEN])
def test_the_first_finding_names_the_part(
    name: str,
    kind: str,
    part: str,
    change: tuple[Any, str, Any],
    right: Callable[[str], dict[str, Value]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    reference = right(kind)
    monkeypatch.setattr(*change)
    findings, _ = compared(take(kind, tmp_path), reference, "cpu")
    assert findings and findings[0].part == part, findings[:3]
    assert findings[0].excess > 1


REFERENCE = ROOT / "gate" / "cpu-x86_64" / "git" / "exact.json"
SUBMIT = Meteor.submit


def test_meteor_that_scores_otherwise_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = read(json.loads(REFERENCE.read_text())["values"]["values"])
    own = {name: each for name, each in known.items() if name.startswith("METEOR") and "its statistics" not in name}
    monkeypatch.setattr(Meteor, "submit", lambda self, texts, refs: SUBMIT(self, texts, [each[:1] for each in refs]))
    findings, count = compared(take("meteor", tmp_path), own, "cpu")
    assert count == len(own) and findings[0].part == "metric" and findings[0].quantity == "METEOR"
    assert "METEOR: signature" not in {each.quantity for each in findings}


@pytest.mark.parametrize(("program", "machine"), [("import os; os.kill(os.getpid(), 9)", True), ("input('x')", False)])
def test_meteor_that_is_killed_is_the_machines_fault(
    program: str, machine: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(meteor, "java_command", lambda *_: [sys.executable, "-c", program])
    if machine:
        with pytest.raises(MachineError, match="METEOR's process died"):
            take("meteor", tmp_path)
    else:
        (failure,) = take("meteor", tmp_path)
        assert isinstance(failure, Failure) and "GitbenchError: METEOR" in failure.error


def test_the_tier_has_meteor_begin_first_and_says_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun: list[bool] = []

    def add(values: Values, place: Place) -> None:
        begun.append(place.meteor.process is not None)
        values.equal("x", 1)

    monkeypatch.setattr(meteor, "java_command", lambda *_: [sys.executable, "-c", "input()"])
    for name in ("TOPICS", "OWN"):
        monkeypatch.setattr(exact, name, (("topic", "data", add),))
    said = []
    for subject in (Subject(), Subject(task="vqa")):
        setting = Setting(folder=str(tmp_path), subject=subject)
        said.append(exact.check(setting, exact.measure(setting)).notes[-1])
    assert begun == [True, True, False, False]
    assert said[0].startswith("SPICE itself is not run") and said[1].startswith("METEOR and SPICE are left out")


def test_a_key_more_in_a_batch_or_a_prediction_changes_nothing(
    right: Callable[[str], dict[str, Value]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kinds = ("film", "groups", "predictions")
    known = {kind: right(kind) for kind in kinds}
    collated, prediction, schedule = Small.batches, run.prediction, config.make_config

    def configured(*given: Any) -> Any:
        made = schedule(*given)
        made.param_scheduler[0]["verbose"] = made.optim_wrapper.clip_grad["norm_type"] = 2
        return made

    monkeypatch.setattr(
        Small, "batches", lambda self, *given: [{**each, "widths": [1]} for each in collated(self, *given)]
    )
    monkeypatch.setattr(run, "prediction", lambda *given: {**prediction(*given), "device": "cpu"})
    monkeypatch.setattr("gitbench.gate.exact.subject.make_config", configured)
    for kind in kinds:
        monkeypatch.setattr(sys.modules[__name__], "TINY", {})
        assert compared(take(kind, tmp_path), known[kind], "cpu") == ([], len(known[kind]))


def test_what_is_right_is_equal_to_the_last_bit(right: Callable[[str], dict[str, Value]], tmp_path: Path) -> None:
    for kind in ("pixels", "decoder", "search", "steps"):
        reference = right(kind)
        again = take(kind, tmp_path)
        assert compared(again, reference, "cpu") == ([], len(reference))
        assert [each.value for each in again] == [each.value for each in reference.values()]  # type: ignore[union-attr]
