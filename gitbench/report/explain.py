"""`gitbench explain decoder_size:large:CIDEr`: where a printed number comes from, down to the files, commands and versions.

A number is named ABLATION:ARM:METRIC, a judged difference ABLATION:CLAIM. With a work directory the walk ends at run
folders and the score is put together again from what they stored per image; with a committed report alone it ends at
its `runs.csv` and manifest, whose hashes are checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gitbench.errors import GitbenchError, unknown_name
from gitbench.judge.claims import judge_claim
from gitbench.judge.intervals import t_interval
from gitbench.judge.noise import load_noise_floor
from gitbench.judge.words import verdict_sentence
from gitbench.metrics.aggregate import BLEUS, CORPUS_METRICS, LOSS, from_totals, statistics
from gitbench.report.audit import Replicate, differences_of, replicates_of
from gitbench.report.results import Result
from gitbench.report.verdict_details import evidence_lines, gather_evidence
from gitbench.scores import COSTS, digits, unit
from gitbench.spec import Claim
from gitbench.study.interim import looks_of
from gitbench.study.records import Study, build_frame, load_per_image, load_provenance, load_study, load_yardstick

_FACTS = ("git_revision", "git_dirty", "python", "platform", "cpu", "gpus", "machine", "device", "driver")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be explained: a metric of an arm ("ceiling" too), or a claim (then `metric` is None)."""

    ablation: str
    name: str
    metric: str | None


def parse_target(text: str) -> Target:
    """Parse ABLATION:ARM:METRIC or ABLATION:CLAIM. Errors: GitbenchError for any other form."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise GitbenchError(
            f"'{text}' names no number: write ABLATION:ARM:METRIC or ABLATION:CLAIM, as decoder_size:large:CIDEr"
        )
    return Target(ablation=parts[0], name=parts[1], metric=parts[2] if len(parts) == 3 else None)


def explain_runs(work_dir: str | Path, target: Target, profile: str, data: str) -> str:
    """Return the whole walk as text, from a work directory.

    Errors: GitbenchError for a study, arm, claim or metric that is not there, or a number that no run stands behind.
    """
    study = load_study(work_dir, target.ablation, profile, data)
    if target.metric is None:
        return "\n".join(_claim_walk(work_dir, study, _claim(study.claims, target.name)))
    if target.name == "ceiling":
        return "\n".join(_ceiling_walk(work_dir, study, target.metric))
    behind = replicates_of(work_dir, study, target.name, target.metric)
    if not behind:
        known = sorted(set(build_frame(work_dir, [study]).query("arm == @target.name")["metric"]))
        if known and target.metric not in known:
            raise unknown_name("metric", target.metric, known)
        raise GitbenchError(
            f"no finished run stands behind {target.ablation}:{target.name}:{target.metric}: run `{study.command}`"
        )
    return "\n".join(_number_walk(work_dir, study, target, behind))


def _number_walk(work_dir: str | Path, study: Study, target: Target, behind: Sequence[Replicate]) -> Iterator[str]:
    metric = str(target.metric)
    yield f"{target.ablation}:{target.name}:{metric} on {study.data}, {study.profile} profile"
    yield f"  arm          {study.arm(target.name).label}"
    yield f"  printed      {mean_text([each.value for each in behind], metric)}"
    yield f"  of one run   {aggregation(metric)}"
    for signature in dict.fromkeys(each.signature for each in behind if each.signature):
        yield f"  signature    {signature}"
    yield "  replicates"
    for each in behind:
        mark = "  (changed by --cfg-options)" if each.overridden else ""
        yield f"    {each.replicate:>3}  {each.value:<12.6g} {Path(work_dir) / 'runs' / each.run_key}{mark}"
        if (again := _from_images(work_dir, each.run_key, metric)) is not None:
            yield f"         {again[0]:<12.6g} again, from {again[1]} rows of its per_image.parquet"
    yield from _environment(work_dir, study, [each.run_key for each in behind])


def _claim_walk(work_dir: str | Path, study: Study, claim: Claim) -> Iterator[str]:
    frame = build_frame(work_dir, [study])
    kind = (load_yardstick(work_dir, study) or {}).get("kind")
    verdict = judge_claim(study, claim, frame, kind, looks=looks_of(work_dir, study))
    floors = load_noise_floor(work_dir, study.profile, study.data)
    values = differences_of(work_dir, study, claim)
    yield f"{study.ablation}:{claim.name} on {study.data}, {study.profile} profile: {verdict.word}"
    yield f'  the paper    "{claim.quote}" ({claim.where}, {claim.confidence})'
    yield f"  judged       {verdict_sentence(verdict)}"
    for what, found in evidence_lines(verdict, gather_evidence(study, work_dir, [verdict], floors)[claim.name]):
        yield f"  {what + ':':<30}{found}"
    keys = {(run.arm, run.replicate): run.run_key for run in study.runs}
    yield f"  paired differences in {claim.metric}"
    for replicate, value in values.items():
        runs = ", ".join(f"{arm} {keys[arm, replicate]}" for arm in claim.arms)
        yield f"    {replicate:>3}  {value:<+12.6g} {runs}"
    yield from _environment(work_dir, study, [keys[arm, replicate] for replicate in values for arm in claim.arms])


def _ceiling_walk(work_dir: str | Path, study: Study, metric: str) -> Iterator[str]:
    found = load_yardstick(work_dir, study)
    if found is None or metric not in found["ceiling"]:
        raise GitbenchError(f"no yardstick stands behind {study.ablation}:ceiling:{metric}: run `{study.command}`")
    yield f"{study.ablation}:ceiling:{metric} on {study.data}, {study.profile} profile"
    yield f"  value        {found['ceiling'][metric]['value']:.6g} {unit(metric)}, kind {found.get('kind')}"
    yield f"  signature    {found['ceiling'][metric].get('signature')}"
    yield f"  file         {Path(work_dir) / 'yardsticks' / f'{study.yardstick_key}.json'}"


def explain_result(result: Result, target: Target) -> str:
    """Return the walk as far as a committed report goes: its rows, run keys, command and environment."""
    manifest, frame = result.manifest, result.frame
    where = f"on {result.data}, {result.profile} profile, from {result.folder}"
    lines = []
    if target.metric is None:
        verdict = next((each for each in result.verdicts if each.claim.name == target.name), None)
        if verdict is None:
            raise unknown_name("claim", target.name, (each.claim.name for each in result.verdicts))
        lines += [
            f"{target.ablation}:{target.name} {where}: {verdict.word}",
            f"  judged       {verdict_sentence(verdict)}",
        ]
        rows = frame[frame["arm"].isin(verdict.claim.arms) & (frame["metric"] == verdict.claim.metric)]
    else:
        rows = frame[(frame["arm"] == target.name) & (frame["metric"] == target.metric)]
        if rows.empty:
            kind, wanted = ("metric", target.metric) if target.name in set(frame["arm"]) else ("arm", target.name)
            known = frame[frame["arm"] == target.name]["metric"] if kind == "metric" else frame["arm"]
            raise unknown_name(kind, wanted, set(known))
        lines += [f"{target.ablation}:{target.name}:{target.metric} {where}"]
        if not rows["run_key"].isna().all():
            lines += [f"  printed      {mean_text(rows['value'].tolist(), target.metric)}"]
            lines += [f"  of one run   {aggregation(target.metric)}"]
    lines += [f"  signature    {each}" for each in rows["signature"].dropna().unique()] + ["  replicates (runs.csv)"]
    for row in rows.itertuples():
        number = "" if pd.isna(row.replicate) else int(row.replicate)
        lines.append(f"    {number:>3}  {row.value:<12.6g} {row.arm:<12} {'' if pd.isna(row.run_key) else row.run_key}")
    lines += [f"  command      {manifest['command']}", f"  data         fingerprint {manifest['data_fingerprint']}"]
    for name, values in (manifest.get("environment") or {}).items():
        if name != "data_fingerprint":
            lines.append(f"  {name:<20} {', '.join(values)}")
    lines.append("  the run folders are not part of the repository: run the command, or pass --work-dir")
    return "\n".join(lines)


def mean_text(values: Sequence[float], metric: str) -> str:
    """Return "114.5 ± 9.8 points: mean of 5 replicates, 95 % Student-t interval 104.6 to 124.3, sd 7.9"."""
    found = t_interval(values)
    places = digits((found.mean,))
    if found.low is None or found.high is None or found.sd is None:
        return f"{found.mean:.{places}f} {unit(metric)}: 1 replicate, so no interval"
    mean = f"{found.mean:.{places}f} \N{PLUS-MINUS SIGN} {found.half_width:.{places}f} {unit(metric)}"
    reach = f"{found.low:.{places}f} to {found.high:.{places}f}"
    return f"{mean}: mean of {found.n} replicates, 95 % Student-t interval {reach}, sd {found.sd:.{places}f}"


def aggregation(metric: str) -> str:
    """Say how a run's value of a metric is put together from what is stored per image."""
    if metric in COSTS:
        return "measured once a run (record.json, cost)"
    if metric in BLEUS:
        return "from n-gram counts and lengths summed over all test images; never a mean of images"
    if metric in CORPUS_METRICS:
        return "from matching statistics summed over all test images; never a mean of images"
    if metric == LOSS:
        return "summed nats over summed tokens of all test captions"
    return f"mean over the test images of column {metric}, undefined ones left out"


def _from_images(work_dir: str | Path, run_key: str, metric: str) -> tuple[float, int] | None:
    """Put one run's score together again; None where the run stores nothing per image for this metric."""
    if metric in COSTS:
        return None
    table = load_per_image(work_dir, run_key)
    try:
        parts = statistics(table, metric)
    except GitbenchError:
        return None
    return from_totals(parts.sum(axis=0), metric), len(table)


def _environment(work_dir: str | Path, study: Study, keys: Sequence[str]) -> Iterator[str]:
    """Yield the command, and the distinct values of everything that the runs say about revision, packages and machine."""
    found: dict[str, dict[str, None]] = {}
    for key in keys:
        values = load_provenance(work_dir, key)
        facts: dict[str, Any] = {name: values.get(name) for name in _FACTS}
        facts |= {"run command": values.get("command"), "claims lock": values.get("claims_lock")}
        facts |= {f"package {name}": version for name, version in sorted((values.get("packages") or {}).items())}
        for name, value in facts.items():
            if value not in (None, "", []):
                found.setdefault(name, {})[str(value)] = None
    yield f"  command      {study.command}"
    yield f"  data         {study.data}, fingerprint {study.data_fingerprint}"
    for name, texts in found.items():
        yield f"  {name:<20} {', '.join(texts)}"


def _claim(claims: Sequence[Claim], name: str) -> Claim:
    found = next((claim for claim in claims if claim.name == name), None)
    if found is None:
        raise unknown_name("claim", name, (claim.name for claim in claims))
    return found
