"""What a tier of the gate finds, and what the whole gate ends with: values and their JSON. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gitbench.errors import GitbenchError

FINE, REGRESSED, UNMEASURED, STALE = "fine", "regressed", "could not measure", "reference stale"
EXITS = {FINE: 0, REGRESSED: 1, UNMEASURED: 2, STALE: 3}
WORST_FIRST = (REGRESSED, UNMEASURED, STALE, FINE)
PARTS = ("data", "encoder", "decoder", "optimizer", "search", "metric")  # what is likely at fault
BEYOND = 1e12  # an excess of what is no number, or of a band of no width


class Stale(GitbenchError):
    """The reference is of something else than what is measured here, so that nothing follows from it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A quantity that left its band. `excess`: its deviation, in units of the largest that is allowed (above 1)."""

    quantity: str
    part: str  # of PARTS
    value: str
    reference: str
    excess: float
    said: str  # one line for people


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a tier measured. A tier that compared nothing could not measure, whatever it says.

    `did`: in words, what was done and how much of it. `findings`: the first is the likeliest cause, what lies upstream
    comes first. `untold`: what could not be told, in words: without a finding the tier could not measure. `finds`: the
    smallest change that a check as this one finds with a power of 90 %, in words. `details`: plain values for the page's
    pictures.
    """

    compared: int
    did: str
    findings: tuple[Finding, ...] = ()
    untold: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    finds: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a tier ended. `why`: what made it stale, or why it could not measure."""

    tier: str
    status: str  # a key of EXITS
    seconds: float
    measured: Measured | None = None
    why: tuple[str, ...] = ()
    by_packages: bool = False  # stale for that alone: quantities left their bands, and packages have other versions
    resumed: bool = False  # it was measured by an earlier launch of the same check, which was stopped


def judged(tier: str, seconds: float, measured: Measured, stale: Iterable[str], newer: Iterable[str]) -> Outcome:
    """Return how a tier ended that measured something.

    `stale`: what makes its reference one of something else, so that nothing follows from it. `newer`: packages of other
    versions, which are as likely a cause as the change where a quantity left its band, and none where all are within.
    """
    others, packages = list(stale), list(newer)
    status, why = REGRESSED if measured.findings else FINE, list[str]()
    if not measured.findings and (measured.untold or not measured.compared):
        status, why = UNMEASURED, list(measured.untold) or ["it compared nothing"]
    elif others or measured.findings and packages:
        status, why = STALE, others or packages
    by_packages = status == STALE and not others
    return Outcome(
        tier=tier, status=status, seconds=seconds, measured=measured, why=tuple(why), by_packages=by_packages
    )


def overall(outcomes: Iterable[Outcome]) -> str:
    """Return the status of a whole check: the worst of its tiers; a check without tiers could not measure."""
    found = {outcome.status for outcome in outcomes} or {UNMEASURED}
    return next(status for status in WORST_FIRST if status in found)


def first_failure(outcomes: Iterable[Outcome]) -> tuple[Outcome, Finding] | None:
    """Return the first finding of the cheapest tier that is red or stale; None where there is none."""
    for outcome in outcomes:
        if outcome.status in (REGRESSED, STALE) and outcome.measured is not None and outcome.measured.findings:
            return outcome, outcome.measured.findings[0]
    return None
