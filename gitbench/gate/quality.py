"""Quality: seeds of models that see, trained, captioned and scored as in every study, against the reference's seeds.

One arm, the subject, at a size at which it learns most of what can be learned (`quality_study`). Seed i has the data order,
initial values and dropout of seed i of the reference, so code that computes the same gives the same predictions, byte for
byte, or on another processor the same scores to rounding, and the check ends at the first look. Else likelihood, the task's
main score and SceneF1 are compared with all seeds of the reference (`noninferiority`) until all are shown to be as good, or
one to be worse.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gitbench.data import data_names
from gitbench.errors import GitbenchError
from gitbench.formats import plural
from gitbench.gate.diverged import diverged
from gitbench.gate.noninferiority import FOUND, Rule, lower_bounds
from gitbench.gate.outcome import Finding, Measured, Stale
from gitbench.gate.quality_study import BASE, BLIND, DESIGN, Design, QualityStudy, Seeds
from gitbench.gate.setting import Setting
from gitbench.metric_info import display_name, quality_sign
from gitbench.run_key import from_json
from gitbench.spec import MARGIN

REASON = (
    "a tenth of what the model learned, its mean score less that of the same model without sight: the margin of claims"
)
LARGEST_SD = 0.65  # of a seed, in margins: up to it a harmless change passes (docs/tools/gate_power.py)
SAME = 1e-6  # relative difference of two scores of the same texts: a library may sum in another order
ALIKE = 1e-5  # and of two scores of one seed to rounding: another processor gave the same texts, and likelihoods within 5e-7
LIKELIHOOD = "test_nll"
LITTLE = 0.5  # margins: a likelihood that is worse by less does not explain worse texts
RECORD = "make it again with `gitbench gate record`"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricReference:
    """A metric of the reference, in its own unit: a value a seed, the blind floor's mean, the margin."""

    values: tuple[float, ...]
    floor: float
    margin: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityReference:
    """What a reference holds. `study`, `data`: hashes of what was trained, and on what."""

    study: str
    data: str
    margin_reason: str
    digests: tuple[str, ...]  # of the predictions, one a seed
    metrics: Mapping[str, MetricReference]
    left_out: Mapping[str, str]  # metric -> why it is not gated by


def measure(setting: Setting, design: Design = DESIGN) -> dict[str, Any]:
    """Train the reference's seeds and the blind floor; returns the values of a `QualityReference`.

    Errors: GitbenchError where a run fails, or the subject learns too little, or too unsteadily, to be gated by.
    """
    study = QualityStudy(setting, design)
    floor, seeds = study.seeds(BLIND, design.floor_seeds), study.seeds(BASE, design.reference_seeds)
    metrics, left_out = dict[str, MetricReference](), dict[str, str]()
    for name, values in seeds.scores.items():
        low, sd = float(np.mean(floor.scores[name])), float(np.std(values, ddof=1))
        margin = MARGIN * quality_sign(name) * (float(np.mean(values)) - low)
        if margin > 0 and sd <= LARGEST_SD * margin:
            metrics[name] = MetricReference(values=values, floor=low, margin=margin)
        else:
            left_out[name] = f"its seeds vary by {_said(sd)} (sd), and a tenth of what was learned is {_said(margin)}"
    if not metrics:
        said = "; ".join(f"{display_name(name)}: {why}" for name, why in left_out.items())
        raise GitbenchError(f"this model learns too little at the tier's size ({said}): leave it out (--tiers)")
    return dataclasses.asdict(
        QualityReference(
            study=study.plan.setting,
            data=study.plan.data_fingerprint,
            margin_reason=REASON,
            digests=seeds.digests,
            metrics=metrics,
            left_out=left_out,
        )
    )


def check(setting: Setting, values: Mapping[str, Any], design: Design = DESIGN) -> Measured:
    """Train seeds until it is decided whether they are as good as the reference's.

    Errors: Stale where the reference is of another study or of other data; GitbenchError where it is damaged or has too few
    seeds, or a run fails.
    """
    try:
        reference = from_json(QualityReference, values)
    except (TypeError, ValueError):
        raise GitbenchError(f"the reference of quality is damaged: {RECORD}") from None
    study = QualityStudy(setting, design)
    _check_same(reference, study, setting.subject.data)
    for count in design.rule.looks:
        try:
            seeds = study.seeds(BASE, count)
        except GitbenchError as error:
            if (found := diverged(error)) is None:
                raise
            return found
        look = _Look(reference, seeds, design.rule)
        if look.decided:
            break
    return look.measured()


def _check_same(reference: QualityReference, study: QualityStudy, data: str | None) -> None:
    """Refuse a reference of another study, of a folder with another content, or with too few seeds."""
    if reference.study != study.plan.setting:
        raise Stale(f"the reference of quality is of another study (its sizes, rates or arm): {RECORD}")
    if data is not None and data not in data_names() and reference.data != study.plan.data_fingerprint:
        raise Stale(f"the reference of quality was made of other data than {data} holds now: {RECORD}")
    seeds = min(len(reference.digests), *(len(each.values) for each in reference.metrics.values()))
    if seeds < study.design.least:
        raise GitbenchError(f"the reference of quality has {seeds} seeds, {study.design.least} are needed: {RECORD}")


class _Look:
    """What seeds show beside the reference's."""

    def __init__(self, reference: QualityReference, seeds: Seeds, rule: Rule) -> None:
        self.reference, self.rule = reference, rule
        self.count, self.names = len(seeds.digests), list(reference.metrics)
        if missing := [name for name in self.names if name not in seeds.scores]:
            raise GitbenchError(f"quality: {display_name(missing[0])} is not scored any more: see why, or {RECORD}")
        self.equal = sum(one == other for one, other in zip(seeds.digests, reference.digests, strict=False))
        metrics = reference.metrics
        self.values = {name: np.array(seeds.scores[name]) for name in self.names}
        self.off = {name: _off(each, metrics[name].values) for name, each in self.values.items()}
        self.alike = int(np.all([each <= ALIKE for each in self.off.values()], axis=0).sum())
        beside = self.count if self.unchanged else None
        self.known = {name: np.array(metrics[name].values[:beside]) for name in self.names}
        units = {name: quality_sign(name) / metrics[name].margin for name in self.names}
        change = np.array([units[name] * self.values[name] for name in self.names])  # in margins, more is better
        other = np.array([units[name] * np.array(metrics[name].values) for name in self.names])
        self.differences = change.mean(-1) - other.mean(-1)
        self.worse, self.good = rule.worse(change, other), rule.as_good(change, other)
        low = lower_bounds(change, other, rule.level(self.count))
        self.bounds = [None if math.isinf(each) else -float(each) for each in low]  # at most so many margins worse

    @property
    def identical(self) -> bool:
        """Whether all predictions are the reference's, byte for byte."""
        return self.equal == self.count

    @property
    def unchanged(self) -> bool:
        """Whether all predictions are the reference's, or all scores, seed by seed, to rounding."""
        return self.identical or self.alike == self.count

    @property
    def decided(self) -> bool:
        """Whether no more seeds are needed."""
        return self.unchanged or bool(self.worse.any() or self.good.all()) or self.count == self.rule.most

    def measured(self) -> Measured:
        """Return what was found."""
        pairs = (f"{display_name(name)} {self._pair(name)}" for name in self.names)
        same = f"{self.alike} of them with the reference's scores to rounding, {self.equal} with the bytes of its predictions"
        did = f"{plural(self.count, 'seed')}, {same}: {'; '.join(pairs)}"
        left_out = self.reference.left_out.items()
        return Measured(
            compared=self.count * len(self.names),
            did=did,
            findings=tuple(self._rescored() if self.identical else () if self.unchanged else self._findings()),
            notes=tuple(f"{display_name(name)} is left out: {why}" for name, why in left_out),
            finds=f"{', '.join(self._found(name) for name in self.names)} (with up to {self.rule.most} seeds)",
            details={"seeds": {name: self._details(place) for place, name in enumerate(self.names)}},
        )

    def _found(self, name: str) -> str:
        """Say by how much a metric has to be worse to be red in 90 % of checks."""
        return f"{display_name(name)} worse by {_said(FOUND * self.reference.metrics[name].margin)}"

    def _findings(self) -> list[Finding]:
        """Return the metrics that are worse or, where none is, those that are not shown to be as good."""
        wrong = self.worse if self.worse.any() else ~self.good
        return [self._finding(place) for place in np.flatnonzero(wrong).tolist()]

    def _finding(self, place: int) -> Finding:
        name, bound = self.names[place], self.bounds[place]
        margin, down = self.reference.metrics[name].margin, -float(self.differences[place])
        change = f"{_said(abs(down) * margin)} {'worse' if down > 0 else 'better'}"
        sure = f"{100 * (1 - self.rule.level(self.count)):g} % bound"
        at_most = "" if bound is None else f" (at most {_said(bound * margin)} worse, {sure})"
        shown = "worse" if self.worse[place] else "not shown to be as good"
        likelihood = self.differences[self.names.index(LIKELIHOOD)] if LIKELIHOOD in self.names else 0.0
        return Finding(
            quantity=f"{display_name(name)} of {plural(self.count, 'seed')}",
            part="search" if name != LIKELIHOOD and likelihood > -LITTLE else "decoder",
            value=_said(self.values[name].mean()),
            reference=_said(self.known[name].mean()),
            excess=down if self.worse[place] or bound is None else bound,
            said=f"{display_name(name)} of {plural(self.count, 'seed')} is {shown}: {self._pair(name)}, {change}{at_most}, "
            f"margin {_said(margin)}",
        )

    def _rescored(self) -> list[Finding]:
        """Return the metrics that give the reference's predictions another score."""
        findings = []
        for name in self.names:
            if not (off := float(self.off[name].max())) > SAME:
                continue
            findings.append(
                Finding(
                    quantity=f"{display_name(name)} of the same predictions",
                    part="metric",
                    value=_said(self.values[name].mean()),
                    reference=_said(self.known[name].mean()),
                    excess=off / SAME,
                    said=f"{display_name(name)} scores the reference's very predictions otherwise: {self._pair(name)}",
                )
            )
        return findings

    def _pair(self, name: str) -> str:
        return f"{_said(self.values[name].mean())} against {_said(self.known[name].mean())}"

    def _details(self, place: int) -> dict[str, Any]:
        """Return what a picture of a metric shows.

        `difference`: from the mean beside which the seeds are set, more is better; `bound`: so much worse at most, None: nothing
        is known; both in the metric's unit.
        """
        name, bound = self.names[place], 0.0 if self.unchanged else self.bounds[place]
        known = self.reference.metrics[name]
        return {
            "reference": list(known.values),
            "value": self.values[name].tolist(),
            "floor": known.floor,
            "margin": known.margin,
            "difference": quality_sign(name) * float(self.values[name].mean() - self.known[name].mean()),
            "bound": None if bound is None else bound * known.margin,
            "look": self.count,
        }


def _off(values: np.ndarray, known: Sequence[float]) -> np.ndarray:
    """Return the relative difference of each value from the same seed's of the reference."""
    beside = np.array(known[: len(values)])
    return np.asarray(np.abs(values - beside) / np.maximum(np.abs(beside), 1e-9))


def _said(value: float) -> str:
    """Return a number with four digits."""
    return f"{value:.4g}"
