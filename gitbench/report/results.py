"""Committed reports read back: `reports/results/<ablation>/<profile>-<data>-<machine>`, without a run folder.

The hashes of a report's manifest must hold. Every word is judged again from the rows of `runs.csv` and `evidence.json`
(plan, looks, kind of ceiling, what images add, how each run was made): what is read here is what they give, and a word that
the report says otherwise is told. The keys of the runs must be the hashes of how they were made, with seeds that follow
from the claims (`gitbench.study.evidence`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.judge.claims import judge_study
from gitbench.judge.verdict import ImageError, Verdict
from gitbench.plan import Plan, PlannedRun
from gitbench.report.origin import Origin
from gitbench.run_key import NUMERICS_VERSION, from_json
from gitbench.spec import Claim
from gitbench.study.evidence import made_from_json
from gitbench.study.frame import COLUMNS
from gitbench.study.makers import makers_from_json
from gitbench.study.plan_file import plan_from_json

_BESIDE = " by likelihood"  # of the word beside that of a claim's own metric


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
    plan: Plan
    dropped: tuple[str, ...]  # claims that its runs were made under and that it does not state, a clause each
    origin: Origin  # when and under what its runs were made, and what does not verify


def load_results(folder: str | Path) -> list[Result]:
    """Load every report under `folder` (`<ablation>/<report>/verdicts.json`), sorted by ablation, profile and data."""
    found = [load_result(path.parent) for path in sorted(Path(folder).glob("*/*/verdicts.json"))]
    return sorted(found, key=lambda result: (result.ablation, result.profile, result.data))


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
    fix = "rebuild it with `gitbench publish ABLATION`"
    try:
        for name in ("verdicts.json", "runs.csv", "evidence.json"):
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != manifest["files"][name]:
                raise GitbenchError(
                    f"{folder / name} is not as it was built (its hash differs from the manifest's): {fix}"
                )
        said = read_json(folder / "verdicts.json")
        kinds = {"run_key": str, "signature": str}
        frame = pd.read_csv(folder / "runs.csv", dtype=kinds, float_precision="round_trip")[list(COLUMNS)]
        frame = frame.astype({"replicate": "Int64"})
        if not set(frame["run_key"].dropna()) <= set(manifest["runs"]):
            raise GitbenchError(f"{folder}: runs.csv holds runs that the manifest does not list: {fix}")
        told = [verdict_from_json(each) for each in said["verdicts"]]
        evidence = read_json(folder / "evidence.json")
        plan = plan_from_json(evidence["plan"])
        verdicts, origin = _judged_again(plan, evidence, frame, told)
        result = Result(
            folder=folder,
            **{name: manifest[name] for name in ("ablation", "profile", "data")},
            manifest=manifest,
            verdicts=verdicts,
            frame=frame,
            plan=plan,
            origin=origin,
            dropped=tuple(f"{each['name']}: {each['what']}" for each in said["dropped"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError, OSError):
        raise GitbenchError(f"{folder} is no whole report: {fix}") from None
    return result


def _judged_again(
    plan: Plan, evidence: Mapping[str, Any], frame: pd.DataFrame, said: Sequence[Verdict]
) -> tuple[tuple[Verdict, ...], Origin]:
    """Return the verdicts that a report's own rows give, and where they come from, with every word that it says otherwise."""
    made = made_from_json(evidence["made"])
    errors = {name: from_json(ImageError, each) for name, each in evidence["images"].items()}
    known = {"looks": evidence["looks"], "images": errors}
    verdicts = tuple(judge_study(plan, frame, evidence["ceiling_kind"], **known))
    found, told = (_words(some) for some in (verdicts, said))
    if not any(each.likelihood for each in said):  # written before claims were judged by likelihood
        found = {name: each for name, each in found.items() if not name.endswith(_BESIDE)}
    notes = [
        f"the report says that {name} is {_said(told.get(name))}, its runs give {_said(found.get(name))}"
        for name in sorted({*found, *told})
        if found.get(name) != told.get(name)
    ]
    if (plan.design == "sequential") != (evidence["looks"] > 0):
        notes.append(f"its plan is {plan.design}, and it was judged with {evidence['looks']} looks")
    rows = frame[frame["role"] != "ceiling"][["arm", "replicate", "run_key", "overridden"]].drop_duplicates()
    planned, runs = {(run.arm, run.replicate): run for run in plan.runs}, []
    for arm, replicate, key, overridden in rows.itertuples(index=False):
        run = PlannedRun(arm=arm, replicate=int(replicate), run_key=key)
        runs.append(run)
        if planned.get((arm, run.replicate)) != run:
            notes.append(f"{arm} seed {replicate}: runs.csv has the run {key}, which its plan does not list so")
        if key in made and bool(made[key].spec.get("cfg_options")) != overridden:
            notes.append(f"{arm} seed {replicate}: runs.csv and its spec differ in whether it was overridden")
    began, told = evidence["origin"]["began"], evidence["origin"]["notes"]
    origin = Origin.proven(plan, runs, made, began, (*told, *notes))
    makers = makers_from_json(
        evidence.get("makers") or {"kinds": [], "runs": {}}
    )  # none in reports of earlier versions
    own = {key: each for key, each in makers.items() if key in made and made[key].numerics == NUMERICS_VERSION}
    return verdicts, replace(origin, makers=own)


def _words(verdicts: Sequence[Verdict]) -> dict[str, tuple[str, ...]]:
    """Return claim -> its word, the difference and the ends of its interval as a report prints them; by likelihood too."""
    every = [(each.claim.name, each) for each in verdicts]
    every += [(f"{each.claim.name}{_BESIDE}", each.likelihood) for each in verdicts if each.likelihood]
    return {
        name: (
            each.word,
            *(f"{number:.6g}" for number in (each.difference, *(each.interval or ())) if number is not None),
        )
        for name, each in every
    }


def _said(numbers: tuple[str, ...] | None) -> str:
    return "not there" if numbers is None else f"{numbers[0]} ({', '.join(numbers[1:]) or 'no difference'})"


def verdict_from_json(values: Mapping[str, Any]) -> Verdict:
    """Return a verdict from its JSON values; what an older report says in fields that are gone is dropped."""

    def known(kind: type, said: Mapping[str, Any]) -> dict[str, Any]:
        return {each.name: said[each.name] for each in fields(kind) if each.name in said}

    own = from_json(Verdict, known(Verdict, values) | {"claim": known(Claim, values["claim"]), "likelihood": None})
    beside = values.get("likelihood")
    return own if beside is None else replace(own, likelihood=verdict_from_json(beside))
