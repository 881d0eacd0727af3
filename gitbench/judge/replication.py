"""Does a run that was made again agree with the one in the bundle? Bit for bit, or else within the noise of seeds.

Where predictions are equal byte for byte, so must the scores be. Where they are not (another machine, other versions)
the new run counts as one more draw: two draws of spread s differ with sd s * sqrt(2), so a difference is allowed up to
t * s * sqrt(2), t being Student's quantile at 5 % over all comparisons made (Bonferroni). s is the measured noise floor
of profile and data where the bundle has one, else the spread between the bundle's own replicates of that arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from gitbench.formats import plural
from gitbench.judge.noise import NoiseFloor
from gitbench.metric_info import ordered

LEVEL = 0.05  # for at least one false alarm in a whole replication
_ROUNDING = 1e-9  # relative, of scores that are computed from the same texts
_FACTS = ("git_revision", "python", "platform", "cpu", "machine")  # of provenance, beside the packages
AGREE, DISAGREE, OPEN = "agree", "disagree", "not judged"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far draws of one arm lie apart in a metric: their standard deviation, its degrees of freedom, and from what."""

    sd: float
    df: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of one run: the bundle's value and the new one; `allowed` is the largest difference that agrees."""

    metric: str
    bundle: float
    here: float
    difference: float
    allowed: float | None
    basis: str
    word: str


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """A run that was made again; `failed` says why it could not be, and then nothing is compared."""

    arm: str
    replicate: int
    run_key: str
    identical: bool = False  # the predictions, byte for byte
    comparisons: tuple[Comparison, ...] = ()
    only_in_one: tuple[str, ...] = ()  # metrics that one of the two lacks
    environment: tuple[str, ...] = ()  # what differs: packages, machine
    failed: str = ""

    @property
    def word(self) -> str:
        """The verdict on this run."""
        words = {each.word for each in self.comparisons}
        return DISAGREE if DISAGREE in words else AGREE if words == {AGREE} and not self.failed else OPEN

    @property
    def notes(self) -> tuple[str, ...]:
        """What differed around the run."""
        return (*self.environment, *(f"{metric} was computed on one side only" for metric in self.only_in_one))


def spread_of(records: Sequence[Mapping[str, Any]], metric: str, floor: NoiseFloor | None = None) -> Spread | None:
    """Return the spread of a metric: the measured noise floor (`sd`, `n`), else that of the records of one arm's replicates."""
    if floor is not None and floor.n >= 2:
        return Spread(sd=floor.sd, df=floor.n - 1, source=f"noise floor, {floor.n} replicates")
    values = [record["metrics"][metric]["value"] for record in records if metric in record["metrics"]]
    if len(values) < 2:
        return None
    source = f"spread of the arm's {len(values)} replicates"
    return Spread(sd=float(np.std(values, ddof=1)), df=len(values) - 1, source=source)


def allowed_difference(spread: Spread, comparisons: int) -> float:
    """Return the largest difference of two draws that is no disagreement, `comparisons` being made in all."""
    return float(stats.t.isf(LEVEL / (2 * comparisons), spread.df)) * spread.sd * math.sqrt(2)


def compare(
    bundle: Mapping[str, Any],
    here: Mapping[str, Any],
    identical: bool,
    spreads: Mapping[str, Spread | None],
    comparisons: int,
) -> tuple[Comparison, ...]:
    """Compare two records metric by metric, those that both have; `spreads` holds the noise of each metric."""
    found = []
    for metric in ordered(set(bundle["metrics"]) & set(here["metrics"])):
        theirs, ours = bundle["metrics"][metric], here["metrics"][metric]
        difference, spread = ours["value"] - theirs["value"], spreads.get(metric)
        allowed: float | None
        if identical and ours["signature"] == theirs["signature"]:
            allowed, basis = _ROUNDING * max(1.0, abs(theirs["value"])), "the same predictions"
        elif spread is None:
            allowed, basis = None, "the bundle has one replicate of this arm and no noise floor"
        else:
            allowed, basis = allowed_difference(spread, comparisons), spread.source
        if difference == 0 or (allowed is not None and abs(difference) <= allowed):
            word = AGREE
        else:
            word = OPEN if allowed is None else DISAGREE
        values = {"bundle": theirs["value"], "here": ours["value"], "difference": difference, "allowed": allowed}
        found.append(Comparison(metric=metric, **values, basis=basis, word=word))
    return tuple(found)


def changes(bundle: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what differs between the provenance of two runs: "torch 2.4.0, here 2.5.1"."""
    theirs, ours = (
        {**(each.get("packages") or {}), **{name: each.get(name) for name in _FACTS}} for each in (bundle, here)
    )
    return tuple(
        f"{name} {theirs.get(name, 'absent')}, here {ours.get(name, 'absent')}"
        for name in (*_FACTS, *sorted({*theirs, *ours} - set(_FACTS)))
        if theirs.get(name) != ours.get(name)
    )


def verdict(runs: Sequence[Rerun]) -> str:
    """Return the word for a whole replication: one disagreement decides; agreement needs every run."""
    words = {run.word for run in runs}
    return DISAGREE if DISAGREE in words else AGREE if words == {AGREE} else OPEN


def sentence(study: str, runs: Sequence[Rerun]) -> str:
    """Return the outcome in one sentence."""
    count, identical = len(runs), sum(run.identical for run in runs)
    made = f"{plural(count, 'run')} of {study} made again"
    by = {word: sum(run.word == word for run in runs) for word in (AGREE, DISAGREE, OPEN)}
    if by[DISAGREE]:
        return f"{made}: {by[DISAGREE]} disagree{'s' * (by[DISAGREE] == 1)} with the bundle"
    if by[OPEN]:
        return f"{made}: {by[AGREE]} agree, {by[OPEN]} could not be run or judged"
    return f"{made}: all agree with the bundle, {identical} of them bit for bit"
