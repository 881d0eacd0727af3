"""References: what a tier measured of code that was held to be right, one JSON file a tier, reviewed like code. No torch.

`gate/<class of machine>/<subject>/<tier>.json`. A file says what it was made of (numerics version, data, packages, code) and
why it was made; where numerics version, data or machine are others today, it is stale: nothing follows from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitbench.code import code_fingerprint, fingerprint_now
from gitbench.data.scenes.world import SIGNS_VERSION, VERSION
from gitbench.data.tasks import study_fingerprint
from gitbench.errors import GitbenchError
from gitbench.files import resource, write_json_lines, write_text
from gitbench.gate.setting import Subject
from gitbench.machine import machine_class
from gitbench.profiles import CPU, SMOKE
from gitbench.run_key import NUMERICS_VERSION, from_json, read_as
from gitbench.study.provenance import deciding_packages, now
from gitbench.tasks import task_spec

FOLDER = "gate"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What values were made of."""

    machine: str  # its class
    numerics: int
    data: str  # versions of the embedded world, or the content of data of somebody's own
    packages: Mapping[str, str]
    code: str  # fingerprint of what makes numbers


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What one tier measured of one subject, when and why."""

    tier: str
    subject: str
    origin: Origin
    made: str  # UTC
    reason: str
    values: Mapping[str, Any]
    digest: str = ""  # of all else: references are made by `record`, not by hand or by a merge


def here(device: str, subject: Subject) -> Origin:
    """Return what values measured here are made of. Errors: GitbenchError for data that cannot be read."""
    return Origin(
        machine=machine_class(device),
        numerics=NUMERICS_VERSION,
        data=content_of(subject),
        packages=deciding_packages(),
        code=code_fingerprint(),
    )


def content_of(subject: Subject) -> str:
    """Return what the data of a subject is: the embedded world's versions, of other data a hash of what the cpu profile uses.

    Errors: GitbenchError for data that cannot be read.
    """
    if subject.data is None:
        return f"scenes {VERSION}, signs {SIGNS_VERSION}"
    return f"{subject.data} {study_fingerprint(subject.data, CPU.data, task_spec(subject.task, SMOKE))[:12]}"


def default_folder() -> Path:
    """Return where references are: `gate` of the current folder if there is one, else the project's own."""
    own = Path(FOLDER)
    return own if own.is_dir() else resource(FOLDER)


def path_of(folder: Path, machine: str, subject: Subject, tier: str) -> Path:
    """Return the file of a reference."""
    return folder / machine / subject.name / f"{tier}.json"


def read_reference(folder: Path, machine: str, subject: Subject, tier: str) -> Reference | None:
    """Read a reference; None where there is none. Errors: GitbenchError for a damaged file, or one of something else."""
    path = path_of(folder, machine, subject, tier)
    if not path.is_file():
        return None
    found = read_as(Reference, path, "take it from version control again, or record it again")
    if (found.tier, found.subject, found.origin.machine) != (tier, subject.name, machine):
        raise GitbenchError(
            f"{path} is the reference of {found.tier} of {found.subject} on {found.origin.machine}: move it to its place"
        )
    if signed(found).digest != found.digest:
        raise GitbenchError(
            f"{path} was changed by something else than `gitbench gate record`: take it from version control again, or "
            "record it again"
        )
    return found


def values_of(text: str) -> Mapping[str, Any] | None:
    """Return the values that the text of a reference's file holds if it is of today's numerics version; else None."""
    try:
        found = from_json(Reference, json.loads(text))
    except (ValueError, TypeError):
        return None
    whole = signed(found).digest == found.digest  # an earlier gate's has none
    return found.values if whole and found.origin.numerics == NUMERICS_VERSION else None


def write_reference(folder: Path, reference: Reference, subject: Subject) -> Path:
    """Write a reference to its place and return that."""
    path = path_of(folder, reference.origin.machine, subject, reference.tier)
    write_json_lines(path, asdict(signed(reference)))
    return path


def write_constraints(folder: Path, origin: Origin, subject: Subject) -> None:
    """Write the packages that references were made with as a file of constraints, for pip and uv."""
    path = path_of(folder, origin.machine, subject, "").with_name("constraints.txt")
    there = {name: version.partition("+")[0] for name, version in origin.packages.items() if version != "absent"}
    write_text(path, "".join(f"{name}=={version}\n" for name, version in there.items()))


def new_reference(tier: str, subject: Subject, device: str, reason: str, values: Mapping[str, Any]) -> Reference:
    """Return a reference made now, here. Errors: GitbenchError without a reason, and for code that was edited meanwhile."""
    if fingerprint_now() != code_fingerprint():
        raise GitbenchError("gitbench's code was edited while the reference was made: make it again")
    if not reason.strip():
        raise GitbenchError("a reference needs a reason, which the gate prints: pass --reason TEXT")
    return Reference(
        tier=tier,
        subject=subject.name,
        origin=here(device, subject),
        made=now(),
        reason=reason.strip(),
        values=values,
    )


def signed(reference: Reference) -> Reference:
    """Return a reference with the digest of all that it says: 16 hex digits."""
    said = json.dumps(asdict(dataclasses.replace(reference, digest="")), sort_keys=True)
    return dataclasses.replace(reference, digest=hashlib.sha256(said.encode()).hexdigest()[:16])


def stale_by(then: Origin, today: Origin) -> tuple[str, ...]:
    """Return what makes a reference one of something else, in words: nothing follows from it."""
    named = (("numerics version", "numerics"), ("data version", "data"), ("machine class", "machine"))
    pairs = ((name, getattr(then, field), getattr(today, field)) for name, field in named)
    return tuple(f"{name} {b}, the reference has {a}" for name, a, b in pairs if a != b)


def packages_by(then: Origin, today: Origin) -> tuple[str, ...]:
    """Return the packages of other versions than the reference's, in words; on a CPU builds of a version ("+cpu") are alike."""
    pairs = ((name, _version(then, name), _version(today, name)) for name in sorted(then.packages))
    return tuple(f"{name} {b}, the reference has {a}" for name, a, b in pairs if a != b)


def _version(origin: Origin, name: str) -> str:
    version = origin.packages.get(name, "absent")
    return version.partition("+")[0] if origin.machine.startswith("cpu-") else version
