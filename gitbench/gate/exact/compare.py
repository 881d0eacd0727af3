"""Today's values beside a reference's: what left its band, by how much, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.formats import plural
from gitbench.gate.exact.values import Failure, Value
from gitbench.gate.outcome import BEYOND, Finding, Stale

# Shares of a quantity's scale that rounding may move it by, device -> precision -> share; see the package's docstring.
TOLERANCES: Mapping[str, Mapping[str, float]] = {
    "cpu": {"float64": 1e-11, "float64, divided": 1e-9, "float32": 1e-5, "bfloat16": 2e-2},
    "cuda": {"float64": 1e-10, "float64, divided": 1e-8, "float32": 1e-5, "bfloat16": 2e-2},
}
USUAL = "float64"
SHOWN = 60  # characters of a text in a finding


def stored(values: Sequence[Value]) -> dict[str, dict[str, Any]]:
    """Return values as a reference holds them, part -> name -> value, numbers as a line of text.

    "near SCALE PRECISION: NUMBERS" (no precision: float64), "most ROOM: NUMBER", "equal: TEXT"; what else must be equal
    stands as it is.
    """
    found: dict[str, dict[str, Any]] = {}
    for value in values:
        own = value.value
        if value.kind == "near":
            precision = "" if value.precision == USUAL else f" {value.precision}"
            own = f"near {value.scale!r}{precision}: {' '.join(map(repr, own))}"
        elif value.kind == "most":
            own = f"most {value.room!r}: {own!r}"
        elif isinstance(own, str):
            own = f"equal: {own}"
        found.setdefault(value.part, {})[value.name] = own
    return found


def read(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Value]:
    """Return what `stored` gave, by name. Errors: GitbenchError for what it never gives."""
    try:
        return {name: _read(name, part, said) for part, group in values.items() for name, said in group.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise GitbenchError(
            f"the reference is damaged ({error}): take it from version control again, or record it again"
        ) from None


def _read(name: str, part: str, said: Any) -> Value:
    if not isinstance(said, str):
        return Value(name=name, part=part, kind="equal", value=said)
    head, _, own = said.partition(": ")
    kind, *rest = head.split(maxsplit=2)
    if kind == "near":
        scale, *precision = rest
        numbers = list(map(float, own.split()))
        told = precision[0] if precision else USUAL
        return Value(name=name, part=part, kind="near", value=numbers, scale=float(scale), precision=told)
    if kind == "most":
        return Value(name=name, part=part, kind="most", value=int(own), room=float(*rest))
    return Value(name=name, part=part, kind="equal", value=own)


def compared(
    found: Sequence[Value | Failure], reference: Mapping[str, Value], device: str, same: bool = True
) -> tuple[list[Finding], int]:
    """Return what left its band, in the order of `found`, and how many values were compared.

    A value of the reference that is gone left its band, unless a failure says why, or this tier has changed since (not
    `same`). Errors: Stale where nothing left its band, and the reference holds other values than were taken.
    """
    known = dict(reference)
    findings: list[Finding] = []
    new: list[str] = []
    count = 0
    for value in found:
        if isinstance(value, Failure):
            findings.append(_failed(value))
        elif (before := known.get(value.name)) is not None and before.kind == value.kind:
            count += 1
            findings += _differences(value, known.pop(value.name), TOLERANCES[device])
        else:
            new.append(value.name)
    if same and not any(isinstance(value, Failure) for value in found):
        findings += [_gone(value) for value in known.values()]
    if (other := [*known, *new]) and not findings:
        raise Stale(
            f"the code gives {plural(len(new), 'value')} that the reference does not have, and lacks {len(known)} "
            f"(the first: {other[0]}): record it again if that is meant"
        )
    return findings, count


def _failed(failure: Failure) -> Finding:
    return Finding(
        quantity=failure.name,
        part=failure.part,
        value=failure.error,
        reference="no error",
        excess=BEYOND,
        said=f"{failure.name}: it fails with {failure.error}",
    )


def _gone(before: Value) -> Finding:
    return Finding(
        quantity=before.name,
        part=before.part,
        value="nothing",
        reference="a value",
        excess=BEYOND,
        said=f"{before.name}: it is gone, the reference has it",
    )


def _differences(value: Value, before: Value, tolerances: Mapping[str, float]) -> Iterator[Finding]:
    """Yield the finding of a value that left its band."""
    if value.kind == "equal":
        if value.value != before.value:
            yield _unequal(value, before)
    elif value.kind == "most":
        if value.value > before.value * (1 + before.room):
            yield _more(value, before)
    else:
        yield from _far(value, before, tolerances[before.precision])


def _unequal(value: Value, before: Value) -> Finding:
    """Say where two JSON values differ first. Excess: one more than their differing entries, since none is allowed."""
    places = list(_places(value.value, before.value, ""))
    place, ours, theirs = places[0]
    where = f" (first at {place})" if place else ""
    return Finding(
        quantity=value.name,
        part=value.part,
        value=ours,
        reference=theirs,
        excess=1.0 + len(places),
        said=f"{value.name}: {ours}, in the reference {theirs}{where}",
    )


def _places(ours: Any, theirs: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """Yield the places at which two JSON values differ, with both."""
    if type(ours) is type(theirs) and isinstance(ours, (dict, list)):
        pairs = (dict(enumerate(each)) if isinstance(each, list) else each for each in (ours, theirs))
        a, b = pairs
        for key in [*a, *(key for key in b if key not in a)]:
            yield from _places(a.get(key, "nothing"), b.get(key, "nothing"), f"{place}.{key}" if place else str(key))
    elif ours != theirs:
        yield place, _short(ours), _short(theirs)


def _far(value: Value, before: Value, tolerance: float) -> Iterator[Finding]:
    """Yield the finding of numbers of which one is further from the reference's than rounding explains."""
    if len(value.value) != len(before.value):
        counts = (f"{len(each.value)} numbers" for each in (value, before))
        yield Finding(
            quantity=value.name,
            part=value.part,
            value=next(counts),
            reference=next(counts),
            excess=BEYOND,
            said=f"{value.name}: {len(value.value)} numbers, in the reference {len(before.value)}",
        )
        return
    room = tolerance * before.scale
    gaps = [abs(a - b) for a, b in zip(value.value, before.value, strict=True)]
    gaps = [gap if gap == gap and gap < BEYOND else BEYOND for gap in gaps]
    worst = max(range(len(gaps)), key=gaps.__getitem__, default=None)
    if worst is None or gaps[worst] <= room:
        return
    beyond = sum(gap > room for gap in gaps)
    ours, theirs = repr(value.value[worst]), repr(before.value[worst])
    yield Finding(
        quantity=value.name,
        part=value.part,
        value=ours,
        reference=theirs,
        excess=min(BEYOND, gaps[worst] / room) if room else BEYOND,
        said=f"{value.name}: {ours}, in the reference {theirs} ({beyond} of {len(gaps)} numbers moved by more than {room:.1g})",
    )


def _more(value: Value, before: Value) -> Finding:
    allowed = before.value * (1 + before.room)
    room = f", of which {100 * before.room:.0f} % more is allowed" if before.room else ""
    return Finding(
        quantity=value.name,
        part=value.part,
        value=f"{value.value}",
        reference=f"{before.value}",
        excess=value.value / allowed if allowed else 1.0 + value.value,
        said=f"{value.name}: {value.value}, more than the {before.value} of the reference{room}",
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
