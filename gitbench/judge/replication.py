"""Does a run that was made again agree with the one in the bundle? Bit for bit, or else within the spread of repeats.

Where predictions are equal byte for byte, so must the scores be. Where they are not, the run is made twice here, with the
same seeds, and its mean compared with the bundle's value:

* the repeats differ: this machine does not repeat itself. With s the sd of one repeat, pooled over the runs that were
  made twice (one degree of freedom each), a difference is allowed up to t * s * sqrt(1 + 1/2), t being Student's quantile
  at 5 % over all comparisons made (Bonferroni).
* the repeats are alike: what differs is machine or versions, of which nobody knows the spread: `TOLERANCE` is allowed.
  On the same machine with the same versions nothing is.

From few repeats t is large. So nothing agrees that lies more than `MOST` from the bundle's value, whatever is allowed: it
is not judged. The noise of seeds has no part in this: the seeds are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from gitbench.formats import plural
from gitbench.metric_info import ordered, unit

LEVEL = 0.05  # for at least one false alarm in a whole replication
TOLERANCE = (0.02, 1.0, 0.02)  # of another machine: a share of the value, or points (nats) where that is more
MOST = (0.1, 2.0, 0.1)  # never agrees beyond this: likewise
_ROUNDING = 1e-9  # relative, of scores that are computed from the same texts
_FACTS = ("git_revision", "python", "platform", "cpu", "machine")  # of provenance, beside the packages
AGREE, DISAGREE, OPEN = "agree", "disagree", "not judged"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far repeats of one run lie apart in a metric: their standard deviation and its degrees of freedom."""

    sd: float
    df: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of one run: the bundle's value and the new one; `allowed` is the largest difference that agrees."""

    metric: str
    bundle: float
    here: float
    difference: float
    allowed: float
    basis: str
    word: str


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """A run that was made again; `failed` says why it could not be, and then nothing is compared."""

    arm: str
    replicate: int
    run_key: str
    identical: bool = False  # the predictions, byte for byte
    exact: bool = False  # whether they have to be
    comparisons: tuple[Comparison, ...] = ()
    only_in_one: tuple[str, ...] = ()  # metrics that one of the two lacks
    environment: tuple[str, ...] = ()  # what differs: packages, machine
    failed: str = ""

    @property
    def word(self) -> str:
        """The verdict on this run."""
        if self.exact and not self.identical and not self.failed:
            return DISAGREE
        words = {each.word for each in self.comparisons}
        return DISAGREE if DISAGREE in words else AGREE if words == {AGREE} and not self.failed else OPEN

    @property
    def notes(self) -> tuple[str, ...]:
        """What differed around the run."""
        return (*self.environment, *(f"{metric} was computed on one side only" for metric in self.only_in_one))


def spread_of(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], metric: str) -> Spread | None:
    """Return the spread of a metric over the records of runs that were made twice; None where no pair has it."""
    values = [[record["metrics"][metric]["value"] for record in pair if metric in record["metrics"]] for pair in pairs]
    apart = [pair[0] - pair[1] for pair in values if len(pair) == 2]
    return Spread(sd=math.sqrt(float(np.mean(np.square(apart))) / 2), df=len(apart)) if apart else None


def allowed_difference(spread: Spread, comparisons: int) -> float:
    """Return the largest difference of a value and the mean of two repeats, `comparisons` being made in all."""
    return float(stats.t.isf(LEVEL / (2 * comparisons), spread.df)) * spread.sd * math.sqrt(1.5)


def share(bounds: tuple[float, float, float], metric: str, value: float) -> float:
    """Return a bound (share of the value; points; nats) for the value of a metric."""
    return max(bounds[0] * abs(value), bounds[2] if unit(metric) == "nat/token" else bounds[1])


def compare(
    bundle: Mapping[str, Any],
    here: Sequence[Mapping[str, Any]],
    identical: bool,
    spreads: Mapping[str, Spread | None],
    comparisons: int,
    elsewhere: bool = True,
) -> tuple[Comparison, ...]:
    """Compare a record with those of one or two repeats, metric by metric, those that all have.

    `identical`: the predictions of bundle and first repeat; `spreads`: of repeats, each metric's; `elsewhere`: machine or
    versions are others than the bundle's.
    """
    found = []
    for metric in ordered(set.intersection(*(set(record["metrics"]) for record in (bundle, *here)))):
        theirs, ours = bundle["metrics"][metric], [record["metrics"][metric] for record in here]
        value, spread = float(np.mean([each["value"] for each in ours])), spreads.get(metric)
        most = share(MOST, metric, theirs["value"])
        if identical and ours[0]["signature"] == theirs["signature"]:
            allowed, basis = _ROUNDING * max(1.0, abs(theirs["value"])), "the same predictions"
        elif spread is not None and spread.sd > 0:
            allowed, basis = allowed_difference(spread, comparisons), f"repeats of {plural(spread.df, 'run')} here"
        elif elsewhere:
            allowed, basis = (
                share(TOLERANCE, metric, theirs["value"]),
                "repeats are alike here; another machine or versions",
            )
        else:
            allowed, basis = 0.0, "repeats are alike here, on the same machine and versions"
        difference = value - theirs["value"]
        word = DISAGREE if abs(difference) > allowed else AGREE if abs(difference) <= most else OPEN
        values = {"bundle": theirs["value"], "here": value, "difference": difference, "allowed": allowed}
        found.append(Comparison(metric=metric, **values, basis=basis, word=word))
    return tuple(found)


def changes(bundle: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what differs between the provenance of two runs: "torch 2.4.0, here 2.5.1"."""
    theirs, ours = (
        {**(each.get("packages") or {}), **{name: each.get(name) for name in _FACTS}} for each in (bundle, here)
    )
    return tuple(
        f"{name} {theirs.get(name, 'absent')}, here {ours.get(name, 'absent')}"
        for name in (*_FACTS, *sorted({*theirs} & {*ours} - set(_FACTS)))  # one of them may record fewer packages
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
