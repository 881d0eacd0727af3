"""What follows from the exact tier for numbers and their version: whether they were meant to change, and which code gave which.

`NUMERICS_VERSION` says that numbers are meant to change. Where they changed and it did not, the gate is red; where it did and
they did not, the reference is stale, and the words say that nothing changed. What code gave the values of a digest is kept,
so that runs of one stand for those of another (`gitbench.study.makers`). No torch.
"""

from __future__ import annotations

import contextlib
import dataclasses

from gitbench.code import code_fingerprint, fingerprint_now
from gitbench.errors import GitbenchError
from gitbench.gate.outcome import Measured, Outcome
from gitbench.gate.reference import Origin, Reference
from gitbench.gate.setting import Setting
from gitbench.study.makers import Gave, context_of, keep_found
from gitbench.study.provenance import now

TIER = "exact"
MEANT = "if it is meant, raise NUMERICS_VERSION and record the reference again"
NOTHING_CHANGED = (
    "every value of it is as before: take NUMERICS_VERSION back, or record the reference again if it was raised for numbers "
    "that this tier does not take"
)


def with_advice(tier: str, measured: Measured, then: Origin, today: Origin) -> Measured:
    """Add what to do where numbers of the exact tier left their bands and NUMERICS_VERSION is the reference's."""
    if tier == TIER and measured.details.get("moved") and then.numerics == today.numerics:
        return dataclasses.replace(measured, notes=(MEANT, *measured.notes))
    return measured


def needlessly_raised(tier: str, measured: Measured, then: Origin, today: Origin) -> tuple[str, ...]:
    """Say that NUMERICS_VERSION was raised and no value of the exact tier left its band; nothing elsewhere."""
    raised = tier == TIER and then.numerics != today.numerics
    return (NOTHING_CHANGED,) if raised and measured.compared and not measured.findings else ()


def keep_digest(setting: Setting, outcome: Outcome, reference: Reference | None, today: Origin) -> None:
    """Keep the digests of the exact tier of today's code and the reference's, each with what it was made of.

    Not of a subject of somebody's own, which takes few of the values; nor where values left their bands, or code was edited
    while it was measured.
    """
    measured = outcome.measured
    if outcome.tier != TIER or not setting.subject.usual or measured is None or not measured.compared:
        return
    own, theirs = measured.details.get("digest"), reference.values.get("digest") if reference else None
    if not isinstance(own, str):
        return
    gave = []
    if not measured.findings and fingerprint_now() == code_fingerprint() == today.code:
        gave.append(_gave(today, own))
    if reference is not None and isinstance(theirs, str):
        gave.append(_gave(reference.origin, theirs))
    # where the cache cannot be written, runs of other code do not stand by it
    with contextlib.suppress(GitbenchError, OSError):
        keep_found(gave)


def _gave(origin: Origin, digest: str) -> Gave:
    context = context_of(origin.machine, origin.numerics, origin.packages)
    return Gave(context=context, machine=origin.machine, digest=digest, code=origin.code, day=now()[:10])
