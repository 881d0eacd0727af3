"""The tier `trajectory`: each kind of mistake leaves the band where it should, and rounding does not."""

from __future__ import annotations

import dataclasses
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers_gate import TINY

from gitbench.data.dataset import CaptionDataset, permutation
from gitbench.data.image_processor import ImageProcessor
from gitbench.errors import GitbenchError
from gitbench.gate import lane, trajectory, watch
from gitbench.gate.band import FLOOR, WIDTH, compared, limits, ratios, resumed, spread_of, unsteady
from gitbench.gate.outcome import BEYOND, Finding, Stale
from gitbench.gate.saved import otherwise
from gitbench.gate.setting import Setting
from gitbench.gate.trainings import Asked, Disturbance, Training
from gitbench.metrics import CaptionScorer
from gitbench.models.encoder import ImageEncoder
from gitbench.models.git import GIT
from gitbench.models.init import initialise
from gitbench.training.caption import Captioner
from gitbench.training.caption_model import CaptionModel, ImagePreprocessor
from gitbench.training.data import CountedSampler
from gitbench.training.optimizer import DeviceOptimWrapper, warmup_cosine
from gitbench.training.run import load_run

STOPPED = dataclasses.replace(TINY, resumed=True)


@pytest.fixture(scope="module")
def scorer() -> Iterator[CaptionScorer]:
    with CaptionScorer(meteor=False, spice=False) as found:
        yield found


def trained(folder: Path, scorer: Any, training: Training = TINY, **asked: Any) -> dict[str, Any]:
    """Train a tiny training in this process, and return what was seen."""
    folder.mkdir()
    lane.observe(folder, training, Asked(trainings=(training,), **asked), scorer)
    return json.loads((folder / lane.OBSERVED).read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, scorer: CaptionScorer) -> dict[str, Any]:
    """What was seen of the tiny training, undisturbed."""
    return trained(tmp_path_factory.mktemp("tiny") / "whole", scorer, STOPPED)


@pytest.fixture
def reference(whole: dict[str, Any]) -> dict[str, Any]:
    """The same as a reference whose repeats had its bits."""
    return {**whole["run"], "spread": spread_of(whole["run"], []), "unsteady": {}}


def findings(reference: dict[str, Any], now: dict[str, Any]) -> list[Finding]:
    """What the tier would say, likeliest cause first."""
    ranked = [*compared("tiny", reference, now["run"])]
    if "resumed" in now and (broken := resumed(STOPPED, now["run"], now["resumed"])) is not None:
        ranked.append(broken)
    if "saved" in now and (other := otherwise("tiny", now["run"], now["saved"])) is not None:
        ranked.append(other)
    return [each[2] for each in sorted(ranked, key=lambda each: each[:2])]


def test_the_same_again_and_from_its_middle_has_the_same_bits(tmp_path, whole, reference, scorer):
    again = trained(tmp_path / "again", scorer)
    assert (
        again["run"] == {**whole["run"], "bytes_a_step": again["run"]["bytes_a_step"]}
        and again["computed"] == whole["computed"]
    )
    assert findings(reference, whole) == []
    assert len(whole["resumed"]["numbers"]["loss"]) == 4 and whole["resumed"]["weights"] == whole["run"]["weights"]
    assert max(whole["run"]["numbers"]["grad_norm"]) > 1  # clipping is active
    assert len(set(whole["run"]["exact"]["images"])) == 8  # in three epochs and a half
    assert not (tmp_path / "again" / lane.RUN).exists()


def test_rounding_stays_in_the_band(tmp_path, whole, reference, scorer):
    now = trained(tmp_path / "nudged", scorer, disturbance=Disturbance(name="nudge", nudge=3))
    assert now["run"]["weights"] != whole["run"]["weights"]
    assert now["run"]["numbers"]["test_nll"] != whole["run"]["numbers"]["test_nll"]
    assert findings(reference, now) == []
    assert findings(reference, {**now, "resumed": whole["resumed"]}) != []


def _kept(self: Any, data: Any, optim_wrapper: Any) -> Any:
    self.kept = [*getattr(self, "kept", []), torch.zeros(250_000)]
    return _train_step(self, data, optim_wrapper)


_train_step, _forward, _loss, _write = CaptionModel.train_step, ImageEncoder.forward, GIT.packed_loss, GIT.write
_normalised, _caption = ImagePreprocessor.normalised, Captioner.caption


def _initial(loaded: Any) -> Any:
    initialise(loaded[0].git, 0)
    return loaded


WARMUP = "gitbench.training.optimizer.warmup_cosine"
BROKEN: dict[
    str, tuple[Any, str, Any, str, str]
] = {  # what is replaced, by what; the first finding's part and quantity
    "same order in every epoch": (
        *(CaptionDataset, "index_of"),
        lambda self, number: int(permutation(self.seed, 0, len(self))[number % len(self)]) if self.train else number,
        *("data", "the choice of images, step 3"),
    ),
    "blue for red": (
        *(ImagePreprocessor, "normalised", lambda self, images: _normalised(self, images.flip(-3))),
        *("data", "the channels' mean and deviation after normalisation, number 1"),
    ),
    "encoder": (
        *(ImageEncoder, "forward", lambda self, *given: _forward(self, *given) * 1.0001),
        *("encoder", "what the encoder makes of the first batch, number 1"),
    ),
    "no warm-up": (
        *(WARMUP, "", lambda step, warmup, total: warmup_cosine(step, 0, total)),
        *("optimizer", "the encoder's learning rate, step 1"),
    ),
    "loss": (
        *(GIT, "packed_loss", lambda self, *given: _loss(self, *given) * 1.0001),
        *("decoder", "the training loss, step 1"),
    ),
    "gradients not zeroed": (
        *(DeviceOptimWrapper, "zero_grad", lambda self, **_: None),
        *("optimizer", "the training loss, step 3"),
    ),
    "no clipping": (
        *(DeviceOptimWrapper, "_clip_grad", lambda self: None),
        *("optimizer", "the training loss, step 3"),  # Adam's first step is the same whatever the gradient's scale
    ),
    "dropout in evaluation": (
        *(CaptionModel, "eval", lambda self: self),
        *("decoder", "the validation likelihood, validation 1"),
    ),
    "search": (
        *(GIT, "write", lambda self, *given, **options: _write(self, *given, **{**options, "length_penalty": 0.0})),
        *("search", "the score of the search, test image 1"),
    ),
    "leak": (CaptionModel, "train_step", _kept, "optimizer", "bytes that a step leaves behind"),
    "a batch again after a stop": (
        *(CountedSampler, "__iter__", lambda self: iter(range(max(0, self.start - 1), 10**6))),
        *("data", "stopped and begun again: the choice of images, step 5"),
    ),
    "all steps again after a stop": (
        *("gitbench.training.run.latest_checkpoint", "", lambda folder: None),
        *("optimizer", "stopped and begun again: the choice of images, values"),
    ),
    "initial values in a saved model": (
        *("gitbench.training.caption.load_run", "", lambda file: _initial(load_run(file))),
        *("search", "its saved model: the score of scenes-test-0"),
    ),
    "pixels of a saved model": (
        *(ImageProcessor, "pixels", lambda self, image: self.resized(image).transpose(2, 0, 1) / np.float32(255)),
        *("search", "its saved model: the score of scenes-test-0"),
    ),
    "texts of a saved model": (
        *(Captioner, "caption", lambda self, *given: _caption(self, *given)[1:]),
        *("search", "its saved model: the caption of scenes-test-0"),
    ),
    "a saved model that cannot be loaded": (
        *("gitbench.training.caption.load_run", "", lambda file: {}["x"]),
        *("search", "its saved model: the caption of the first images"),
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_mistake_is_found_and_named(mistake, tmp_path, reference, scorer, monkeypatch):
    where, name, broken, part, quantity = BROKEN[mistake]
    monkeypatch.setattr(*((where, broken) if isinstance(where, str) else (where, name, broken)))
    first = findings(reference, trained(tmp_path / "broken", scorer, STOPPED if "stop" in mistake else TINY))[0]
    assert (first.part, first.quantity.partition("tiny")[2].lstrip(":, ")) == (part, quantity)
    assert first.excess > 1 and "tiny" in first.said


def changed(seen: dict[str, Any], kind: str, name: str, **places: Any) -> dict[str, Any]:
    """Return what was seen with other values at some places (`at_3=...`)."""
    values = list(seen[kind][name])
    for place, value in places.items():
        values[int(place[3:])] = value
    return {**seen, kind: {**seen[kind], name: values}}


def test_references_of_another_image_and_a_metric_that_scores_otherwise_are_named(whole, reference):
    run = whole["run"]
    first = [each[2] for each in compared("tiny", reference, changed(run, "exact", "references", at_1="another"))]
    assert [each.part for each in first] == ["data"] and "the references of tiny" in first[0].said
    scored = {**run, "metrics": {**run["metrics"], "CIDEr": run["metrics"]["CIDEr"] + 0.01}}
    first = [each[2] for each in compared("tiny", reference, scored)]
    assert [(each.part, each.quantity) for each in first] == [("metric", "tiny: CIDEr of the reference's captions")]
    gone = {**run, "metrics": {name: value for name, value in run["metrics"].items() if name != "BLEU-4"}}
    assert [each[2].value for each in compared("tiny", reference, gone)] == ["nothing"]


def test_one_caption_may_fall_another_way_and_two_may_not(whole, reference):
    one = changed(changed(whole["run"], "exact", "caption", at_0="a tie"), "numbers", "score", at_0=-1.0)
    assert list(compared("tiny", reference, one)) == []
    two = changed(one, "exact", "caption", at_1="a tie")
    assert [each[2].part for each in compared("tiny", reference, two)] == ["search"]
    assert list(compared("tiny", {**reference, "unsteady": {"caption": [1]}}, two)) == []


def test_what_is_no_number_and_what_is_missing_are_outside(whole, reference):
    run = whole["run"]
    lost = [each[2] for each in compared("tiny", reference, changed(run, "numbers", "loss", at_5=float("nan")))]
    assert [each.quantity for each in lost] == ["tiny: the training loss, step 6"] and lost[0].excess == BEYOND
    short = {**run, "numbers": {**run["numbers"], "loss": run["numbers"]["loss"][:-1]}}
    assert "has 7 values, not 8" in next(compared("tiny", reference, short))[2].said
    frozen = {**run, "numbers": {name: value for name, value in run["numbers"].items() if name != "lr_encoder"}}
    assert next(compared("tiny", reference, frozen))[2].part == "optimizer"


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("numbers", "loss", lambda values: values[1:]),
        ("exact", "val_batches", lambda values: [*values, *values]),
        ("exact", "caption", lambda values: values[:-1]),
        ("numbers", "val_nll", lambda values: values[1:]),
        ("numbers", "test_nll", lambda values: []),
        ("numbers", "lr_encoder", lambda values: None),
    ],
)
def test_a_resumed_training_leaves_as_many_values_as_it_should(kind, name, change, whole):
    run, again = whole["run"], whole["resumed"]
    assert resumed(STOPPED, run, again) is None
    values = {**again[kind], name: change(again[kind][name])}
    other = {**again, kind: {key: each for key, each in values.items() if each is not None}}
    found = resumed(STOPPED, run, other)
    assert found is not None and found[2].part == "optimizer" and found[2].quantity.endswith(", values")
    count = len(again[kind][name])
    assert found[2].reference == str(count) and f"not {count}" in found[2].said


def test_what_a_broken_run_lacks_is_no_crash(whole):
    run = whole["run"]
    silent = {**run, "numbers": {**run["numbers"], "val_nll": []}}
    assert resumed(STOPPED, silent, whole["resumed"]) is not None
    for rows in (0, 1):
        exact = {name: values[:rows] for name, values in run["exact"].items()}
        cut = {**run, "exact": exact, "numbers": {**run["numbers"], "score": run["numbers"]["score"][:rows]}}
        _, place, finding = otherwise("tiny", cut, whole["saved"])
        assert (place, finding.reference) == (rows, "no prediction")


def test_a_reference_of_other_quantities_is_stale(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(trajectory, "trainings_of", lambda _: (TINY,))
    monkeypatch.setattr(trajectory, "disturbances", lambda _: ())
    monkeypatch.setattr(trajectory, "train", lambda *_: {"tiny": whole})
    values = json.loads(json.dumps(trajectory.measure(Setting(folder=str(tmp_path)))))
    assert not trajectory.check(Setting(folder=str(tmp_path)), values).findings
    monkeypatch.setattr(trajectory, "QUANTITIES", trajectory.QUANTITIES[1:])
    with pytest.raises(Stale, match="of other quantities"):
        trajectory.check(Setting(folder=str(tmp_path)), values)


def numbers(**values: list[float]) -> dict[str, Any]:
    return {"numbers": values, "exact": {"caption": ["a", "b"]}}


def test_the_band_is_the_largest_deviation_so_far(monkeypatch):
    middle = numbers(loss=[4.0, 3.0, 2.0], nll=[10.0, 20.0])
    repeats = [numbers(loss=[4.0, 3.5, 2.25], nll=[10.5, 20.0]), numbers(loss=[4.125, 3.0, 2.0], nll=[10.0, 20.125])]
    spread = spread_of(middle, repeats)
    assert spread == {"loss": [0.125, 0.5, 0.5], "nll": [0.5]}
    assert limits("loss", [4.0, 3.0, 2.0], spread["loss"]) == [
        FLOOR * value + WIDTH * own for value, own in ((4.0, 0.125), (3.0, 0.5), (2.0, 0.5))
    ]
    assert limits("nll", [10.0, 20.0], [0.5])[1] == FLOOR * 20 + WIDTH * 0.5
    assert ratios(middle, spread, repeats[0])["loss"] == pytest.approx(1 / WIDTH, rel=1e-3)
    assert unsteady(middle, [numbers(), {**numbers(), "exact": {"caption": ["a", "c"]}}]) == {"caption": [1]}
    # of each repeat, beside the band of the other one
    left_out = trajectory.left_one_out({"tiny": middle}, [{"tiny": each} for each in repeats])
    assert left_out[0] == pytest.approx(0.5 / (FLOOR * 3 + WIDTH * 0.125), rel=1e-3) and left_out[1] > 100


def test_what_is_made_once_is_no_leak_and_what_stays_after_each_step_is():
    once = [100, 100, 100, 100, 5000, 5000, 5000, 9000, 9000, 9010, 9010, 9010]
    assert lane.left_behind(once) < 5
    assert lane.left_behind([1000 * step for step in range(12)]) == 1000
    assert lane.left_behind([7]) == 0


def test_without_glibc_the_resident_memory_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(watch.ctypes, "CDLL", lambda _: SimpleNamespace())
    assert watch.live_bytes() > 10**7
    monkeypatch.setattr(watch, "STATM", tmp_path / "statm")  # no Linux
    assert watch.live_bytes() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_check_says_what_it_did_and_measure_makes_no_reference_of_a_broken_resume(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(trajectory, "trainings_of", lambda _: (STOPPED,))
    monkeypatch.setattr(trajectory, "disturbances", lambda _: (Disturbance(name="nudge", nudge=1),))
    monkeypatch.setattr(trajectory, "train", lambda *_: {"tiny": whole})
    setting = Setting(folder=str(tmp_path))
    values = json.loads(json.dumps(trajectory.measure(setting)))
    found = trajectory.check(setting, values)
    assert not found.findings and found.compared > 80 and "8 steps of 1 training" in found.did
    assert "1 of 1 trainings have the reference's bits, on the same kind of CPU" in found.notes[0]
    assert found.notes[1].startswith("nearest to the end of its band: ") and found.notes[1].endswith(" 0 % of it")
    curve = found.details["curves"]["tiny"]
    assert curve["steps"] == list(range(1, 9))
    assert all(
        low < value < high for low, value, high in zip(*(curve[name] for name in ("low", "value", "high")), strict=True)
    )
    kept = tmp_path / "log.txt"  # which its process holds open
    kept.write_text("it trains")
    done = tmp_path / "nudge" / "tiny" / lane.OBSERVED  # of a record of this code that was stopped
    done.parent.mkdir(parents=True)
    done.touch()
    trajectory.measure(setting)
    assert kept.exists() and done.exists()
    silent = {**whole, "saved": {**whole["saved"], "scenes-test-1": {"caption": "", "score": 0.0}}}
    monkeypatch.setattr(trajectory, "train", lambda *_: {"tiny": silent})
    assert (
        "the saved model of tiny gives scenes-test-1 the score 0" in trajectory.check(setting, values).findings[0].said
    )
    other = {**whole, "resumed": changed(whole["resumed"], "exact", "images", at_0="others")}
    monkeypatch.setattr(trajectory, "train", lambda *_: {"tiny": other})
    assert trajectory.check(setting, values).findings[0].part == "data"
    with pytest.raises(GitbenchError, match="no reference was made"):
        trajectory.measure(setting)
    monkeypatch.setattr(trajectory, "trainings_of", lambda _: (dataclasses.replace(STOPPED, steps=9),))
    with pytest.raises(Stale, match="other trainings"):
        trajectory.check(setting, values)
