"""By which code runs were made, and whether today's gives the same numbers.

Every process that trains, captions or scores a run enters itself in the run's provenance as a `Maker`. Code of another
fingerprint than today's may give other numbers. The gate can tell: where the exact tier found the values of both equal to
the last bit, and the code that it does not run is the same, on this class of machine, at this numerics version and with these
packages, runs of the one stand for the other. What it found is kept in the user's cache. Plugins are no part of what the
gate compares: theirs have to be the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.claim import claimed
from gitbench.code import code_fingerprint, plugin_fingerprints
from gitbench.files import cache_dir, load_json, write_json
from gitbench.formats import plural
from gitbench.machine import machine_class
from gitbench.run_key import NUMERICS_VERSION, from_json
from gitbench.study.provenance import deciding_packages

if TYPE_CHECKING:
    from gitbench.plan import PlannedRun
    from gitbench.study.store import Study

UNKNOWN = "unknown"  # stands for the fingerprint of code that had none
SHOWN = 8  # digits of a fingerprint that people are told
COMPARED = (
    "`gitbench gate check --tiers exact`, run with that code and with this, tells whether both give the same numbers"
)
ANEW = "`gitbench run ... --fresh` makes them again"


@dataclass(frozen=True, kw_only=True)
class Maker:
    """A process that worked on a run: fingerprints of gitbench's code and of plugins, and the context it computed in."""

    code: str
    plugins: Mapping[str, str] = field(default_factory=dict)
    context: str = ""

    @classmethod
    def here(cls, device: str) -> Maker:
        """Return this process, for what it computes on "cpu" or "cuda"."""
        context = context_of(machine_class(device), NUMERICS_VERSION, deciding_packages())
        return cls(code=code_fingerprint(), plugins=plugin_fingerprints(), context=context)


@dataclass(frozen=True, kw_only=True)
class Gave:
    """A finding of the gate: the digest of all values that the exact tier measured of a code, in a context."""

    context: str
    machine: str  # its class, for people: the context has it
    digest: str
    code: str
    day: str  # UTC


def context_of(machine: str, numerics: int, packages: Mapping[str, str]) -> str:
    """Return what decides which numbers a code gives: class of machine, numerics version, packages. 16 hex digits."""
    said = json.dumps([machine, numerics, dict(packages)], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


# ---- what a run says ----------------------------------------------------------------------------------------------------


def entered(provenance: Mapping[str, Any] | None, maker: Maker) -> list[dict[str, Any]]:
    """Return the makers of a run as JSON values, with one that trains or captions it from now on.

    `provenance`: what the run's says, where it goes on from what others computed; None where it begins.
    """
    there = () if provenance is None else makers_of(provenance) or (Maker(code=UNKNOWN),)
    return [asdict(each) for each in (there if maker in there else (*there, maker))]


def scored_by(provenance: Mapping[str, Any], maker: Maker) -> list[dict[str, Any]]:
    """Return them with one that scores it: scores are made on a CPU wherever, so code that is listed already adds nothing."""
    there = makers_of(provenance)
    listed = any((each.code, each.plugins) == (maker.code, maker.plugins) for each in there)
    return [asdict(each) for each in (there if listed or not there else (*there, maker))]


def makers_of(provenance: Any) -> tuple[Maker, ...]:
    """Return the makers that a run's provenance names; none of a run that was made before there were any."""
    try:
        return tuple(from_json(Maker, each) for each in (provenance or {}).get("makers") or ())
    except (TypeError, ValueError, AttributeError):
        return ()


def makers_to_json(makers: Mapping[str, tuple[Maker, ...]]) -> dict[str, Any]:
    """Return run key -> makers as JSON values; what runs share stands there once."""
    kinds = list(dict.fromkeys(json.dumps([asdict(each) for each in some], sort_keys=True) for some in makers.values()))
    numbers = {
        key: kinds.index(json.dumps([asdict(each) for each in some], sort_keys=True)) for key, some in makers.items()
    }
    return {"kinds": [json.loads(each) for each in kinds], "runs": numbers}


def makers_from_json(values: Mapping[str, Any]) -> dict[str, tuple[Maker, ...]]:
    """Read it back. Errors: LookupError, TypeError, ValueError, AttributeError for values that are none."""
    kinds = [tuple(from_json(Maker, each) for each in some) for some in values["kinds"]]
    return {key: kinds[number] for key, number in values["runs"].items()}


# ---- what the gate found ------------------------------------------------------------------------------------------------


def found_path() -> Path:
    """Return where the findings of the gate are kept."""
    return cache_dir() / "gate" / "equal.json"


def read_found() -> tuple[Gave, ...]:
    """Return what the gate found so far; nothing where the file is missing or damaged, so that no run stands by it."""
    try:
        return tuple(from_json(Gave, each) for each in (load_json(found_path()) or {})["found"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return ()


def keep_found(gave: Iterable[Gave]) -> None:
    """Add findings; what is known is not added again."""
    with claimed(found_path()):
        found = {(each.context, each.digest, each.code): each for each in read_found()}
        known = len(found)
        for each in gave:
            found.setdefault((each.context, each.digest, each.code), each)
        if len(found) > known:
            write_json(found_path(), {"schema": 1, "found": [asdict(each) for each in found.values()]})


def equal_since(context: str, code: str, found: Iterable[Gave]) -> str | None:
    """Return the day on which the gate found that code to give, in a context, the values of today's; None: it did not."""
    there = [each for each in found if each.context == context]
    own = {each.digest: each.day for each in there if each.code == code_fingerprint()}
    days = [max(each.day, own[each.digest]) for each in there if each.code == code and each.digest in own]
    return min(days, default=None)


# ---- what follows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Finished runs by who made them: how many, and run key -> makers of those that today's code may not give again."""

    runs: int = 0
    other: Mapping[str, tuple[Maker, ...]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()  # made before code was fingerprinted
    equal: Mapping[str, str] = field(default_factory=dict)  # of other code that gives the same numbers: key -> the day

    @classmethod
    def of(cls, makers: Mapping[str, tuple[Maker, ...]]) -> Standing:
        """Judge runs by their makers (run key -> makers)."""
        found = read_found()
        days = {key: _same_since(each, found) for key, each in makers.items() if each}
        return cls(
            runs=len(makers),
            other={key: makers[key] for key, day in days.items() if day is None},
            unknown=tuple(key for key, each in makers.items() if not each),
            equal={key: day for key, day in days.items() if day},
        )

    @classmethod
    def of_study(cls, study: Study, runs: Iterable[PlannedRun] | None = None) -> Standing:
        """Judge the finished runs of a study, or those of `runs`, that were made at this numerics version."""
        return cls.of(finished_makers(study, runs))

    @property
    def lines(self) -> tuple[str, ...]:
        """What a reader must know: a line where other code made runs, and one where nothing says which did."""
        lines = []
        if self.other:
            named = _differences([maker for makers in self.other.values() for maker in makers])
            code = any(maker.code != code_fingerprint() for makers in self.other.values() for maker in makers)
            tells = f"{COMPARED}, " * code
            lines.append(f"{_of(len(self.other), self.runs)} made by other code ({named}): {tells}{ANEW}")
        if self.unknown:
            said = "made before code was fingerprinted: nothing tells whether today's gives the same numbers"
            lines.append(f"{_of(len(self.unknown), self.runs)} {said}, {ANEW}")
        return tuple(lines)

    @property
    def said(self) -> str:
        """The code that made the runs, as provenance has it."""
        same = self.runs - len(self.other) - len(self.unknown) - len(self.equal)
        parts = [f"{plural(same, 'run')} made by this code ({code_fingerprint()[:SHOWN]})"] if same else []
        if self.equal:
            days = ", ".join(sorted(set(self.equal.values())))
            parts.append(f"{len(self.equal)} by other code that gives the same numbers (gate, {days})")
        if self.other:
            named = _differences([maker for makers in self.other.values() for maker in makers])
            parts.append(f"{len(self.other)} by other code ({named})")
        if self.unknown:
            parts.append(f"{len(self.unknown)} before code was fingerprinted")
        return "; ".join(parts)


def finished_makers(study: Study, runs: Iterable[PlannedRun] | None = None) -> dict[str, tuple[Maker, ...]]:
    """Return run key -> makers of the finished runs of a study, or those of `runs`, of this numerics version.

    What a run of another one says is told elsewhere (`gitbench.study.verify.moved_on`).
    """
    there = [run.run_key for run in (study.unique_runs if runs is None else runs) if study.done(run)]
    own = [key for key in there if (study.record(key) or {}).get("numerics") == NUMERICS_VERSION]
    return {key: makers_of(load_json(study.folder(key).provenance)) for key in own}


def stands(makers: Iterable[Maker], found: Iterable[Gave]) -> bool:
    """Tell whether today's code is known to give what these made; not where nothing says who did."""
    there = tuple(makers)
    return bool(there) and _same_since(there, found) is not None


def _same_since(makers: Iterable[Maker], found: Iterable[Gave]) -> str | None:
    """Return since when a run is known to be what today's code gives: "" always, None never, else the day of the gate."""
    today, days = plugin_fingerprints(), [""]
    for maker in makers:
        if any(today.get(name, each) != each for name, each in maker.plugins.items()):
            return None
        day = "" if maker.code == code_fingerprint() else equal_since(maker.context, maker.code, found)
        if day is None:
            return None
        days.append(day)
    return max(days)


def _differences(makers: Iterable[Maker]) -> str:
    """Name the fingerprints that differ from today's: "fingerprint 12345678, today's 90abcdef"."""
    theirs: dict[tuple[str, str], set[str]] = {}
    today = plugin_fingerprints()
    for maker in makers:
        if maker.code != code_fingerprint():
            theirs.setdefault(("", code_fingerprint()), set()).add(maker.code)
        for name, each in maker.plugins.items():
            if today.get(name, each) != each:
                theirs.setdefault((f"plugin {name}: ", today[name]), set()).add(each)
    return "; ".join(
        f"{name}fingerprint {_some(sorted(others))}, today's {own[:SHOWN]}" for (name, own), others in theirs.items()
    )


def _some(fingerprints: list[str]) -> str:
    more = f" and {len(fingerprints) - 3} more" * (len(fingerprints) > 3)
    return ", ".join(each[:SHOWN] for each in fingerprints[:3]) + more


def _of(count: int, runs: int) -> str:
    return f"{count} of {plural(runs, 'run')} {'was' if count == 1 else 'were'}"
