"""The lock of claims: a hash of every claim of every ablation, so that a claim changed after results existed is seen.

`claims.lock` at the top of the repository holds "ablation/claim" -> hash, and is written by `gitbench lock`; a test fails
where an ablation says something else. A run records the lock it ran under and the hashes of all claims at that moment
(`provenance.json`), so its claims can be compared with today's wherever the run goes: `lock_deviations`. The lock also
says since when a claim stands as it is ("since"; absent of those that stood there first), for runs that are older than
the lock and recorded nothing.

A hash covers all that a claim says, its margin and its reason too. Fields that stand at their defaults are left out, so
that a new field changes no hash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import ROOT, read_json, resource, write_json
from gitbench.spec import METRICS, Ablation, Claim, Plan

FILE = "claims.lock"
SCHEMA = 1
FIX = "run `gitbench lock`, and commit claims.lock with the change"


@dataclass(frozen=True, kw_only=True)
class LockDeviation:
    """A claim that is not the one some of its runs were made under."""

    name: str  # of the claim
    what: str  # a clause for people
    when: str  # since when there are such runs: the start of the first, UTC; "" where none says
    kind: str  # "changed", "added", "removed", or "unlocked" (runs that are older than the lock)
    runs: int  # how many of the runs it rests on
    of: int


def claim_hash(claim: Claim) -> str:
    """Return the hash of all that a claim says: 16 hex digits."""
    values = {
        each.name: getattr(claim, each.name)
        for each in dataclasses.fields(claim)
        if each.default is dataclasses.MISSING or getattr(claim, each.name) != each.default
    }
    return hashlib.sha256(json.dumps(_plain(values), sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Return JSON values in which 1 and 1.0 are the same number."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, int) else value


def claim_hashes(ablation: Ablation) -> dict[str, str]:
    """Return "ablation/claim" -> hash of one ablation."""
    return {f"{ablation.name}/{claim.name}": claim_hash(claim) for claim in ablation.claims}


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


def read_lock(path: str | Path | None = None) -> dict[str, str]:
    """Return "ablation/claim" -> hash of a lock (default: the repository's); empty where there is none.

    Errors: GitbenchError for a damaged file.
    """
    path = Path(path) if path is not None else lock_path()
    if not path.is_file():
        return {}
    values = read_json(path)
    claims = values.get("claims") if isinstance(values, dict) else None
    if not isinstance(claims, dict) or not all(isinstance(each, str) for each in claims.values()):
        raise GitbenchError(f"{path} is damaged: {FIX}")
    return claims


def read_since(path: str | Path | None = None) -> dict[str, str]:
    """Return "ablation/claim" -> since when it stands as it is locked (UTC); claims that stood there first have no entry."""
    path = Path(path) if path is not None else lock_path()
    values = read_json(path) if path.is_file() else {}
    since = values.get("since", {}) if isinstance(values, dict) else None
    if not isinstance(since, dict) or not all(isinstance(each, str) for each in since.values()):
        raise GitbenchError(f"{path} is damaged: {FIX}")
    return since


def write_lock(path: str | Path | None = None, claims: Mapping[str, str] | None = None) -> Path:
    """Write the hashes (default: of every claim there is) and since when they are new, and return the file."""
    path = Path(path) if path is not None else lock_path()
    stated = dict(sorted((stated_claims() if claims is None else claims).items()))
    before, since = read_lock(path), read_since(path)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if before:  # a first lock says nothing of when its claims were stated
        since |= {name: now for name, digest in stated.items() if before.get(name) != digest}
    kept = {name: since[name] for name in stated if name in since}
    write_json(path, {"schema": SCHEMA, "claims": stated, **({"since": kept} if kept else {})})
    return path


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
    digest = hashlib.sha256(json.dumps(locked, sort_keys=True).encode()).hexdigest()[:16] if locked else None
    return {"claims_lock": digest, "claims": {**locked, **stated}}


def lock_deviations(plan: Plan, provenance: Mapping[str, Mapping[str, Any]]) -> tuple[LockDeviation, ...]:
    """Return every claim of a study that differs from what a run it rests on was made under, or was dropped since.

    `provenance` maps the run keys of finished runs to what they recorded. Runs that are older than the lock recorded no
    claims: there the lock says whether the claim is younger than they are, and else nobody can tell, which is said.
    """
    records = [(run.arm, provenance[run.run_key]) for run in plan.runs if run.run_key in provenance]
    locked, since = read_lock(), read_since()
    found: list[LockDeviation] = []
    for claim in plan.claims:
        own = [record for arm, record in records if arm in claim.arms]
        key, forms = f"{plan.ablation}/{claim.name}", _forms(claim, plan.task)
        found += _of_claim(claim, key, forms, own, since.get(key, "") if locked.get(key) in forms else "")
    if plan.task == "caption":  # other tasks leave claims out: those whose margin is in captions' points
        found += _removed(plan, [record for _, record in records])
    return tuple(found)


def _forms(claim: Claim, task: str) -> set[str]:
    """Return the hashes that mean this claim: a task judges it by its own score, whatever the ablation names."""
    if task == "caption":
        return {claim_hash(claim)}
    return {claim_hash(dataclasses.replace(claim, metric=metric)) for metric in METRICS}


def _of_claim(
    claim: Claim, key: str, forms: set[str], records: Sequence[Mapping[str, Any]], since: str
) -> list[LockDeviation]:
    """Sort a claim's runs into those made under another claim, before there was one, and before any lock.

    `since`: from when the lock has it as it is; "" where it does not say.
    """
    older = [record for record in records if "claims" not in record]
    locked = [record for record in records if "claims" in record]
    added = [record for record in locked if key not in record["claims"]]
    before = [record for record in older if "" < str(record.get("started") or "") < since]
    unlocked, added = [record for record in older if record not in before], [*before, *added]
    changed = [record for record in locked if key in record["claims"] and record["claims"][key] not in forms]
    kinds = (
        ("changed", changed, "changed after results existed: {} rest on another form of it"),
        ("added", added, "added or changed after results existed: {} were made before it was stated like this"),
        ("unlocked", unlocked, "{} ran before claims were locked"),
    )
    return [
        LockDeviation(
            name=claim.name,
            what=says.format(f"{len(group)} of {len(records)} runs"),
            when=_first(group),
            kind=kind,
            runs=len(group),
            of=len(records),
        )
        for kind, group, says in kinds
        if group
    ]


def _removed(plan: Plan, records: Sequence[Mapping[str, Any]]) -> list[LockDeviation]:
    """Return the claims of the ablation that runs were made under and that the study does not state any more."""
    stated = {f"{plan.ablation}/{claim.name}" for claim in plan.claims}
    prefix = f"{plan.ablation}/"
    gone = {key for record in records for key in record.get("claims", {}) if key.startswith(prefix)} - stated
    found = []
    for key in sorted(gone):
        group = [record for record in records if key in record.get("claims", {})]
        what = f"dropped after results existed: {len(group)} of {len(records)} runs were made while it was stated"
        name = key.removeprefix(prefix)
        found.append(
            LockDeviation(name=name, what=what, when=_first(group), kind="removed", runs=len(group), of=len(records))
        )
    return found


def _first(records: Sequence[Mapping[str, Any]]) -> str:
    """Return when the first of these runs started."""
    return min((str(record["started"]) for record in records if record.get("started")), default="")
