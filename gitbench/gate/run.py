"""A check, or the making of references: tier after tier, each in a process of its own with a time limit. No torch.

A check that was stopped goes on where it stopped (`state.py`); one that came to its end is made anew.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitbench.code import PACKAGE
from gitbench.errors import GitbenchError
from gitbench.files import ROOT, explain_os_errors, load_json, make_dir, read_json, write_json
from gitbench.gate.base import Base, base_of, text_of
from gitbench.gate.child import STALE_BY
from gitbench.gate.listing import TIERS, Tier
from gitbench.gate.numbers import TIER, keep_digest, needlessly_raised, with_advice
from gitbench.gate.outcome import REGRESSED, STALE, UNMEASURED, Measured, Outcome, judged, overall
from gitbench.gate.reference import (
    Origin,
    Reference,
    here,
    machine_class,
    new_reference,
    packages_by,
    path_of,
    read_reference,
    stale_by,
    values_of,
    write_constraints,
    write_reference,
)
from gitbench.gate.setting import Setting
from gitbench.gate.state import MAKING, alone, keep, key_of, made_of, resumed
from gitbench.processes import run_for, why_failed
from gitbench.run_key import read_as
from gitbench.study.provenance import environment, now

USUAL = 900.0  # seconds of a whole check to which the limits of the tiers belong: with more of them, they have more
EDITED = "gitbench's files or the data were changed while it was checked: check again"
LEAST = 3.0  # seconds below which a tier is not begun


@dataclass(frozen=True, kw_only=True)
class Check:
    """A whole check: what was asked, how each tier ended, and the references that it was set beside."""

    setting: Setting
    outcomes: tuple[Outcome, ...]
    references: Mapping[str, Reference]  # tier -> reference
    began: str  # UTC
    seconds: float
    revision: str | None  # of this code
    notes: tuple[str, ...] = ()  # e.g. why a tier was left out


def run_check(
    folder: Path,
    setting: Setting,
    tiers: Sequence[Tier],
    references: Path,
    seconds: float,
    say: Callable[[str], None] = print,
    notes: Sequence[str] = (),
    fresh: bool = False,
) -> Check:
    """Check tiers in `folder`, in `seconds` at most; `fresh`: nothing of a check that was stopped is taken over.

    Errors: GitbenchError for damaged references, for a folder of something else, or one in which another check is at work.
    """
    with alone(folder):
        began, started, machine = now(), time.monotonic(), machine_class(setting.device)
        found = {
            tier.name: reference
            for tier in tiers
            if tier.has_reference
            and (reference := read_reference(references, machine, setting.subject, tier.name)) is not None
        }
        today, base = here(setting.device, setting.subject), _base(setting)
        others = dict(_others(found, references, setting, base))
        asked = (setting, found, base.revision if base else None)
        key = key_of(*asked)
        done, outcomes = resumed(folder, key, fresh), list[Outcome]()
        for tier in tiers:
            limit = tier.limit * max(1.0, seconds / USUAL)
            left = min(limit, seconds - (time.monotonic() - started))
            if tier.has_reference and tier.name not in found:
                outcomes.append(_absent(tier, f"{setting.subject.name} on {machine} in {references}"))
            elif tier.name in done:
                outcomes.append(done[tier.name])
            else:
                say(f"{tier.name}: {tier.doc} (up to {max(0.0, left):.0f} s)")
                outcome = _checked(folder, setting, tier, found.get(tier.name), others.get(tier.name), today, left)
                if key_of(*asked) != key:
                    outcome = dataclasses.replace(outcome, status=UNMEASURED, why=(EDITED,))
                outcomes.append(outcome)
                if outcome.status != UNMEASURED:
                    done[tier.name] = outcome
                    keep(folder, key, done, finished=False)
        keep(folder, key, done, finished=True)
        if overall(outcomes) != REGRESSED:
            for outcome in outcomes:
                keep_digest(setting, outcome, found.get(outcome.tier), today)
    return Check(
        setting=setting,
        outcomes=tuple(outcomes),
        references=found,
        began=began,
        seconds=time.monotonic() - started,
        revision=_revision(),
        notes=(*notes, *(_own(tier, base) for tier in others if base)),
    )


def _own(tier: str, base: Base) -> str:
    """Say that a reference is the change's own, since the gate cannot tell whether it ought to be another."""
    return f"{tier}: the reference is this change's own, that of {base.short} ({base.said}) is another"


def _base(setting: Setting) -> Base | None:
    """Return the base revision; None where there is none, or it is unknown, which `speed` says."""
    try:
        return base_of(ROOT, setting.base)
    except GitbenchError:
        return None


def _others(
    found: Mapping[str, Reference], folder: Path, setting: Setting, base: Base | None
) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """Yield the tiers whose reference this change brings itself; of `exact` also what the base's holds.

    None where that is of another numerics version, and of the other tiers, which are not compared with it.
    """
    for tier, reference in found.items():
        path = path_of(folder, reference.origin.machine, setting.subject, tier).resolve()
        if base is None or not path.is_relative_to(ROOT):
            continue
        text = text_of(ROOT, base, path.relative_to(ROOT))
        if text is not None and text != path.read_text(encoding="utf-8"):
            yield tier, values_of(text) if tier == TIER else None


def _absent(tier: Tier, place: str) -> Outcome:
    """Return how a tier ends that has no reference."""
    why = f"there is no reference of {place}: make one with `gitbench gate record`"
    return Outcome(tier=tier.name, status=STALE, seconds=0.0, why=(why,))


def record(
    folder: Path,
    setting: Setting,
    tiers: Sequence[Tier],
    references: Path,
    reason: str,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Measure tiers and write their references; returns the files.

    What a tier has made when it is stopped it may go on with, of the same code. Errors: GitbenchError for a tier that fails,
    without a reason, and where references cannot be written.
    """
    new_reference("", setting.subject, setting.device, reason, {})  # a reason is asked for before the work is done
    _writable(path_of(references, machine_class(setting.device), setting.subject, "").parent)
    making, today = folder / MAKING, here(setting.device, setting.subject)
    with alone(folder):
        _same_packages(tiers, references, setting, today)
        made_of(making, key_of(setting, {}, None))
        found = []
        for tier in tiers:
            if not tier.has_reference:
                continue
            say(f"{tier.name}: {tier.doc}")
            own = make_dir(making / tier.name)
            result = own / "result.json"
            result.unlink(missing_ok=True)
            _child(own, dataclasses.replace(setting, folder=str(own.resolve())), tier, "-", result, None)
            found.append(new_reference(tier.name, setting.subject, setting.device, reason, read_json(result)))
        written = [write_reference(references, reference, setting.subject) for reference in found]
        write_constraints(references, today, setting.subject)
        shutil.rmtree(making, ignore_errors=True)
    return written


def _same_packages(tiers: Sequence[Tier], references: Path, setting: Setting, today: Origin) -> None:
    """Refuse to make some references with other packages than those that stay: a check has one environment."""
    for tier in TIERS:
        if tier.has_reference and tier not in tiers:
            there = read_reference(references, today.machine, setting.subject, tier.name)
            if there is not None and (others := packages_by(there.origin, today)):
                raise GitbenchError(
                    f"the reference of {tier.name} stays, and was made with other packages ({'; '.join(others)}): record all "
                    "tiers, or install its packages (constraints.txt beside it)"
                )


def _writable(place: Path) -> None:
    """Refuse a place for references that cannot be written, before anything is measured."""
    try:
        with explain_os_errors(place):
            make_dir(place)
            tempfile.TemporaryFile(dir=place).close()
    except GitbenchError as error:
        raise GitbenchError(str(error).replace("choose another place", "pass another --references")) from None


def _checked(
    folder: Path,
    setting: Setting,
    tier: Tier,
    reference: Reference | None,
    before: Mapping[str, Any] | None,
    today: Origin,
    seconds: float,
) -> Outcome:
    """Check one tier in its process; `before`: the values of the base's reference, where the change brings its own."""
    began = time.monotonic()
    own = make_dir(folder / tier.name)
    values, result = own / "reference.json", own / "result.json"
    result.unlink(missing_ok=True)
    write_json(values, {**(reference.values if reference else {}), **({"before": before} if before else {})})
    given = dataclasses.replace(setting, folder=str(own.resolve()), seconds=seconds)
    try:
        if seconds < LEAST:
            raise GitbenchError("no time was left: raise --minutes")
        _child(own, given, tier, str(values), result, seconds)
        if isinstance(found := load_json(result), dict) and STALE_BY in found:
            return _ended(tier, STALE, began, found[STALE_BY])
        measured = read_as(Measured, result, f"see {own / 'log.txt'}")
    except GitbenchError as error:
        return _ended(tier, UNMEASURED, began, str(error))
    stale, newer = tuple[str, ...](), tuple[str, ...]()
    if reference is not None:
        then = reference.origin
        stale = (*stale_by(then, today), *needlessly_raised(tier.name, measured, then, today))
        newer = packages_by(then, today)
        measured = with_advice(tier.name, measured, then, today)
    return judged(tier.name, round(time.monotonic() - began, 1), measured, stale, newer)


def _ended(tier: Tier, status: str, began: float, why: str) -> Outcome:
    """Return how a tier ends that measured nothing."""
    return Outcome(tier=tier.name, status=status, seconds=round(time.monotonic() - began, 1), why=(why,))


def _child(own: Path, setting: Setting, tier: Tier, values: str, result: Path, seconds: float | None) -> None:
    """Run a tier's process to its end. Errors: GitbenchError that says how it failed, or that its time was up."""
    given = json.dumps(asdict(setting))
    command = [sys.executable, "-m", "gitbench.gate.child", tier.name, given, values, str(result.resolve())]
    path = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    if setting.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    log = own / "log.txt"
    try:
        status = run_for(command, environment, log, seconds)
    except subprocess.TimeoutExpired:
        raise GitbenchError(f"not done after {seconds:.0f} s: give it more time (--minutes), or see {log}") from None
    if status or not result.is_file():
        raise GitbenchError(f"{tier.name} failed ({why_failed(status, log)}): see {log}")


def _revision() -> str | None:
    found = environment()
    return f"{found['git_revision']}{' with changes' if found['git_dirty'] else ''}" if found["git_revision"] else None
