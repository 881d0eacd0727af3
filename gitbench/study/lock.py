"""The lock of claims: a hash of every claim of every ablation, so that a claim changed after results existed is seen.

`claims.lock` at the top of the repository holds "ablation/claim" -> hash and the day (UTC) since which it is so, and is
written by `gitbench lock`; a test fails where an ablation says something else. A run records the lock it ran under and
the hashes of all claims at that moment (`provenance.json`), so its claims can be compared with today's wherever the run
goes: `lock_deviations`. Its seeds follow from them, too, and from all else that decides the study: `seed_root`.

A hash covers all that a claim says, its margin too where it is the common one. Other fields at their defaults are left
out, so that a new field changes no hash.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import ROOT, read_json, resource, write_json
from gitbench.plan import Plan
from gitbench.run_key import canonical
from gitbench.spec import METRICS, Ablation, Claim, Profile

FILE = "claims.lock"
SCHEMA = 2
Records = Sequence[Mapping[str, Any]]  # what runs recorded of their provenance
FIX = "run `gitbench lock`, and commit claims.lock with the change"
# Of a profile: what concerns cost, what is hashed by itself, and paths, whose content is in each run's key.
_NO_SETTING = ("doc", "replicates", "run_seconds", "bert", "encoder", "start")
_DEVIATIONS = {  # kind -> what happened, with "2 of 6 runs"
    "changed": "changed after results existed: {} rest on another form of it",
    "added": "added or changed after results existed: {} were made before it was stated like this",
    "removed": "dropped after results existed: {} were made while it was stated",
}


@dataclass(frozen=True, kw_only=True)
class LockDeviation:
    """A claim that is not the one some of its runs were made under."""

    name: str  # of the claim
    what: str  # a clause for people
    when: str  # since when there are such runs: the start of the first, UTC; "" where none says
    kind: str  # "changed", "added" or "removed"
    runs: int  # how many of the runs it rests on
    of: int


def claim_hash(claim: Claim) -> str:
    """Return the hash of all that a claim says: 16 hex digits. 1 and 1.0 are the same number."""
    said = canonical(claim) | {"margin": claim.margin, "margin_unit": claim.margin_unit}  # the common margin too
    return _digest(json.loads(json.dumps(said), parse_int=float))


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def claim_hashes(ablation: Ablation) -> dict[str, str]:
    """Return "ablation/claim" -> hash of one ablation."""
    return {f"{ablation.name}/{claim.name}": claim_hash(claim) for claim in ablation.claims}


def setting_hash(ablation: Ablation, profile: Profile) -> str:
    """Return the hash of what decides the runs of a study beside claims and seeds: its arms, and the profile's sizes and rates.

    What concerns cost alone has no part in it, nor where a file lies. 16 hex digits.
    """
    sizes = {name: value for name, value in canonical(profile).items() if name not in _NO_SETTING}
    arms = canonical(ablation.arms.get(profile.name, ()))
    return _digest([arms, ablation.base, ablation.common_variants(profile.name), sizes])


def seed_root(ablation: str, claims: Mapping[str, str], setting: str, design: str, seeds: int | None) -> str:
    """Return what the seeds of a study derive from: a hash of the claims that its file states, its setting and its design.

    `claims` maps "ablation/claim" to hash; `setting` is that of `setting_hash`: who looks and then changes a size, an amount
    or the grid of rates gets other runs. A fixed study has a root for each number of seeds; a sequential one has one, so that
    seeds can be added. 16 hex digits.
    """
    return _digest([ablation, dict(sorted(claims.items())), setting, design, seeds if design == "fixed" else None])


def stated_claims(files: Sequence[str] = ()) -> dict[str, str]:
    """Return "ablation/claim" -> hash of every ablation that is known here or stands in one of `files`, sorted."""
    from gitbench.ablations import ablation_names, load_ablation

    found: dict[str, str] = {}
    for name in (*ablation_names(), *files):
        found |= claim_hashes(load_ablation(name))
    return dict(sorted(found.items()))


def own_lock_path() -> Path:
    """Return the lock that `gitbench lock` writes: at the top of the clone, or of an installed package in this folder."""
    return (ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()) / FILE


def lock_path() -> Path:
    """Return the lock that holds: one's own, or else the one that was installed with the package."""
    own = own_lock_path()
    try:
        return own if own.is_file() else resource(FILE)
    except GitbenchError:
        return own


def read_lock(path: Path | None = None) -> dict[str, str]:
    """Read "ablation/claim" -> hash of a lock (default: the one that holds); {} where there is none.

    Errors: GitbenchError for a damaged file.
    """
    return {name: hashed for name, (hashed, _) in _entries(path or lock_path()).items()}


def locked_since(path: Path | None = None) -> dict[str, str]:
    """Read "ablation/claim" -> the day (UTC) since which the claim is locked as it is; "" where a lock does not say."""
    return {name: since for name, (_, since) in _entries(path or lock_path()).items()}


def _entries(path: Path) -> dict[str, tuple[str, str]]:
    """Return "ablation/claim" -> hash and day; locks of the first schema hold no days."""
    if not path.is_file():
        return {}
    values = read_json(path)
    claims = values.get("claims") if isinstance(values, dict) else None
    try:
        found = {
            name: (each, "") if isinstance(each, str) else (each["hash"], each["since"])
            for name, each in claims.items()  # type: ignore[union-attr]
        }
    except (KeyError, TypeError, AttributeError):
        found = {"": (0, 0)}  # type: ignore[dict-item]
    if not all(isinstance(each, str) for pair in found.values() for each in pair):
        raise GitbenchError(f"{path} is damaged: restore it, or delete it and {FIX}")
    return found


def write_lock(path: Path, stated: Mapping[str, str]) -> None:
    """Write the hashes of the claims ("ablation/claim" -> hash), each with the day since which it is this one."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    before = _entries(path if path.is_file() else lock_path())
    days = {name: before[name][1] for name in stated if name in before and before[name][0] == stated[name]}
    claims = {name: {"hash": stated[name], "since": days.get(name) or today} for name in sorted(stated)}
    write_json(path, {"schema": SCHEMA, "claims": claims})


def differences(stated: Mapping[str, str], locked: Mapping[str, str]) -> list[str]:
    """Return one line for every claim that is not as it is locked."""
    lines = []
    for name in sorted({*stated, *locked}):
        if name not in locked:
            lines.append(f"{name} is not locked")
        elif name not in stated:
            lines.append(f"{name} is locked, and no ablation states it")
        elif stated[name] != locked[name]:
            lines.append(f"{name} was changed since it was locked")
    return lines


def under_lock(stated: Mapping[str, str]) -> dict[str, Any]:
    """Return what a run records: the hash of the lock it runs under, and of every claim as it stands now.

    `claims_lock` is None where there is no lock. `claims` holds those of the lock, since a run may serve other
    ablations too, and `stated`, those of its own ablation as they are in its file.
    """
    locked = read_lock()
    return {"claims_lock": _digest(locked) if locked else None, "claims": {**locked, **stated}}


def lock_deviations(plan: Plan, provenance: Mapping[str, Mapping[str, Any]]) -> tuple[LockDeviation, ...]:
    """Return every claim of a study that differs from what a run it rests on was made under, or was dropped since.

    `provenance` maps the run keys of finished runs to what they recorded.
    """
    made = [(run.arm, provenance[run.run_key]) for run in plan.runs if run.run_key in provenance]
    prefix = f"{plan.ablation}/"
    found: list[tuple[str, str, Records, Records]] = []  # name, kind; the runs that show it, all of the claim
    for claim in plan.claims:
        key, forms = prefix + claim.name, claim_forms(claim, plan.task)
        records = [record for arm, record in made if arm in claim.arms]
        changed = [record for record in records if record.get("claims", {}).get(key) not in (None, *forms)]
        added = [record for record in records if key not in record.get("claims", {})]
        found += [(claim.name, "changed", changed, records), (claim.name, "added", added, records)]
    if plan.task == "caption":  # other tasks leave claims out: those whose margin is in captions' points
        records = [record for _, record in made]
        keys = {key for record in records for key in record.get("claims", {}) if key.startswith(prefix)}
        for key in sorted(keys - {prefix + claim.name for claim in plan.claims}):
            under = [each for each in records if key in each.get("claims", {})]
            found.append((key.removeprefix(prefix), "removed", under, records))
    return tuple(
        LockDeviation(
            name=name,
            what=_DEVIATIONS[kind].format(f"{len(group)} of {len(records)} runs"),
            when=min((str(record["started"]) for record in group if record.get("started")), default=""),
            kind=kind,
            runs=len(group),
            of=len(records),
        )
        for name, kind, group, records in found
        if group
    )


def claim_forms(claim: Claim, task: str) -> set[str]:
    """Return the hashes that mean this claim: a task judges it by its own score, whatever the ablation names."""
    metrics = [claim.metric] if task == "caption" else METRICS
    return {claim_hash(dataclasses.replace(claim, metric=metric)) for metric in metrics}
