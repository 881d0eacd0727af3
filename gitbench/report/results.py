"""Committed reports read back: `reports/results/<ablation>/<profile>-<data>-<machine>`, without a run folder or a work directory.

A report is believed only as it was built: the hashes of its manifest must hold, and each judged difference must follow
from the rows of its own `runs.csv`. So a number that was edited by hand never reaches the board.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.judge.claims import Verdict
from gitbench.judge.sample import sample
from gitbench.spec import Claim
from gitbench.study.records import COLUMNS


@dataclass(frozen=True, kw_only=True)
class Result:
    """One committed report: its manifest, verdicts, and one row a value (`frame` has the columns of the tidy frame)."""

    folder: Path
    ablation: str
    profile: str
    data: str
    manifest: Mapping[str, Any]
    verdicts: tuple[Verdict, ...]
    frame: pd.DataFrame
    dropped: tuple[str, ...] = ()  # claims that its runs were made under and that it does not state, a clause each


def load_results(folder: str | Path) -> list[Result]:
    """Load every report under `folder` (`<ablation>/<report>/manifest.json`), sorted by ablation, profile and data."""
    found = [load_result(path.parent) for path in sorted(Path(folder).glob("*/*/manifest.json")) if _has_verdicts(path)]
    return sorted(found, key=lambda result: (result.ablation, result.profile, result.data))


def _has_verdicts(manifest: Path) -> bool:
    """Tell a study's report from another that has a manifest (a noise floor)."""
    return (manifest.parent / "verdicts.json").is_file()


def find_result(folder: str | Path, ablation: str, profile: str, data: str) -> Result:
    """Return the committed report of a study; `data` may lack the digits of its content.

    Errors: GitbenchError where there is none (those that are there are listed) or several.
    """
    there = load_results(folder)
    own = [each for each in there if (each.ablation, each.profile) == (ablation, profile)]
    found = [each for each in own if each.data == data] or [each for each in own if each.data.startswith(f"{data}-")]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{each.ablation}.{each.profile}.{each.data}" for each in (found or there)) or "(none)"
    said = "several reports match" if found else "no study and no report is"
    raise GitbenchError(
        f"{said} {ablation}.{profile}.{data}: pass --profile and --data, or --work-dir; found: {listed}"
    )


def load_result(folder: Path) -> Result:
    """Load and check one report. Errors: GitbenchError where a file is missing, damaged, or not as it was built."""
    manifest = read_json(folder / "manifest.json")
    fix = "rebuild it with `gitbench report`"
    try:
        hashes = {name: manifest["files"][name] for name in ("verdicts.json", "runs.csv")}
        for name, digest in hashes.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise GitbenchError(
                    f"{folder / name} is not as it was built (its hash differs from the manifest's): {fix}"
                )
        said = read_json(folder / "verdicts.json")
        verdicts = tuple(verdict_from_json(each) for each in said["verdicts"])
        frame = pd.read_csv(folder / "runs.csv", dtype={"run_key": str, "signature": str})
        result = Result(
            folder=folder,
            ablation=manifest["ablation"],
            profile=manifest["profile"],
            data=manifest["data"],
            manifest=manifest,
            verdicts=verdicts,
            frame=frame[list(COLUMNS)],
            dropped=tuple(f"{each['name']}: {each['what']}" for each in said.get("dropped", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError):
        raise GitbenchError(f"{folder} is no whole report: {fix}") from None
    for verdict in verdicts:
        _check(result, verdict)
    return result


def verdict_from_json(values: Mapping[str, Any]) -> Verdict:
    """Return a verdict from `Verdict.as_json`; fields that an older report lacks keep their defaults."""
    claim = {each.name: values["claim"][each.name] for each in fields(Claim) if each.name in values["claim"]}
    own = {each.name: values[each.name] for each in fields(Verdict) if each.name in values and each.name != "claim"}
    claim, own = _tuples(claim), _tuples(own)
    return Verdict(claim=Claim(**claim), **own)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with lists as tuples, nested ones too."""
    return {
        name: tuple(tuple(each) if isinstance(each, list) else each for each in value)
        if isinstance(value, list)
        else value
        for name, value in values.items()
    }


def _check(result: Result, verdict: Verdict) -> None:
    """Refuse a difference that does not follow from the report's own runs."""
    if verdict.difference is None:
        return
    claim, name = verdict.claim, f"{result.ablation}:{verdict.claim.name} in {result.folder}"
    rows = result.frame[(result.frame["metric"] == claim.metric) & ~result.frame["overridden"]]
    known = set(result.manifest["runs"])
    values = {arm: _by_replicate(rows[rows["arm"] == arm]) for arm in claim.arms}
    for arm in claim.arms:
        if values[arm].empty or not set(rows[rows["arm"] == arm]["run_key"]) <= known:
            raise GitbenchError(f"{name} has no runs behind its arm '{arm}': rebuild it with `gitbench report`")
    ceilings = rows.loc[rows["role"] == "ceiling", "value"]
    ceiling = float(ceilings.iloc[0]) if len(ceilings) else None
    pair = sample(claim, values, _by_replicate(rows[rows["role"] == "floor"]), ceiling)
    found = math.nan if pair is None else pair.interval.mean
    if pair is None or len(pair.replicates) != verdict.n or not math.isclose(found, verdict.difference, rel_tol=1e-6):
        raise GitbenchError(f"{name} says {verdict.difference:.6g} but its runs.csv gives {found:.6g}: rebuild it")


def _by_replicate(rows: pd.DataFrame) -> pd.Series:
    return pd.Series(rows["value"].to_numpy(dtype=float), index=[int(each) for each in rows["replicate"]])
