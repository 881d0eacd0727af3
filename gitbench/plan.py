"""Plans as values: of a study (its arms and runs, and what they share), which `gitbench.study.plan` makes; of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gitbench.errors import lookup
from gitbench.spec import Claim, Compute, RunSpec, TaskSpec, unkeyed


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What the model must know of the tokenizer: its true size and the ids of its special tokens."""

    size: int
    pad_id: int
    bos_id: int
    eos_id: int


@dataclass(frozen=True, kw_only=True)
class PlannedArm:
    """An arm of a plan, with a label for people computed from what it varies."""

    name: str
    role: str  # "arm", or "floor": never sees the image
    variants: Mapping[str, str]
    label: str
    labels: Mapping[str, str] = field(default_factory=dict)  # axis -> its part of the label
    seeds: int | None = None  # at most so many (`spec.Arm`)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One arm and replicate of a study; `run_key` names its folder.

    `spec` and `data_fingerprint` (of the run's own amount) are None in a plan read from its file: the record holds them.
    """

    arm: str
    replicate: int
    run_key: str
    spec: RunSpec | None = None
    data_fingerprint: str | None = None

    @property
    def resolved(self) -> RunSpec:
        """The spec, of a plan that was just made."""
        assert self.spec is not None
        return self.spec


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A tuning run of an arm: a factor of the profile's rates, a tuning seed, and what came of it."""

    factor: float
    seed: int
    run_key: str
    val_nll: float | None  # when its training ended, nats per token; None: it diverged


def is_likelihood(value: object) -> bool:
    """Tell whether a value can be what a tuning run gave: a finite likelihood, or None where it diverged."""
    return value is None or (isinstance(value, (int, float)) and math.isfinite(value))


@dataclass(frozen=True, kw_only=True)
class ArmRate:
    """The factor of the profile's rates that an arm is trained at, and the tuning runs that chose it."""

    arm: str
    factor: float
    trials: tuple[Trial, ...] = ()

    def val_nll(self, factor: float) -> float | None:
        """Return the mean validation likelihood at a factor; None where one of its runs diverged, or there is none."""
        found = [trial.val_nll for trial in self.trials if trial.factor == factor]
        known = [each for each in found if each is not None]
        return sum(known) / len(known) if known and len(known) == len(found) else None

    @property
    def best(self) -> float | None:
        """The factor with the best mean likelihood, of several alike the one nearest to 1; None where all diverged."""
        means = {trial.factor: self.val_nll(trial.factor) for trial in self.trials}
        found = [(mean, abs(math.log(factor)), factor) for factor, mean in means.items() if mean is not None]
        return min(found)[2] if found else None


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How the learning rates of a study's arms were chosen. No `arms`: all are trained at the profile's rates."""

    grid: tuple[float, ...]  # factors of both of the profile's rates
    lr_encoder: float  # the profile's
    lr_decoder: float
    arms: tuple[ArmRate, ...] = ()

    def at_an_end(self, arm: ArmRate) -> bool:
        """Tell whether an arm took the least or the largest factor of the grid, so that one beyond may be better."""
        return arm.factor in (min(self.grid), max(self.grid))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study as a value: an ablation crossed with a profile and a data set, and the runs it consists of."""

    ablation: str
    profile: str
    data: str  # label of the data set, with marks for its content and for overridden options
    data_fingerprint: str
    command: str
    title: str
    question: str
    axis: str
    crossed_with: str | None = None
    base: str
    task: str = "caption"
    claims: tuple[Claim, ...]
    arms: tuple[PlannedArm, ...]
    runs: tuple[PlannedRun, ...]
    common: Mapping[str, str] = field(default_factory=dict)  # axis -> variant that all arms share
    cfg_options: Mapping[str, str] = field(default_factory=dict)  # key -> repr of its value
    vocabulary: Vocabulary
    test_images: int | None = None
    yardstick_key: str | None
    claim_hashes: Mapping[str, str] = field(default_factory=dict)  # "ablation/claim" -> hash, as its file states them
    setting: str = ""  # hash of its arms and sizes (`study.lock.setting_hash`); "": planned by an earlier version
    design: Literal["fixed", "sequential"] = "fixed"  # judged at all its seeds, or after every added one
    seeds: int | None = None  # of a fixed study: how many an arm has; None: planned by an earlier version
    mark: str = ""  # what the study's name says of design, seeds, rates, compute; "": fixed, tuned, the rest as usual
    rates: Rates | None = None  # None: the profile has no grid of rates
    run_seconds: float = 0.0  # one run, as the profile guesses
    data_notes: tuple[str, ...] = ()  # how splits were made, what was left out, images that two splits share
    text_tokens: int = 0  # of all texts of an image, the most in a sample; 0: planned by an earlier version

    @property
    def label(self) -> str:
        """The label of the data, with the mark of design, seeds and rates."""
        return self.data + self.mark

    @property
    def name(self) -> str:
        """The study's name: "<ablation>.<profile>.<label>"."""
        return f"{self.ablation}.{self.profile}.{self.label}"

    @property
    def compute(self) -> Compute:
        """What the runs compute on, of a plan that was just made; the CPU where none is listed."""
        return self.runs[0].resolved.compute if self.runs else Compute()

    @property
    def tuned(self) -> tuple[ArmRate, ...]:
        """The arms' own learning rates; none where all are trained at the profile's."""
        return self.rates.arms if self.rates else ()

    def factor(self, arm: str) -> float:
        """Return the factor of the profile's learning rates that an arm is trained at."""
        return next((each.factor for each in self.tuned if each.arm == arm), 1.0)

    def arm(self, name: str) -> PlannedArm:
        """Return the arm called `name`; an unknown name offers the nearest."""
        return lookup("arm", name, {arm.name: arm for arm in self.arms})


@dataclass(frozen=True, kw_only=True)
class PlannedEvaluation:
    """What of a checkpoint is scored on which images, and all that decides the result.

    `data_fingerprint` and `content` stand in for names in the key; `batch` is keyed, since sums of floats depend on what else
    is in a batch, and so is what computes.
    """

    name: str = unkeyed("")  # of the weights, for people
    weights: str = unkeyed("")  # where they lie
    content: str  # SHA-256 of the files of weights
    model: Mapping[str, Any]  # encoder, decoder and vision, whether the head is tied, how many frames
    tokenizer_given: str | None = unkeyed(None)  # instead of the checkpoint's own
    tokenizer: str  # its fingerprint
    cleans_up: bool = unkeyed(True)  # whether its texts are put together as the official code does
    rule: Mapping[str, Any]  # for photographs (`ImageProcessor`)
    search: Mapping[str, Any]  # arguments of `GIT.generate`
    max_tokens: int  # of a text, without [CLS] and [SEP]
    task: TaskSpec
    data: str = unkeyed("scenes")
    split: str = unkeyed("test")
    limit: int | None = unkeyed(None)  # images; None: all
    images: int = unkeyed(0)  # how many there are
    data_fingerprint: str
    batch: int
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def batches(self) -> int:
        """How many batches the images make."""
        return -(-self.images // self.batch)

    def numbers(self, batch: int) -> range:
        """The images of a batch."""
        return range(batch * self.batch, min(self.images, (batch + 1) * self.batch))
