"""What a check says, in sentences that the terminal, Markdown, JUnit and the page share. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gitbench.formats import plural
from gitbench.gate.outcome import (
    BEYOND,
    FINE,
    REGRESSED,
    STALE,
    UNMEASURED,
    WORST_FIRST,
    Finding,
    Outcome,
    first_failure,
    overall,
)
from gitbench.gate.reference import Reference, machine_class
from gitbench.gate.run import Check

SYMBOLS = {FINE: "\N{CHECK MARK}", REGRESSED: "\N{MULTIPLICATION SIGN}", UNMEASURED: "?", STALE: "\N{WHITE CIRCLE}"}


def headline(check: Check) -> str:
    """Return how a check ended, in one line: "fine: exact and trajectory, in 71 s"."""
    found = {status: [each.tier for each in check.outcomes if each.status == status] for status in WORST_FIRST}
    parts = [f"{status}: {listed(tiers)}" for status, tiers in found.items() if tiers]
    return f"{'; '.join(parts) or overall(check.outcomes)}, in {check.seconds:.0f} s"


def first_sentence(check: Check) -> str | None:
    """Return the first quantity that left its band in a sentence; None where none did."""
    if (found := first_failure(check.outcomes)) is None:
        return None
    outcome, finding = found
    said = finding.said.rstrip(".")
    if finding.excess < BEYOND:
        said += f", {times(finding.excess)} what is allowed"
    if outcome.status == STALE:
        return f"first: {outcome.tier}, beside a stale reference: {said}"
    return f"first: {outcome.tier}: {said}: the likely part is the {finding.part}"


def times(excess: float) -> str:
    """Return a deviation in units of the allowed one: "1.8 times", "350 times", "1e+07 times"; what is no number is beyond."""
    if excess >= BEYOND:
        return "beyond measure"
    return (
        f"{excess:.2g} times" if excess < 100 else f"{excess:.0f} times" if excess < 10_000 else f"{excess:.0e} times"
    )


def what(outcome: Outcome) -> str:
    """Return what a tier did and compared; where it measured nothing, why."""
    measured = outcome.measured
    if measured is None:
        said = "; ".join(outcome.why) or "nothing"
    else:
        said = measured.did.rstrip(".")
        if str(measured.compared) not in said.split():
            said += f"; compared: {measured.compared}"
        if outcome.status == UNMEASURED:
            said += f"; {'; '.join(outcome.why)}"
    return f"{said} (of the check that was stopped)" if outcome.resumed else said


def counted(findings: Sequence[Finding]) -> str:
    """Return how many quantities left their bands, by their likely parts: "12 quantities (decoder 9, search 3)"."""
    parts = ", ".join(f"{part} {count}" for part, count in Counter(each.part for each in findings).most_common())
    return f"{len(findings)} quantit{'y' if len(findings) == 1 else 'ies'} ({parts})"


def unsettled(outcome: Outcome) -> str | None:
    """Return why nothing follows from a tier that measured, and what to do about it; None for any other."""
    if outcome.status != STALE or outcome.measured is None:
        return None
    findings, why = outcome.measured.findings, "; ".join(outcome.why)
    if outcome.by_packages:
        return (
            f"{outcome.tier}: {counted(findings)} out of band, by the change or by other packages ({why}): check with the "
            "reference's packages to tell, and record only if they did it"
        )
    change = counted(findings) if findings else "no quantity beyond its band, only what the reference was made of"
    return f"{outcome.tier}: reference stale ({why}): `gitbench gate record` would change {change}"


def references(check: Check) -> list[str]:
    """Return the reason and date of each reference, those that share both in one line."""
    shared: dict[tuple[str, str], list[str]] = {}
    for tier, reference in check.references.items():
        shared.setdefault((date(reference.made), reference.reason), []).append(tier)
    return [f"reference of {listed(tiers)}, {day}: {reason}" for (day, reason), tiers in shared.items()]


def made_of(reference: Reference) -> str:
    """Return what a reference was made of, in a line."""
    origin = reference.origin
    packages = ", ".join(f"{name} {version}" for name, version in origin.packages.items())
    return f"numerics version {origin.numerics}, {origin.data}, {origin.machine}, {packages}, code {origin.code}"


def notes(check: Check) -> list[str]:
    """Return what is to be known beside the numbers: of the check, then of each tier."""
    said = [
        f"{each.tier}: {note}"
        for each in check.outcomes
        if each.measured is not None
        for note in (*(each.measured.untold if each.status != UNMEASURED else ()), *each.measured.notes)
    ]
    return [*check.notes, *said]


def finds(check: Check) -> list[str]:
    """Return the smallest change that each tier finds: "speed: training step +14 %"."""
    return [f"{each.tier}: {each.measured.finds}" for each in check.outcomes if each.measured and each.measured.finds]


def date(made: str) -> str:
    """Return the day of a time in UTC ("2025-01-31T12:00:00Z")."""
    return made[:10]


def listed(words: Sequence[str]) -> str:
    """Return "exact", "exact and speed", or "exact, quality and speed"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def asked(check: Check) -> str:
    """Return what was gated and where: "git on cpu-x86_64, revision 0123456789ab"."""
    text = f"{check.setting.subject.name} on {machine_class(check.setting.device)}"
    if check.revision is None:
        return text
    revision, _, changes = check.revision.partition(" ")
    return f"{text}, revision {' '.join(filter(None, [revision[:12], changes]))}"


def others(check: Check, outcome: Outcome, most: int = 5) -> list[str]:
    """Return what else a regressed tier found beside the first failure of the check, in `most` lines and one that counts all."""
    if outcome.status != REGRESSED or outcome.measured is None:
        return []
    findings = outcome.measured.findings
    first = first_failure(check.outcomes)
    rest = findings[1:] if first is not None and first[0] is outcome else findings
    if not rest:
        return []
    shown = [each.said for each in rest[: most if len(rest) <= most else most - 1]]
    more = [f"and {plural(len(rest) - len(shown), 'other')}"] if len(rest) > len(shown) else []
    return [f"{outcome.tier}: {counted(findings)} out of band", *shown, *more]
