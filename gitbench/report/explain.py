"""`gitbench explain decoder_size:large:CIDEr`: where a printed number comes from, down to the files, commands and versions.

With a work directory the walk ends at run folders, and the score is put together again from what they stored per image;
with a committed report alone it ends at its `runs.csv` and manifest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gitbench.errors import GitbenchError, unknown_name
from gitbench.formats import digits, plus_minus
from gitbench.judge.sentences import verdict_sentence
from gitbench.judge.statistics import t_interval
from gitbench.judge.verdict import Verdict
from gitbench.metric_info import COSTS, DESCRIPTIVE, FIT, unit
from gitbench.metrics.aggregate import BLEUS, CORPUS_METRICS, LOSS, SHARES, aggregate
from gitbench.report.origin import Origin
from gitbench.report.results import Result
from gitbench.report.tables import values_behind
from gitbench.report.verdict_details import quoted, verdict_details
from gitbench.report.view import provenance_of
from gitbench.spec import OURS
from gitbench.study.store import Study

# What runs say of where they ran, beside revision and packages; "command" and "claims_lock" are the run's own.
_FACTS = ("git_revision", "python", "platform", "cpu", "gpus", "machine", "command", "claims_lock")


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


def explain_study(study: Study, verdicts: Sequence[Verdict], target: Target) -> str:
    """Return the whole walk as text, from a study and its verdicts.

    Errors: GitbenchError for an arm, claim or metric that is not there, or a number that no run stands behind.
    """
    plan = study.plan
    lines, rows = _walk(study.frame, verdicts, target, f"on {plan.data}, {plan.profile} profile")
    if target.metric is None:
        details = verdict_details(study, [_verdict(verdicts, target.name)])[0]
        lines += [f"  {what + ':':<30} {found}" for what, found in details.lines]
    lines.append("  runs")
    for row in rows.to_dict("records"):
        if row["role"] == "ceiling":
            lines.append(f"         {row['value']:<12.6g} {study.yardstick_path} ({study.yardstick.kind})")
            continue
        mark = "  (changed by --cfg-options)" if row["overridden"] else ""
        lines.append(f"    {row['replicate']:>3}  {_value(row)} {study.folder(row['run_key']).path}{mark}")
        if row["metric"] not in COSTS:
            table = study.per_image(row["run_key"])
            with contextlib.suppress(GitbenchError):  # nothing is stored per image for this metric
                again = aggregate(table, row["metric"])
                lines.append(f"         {again:<12.6g} again, from {len(table)} rows of its per-image scores")
    lines += [f"  command      {plan.command}", f"  data         {plan.data}, fingerprint {plan.data_fingerprint}"]
    origin = Origin.of(study)
    lines += [f"  numerics     {origin.versions}", *(f"  not verified {each}" for each in origin.marks)]
    facts = provenance_of(study, rows["run_key"].dropna().tolist(), _FACTS).items()
    return "\n".join([*lines, *(f"  {name:<20} {', '.join(values)}" for name, values in facts)])


def explain_result(result: Result, target: Target) -> str:
    """Return the walk as far as a committed report goes: its rows, run keys, command and environment."""
    where = f"on {result.data}, {result.profile} profile, from {result.folder}"
    lines, rows = _walk(result.frame, result.verdicts, target, where)
    lines.append("  runs (runs.csv)")
    for row in rows.to_dict("records"):
        number = "" if pd.isna(row["replicate"]) else int(row["replicate"])
        lines.append(f"    {number:>3}  {_value(row)} {'' if pd.isna(row['run_key']) else row['run_key']}")
    lines.append(f"  command      {result.manifest['command']}")
    lines += [f"  numerics     {result.origin.versions}", *(f"  not verified {each}" for each in result.origin.marks)]
    facts = result.manifest["environment"].items()
    lines += [f"  {name:<20} {', '.join(values)}" for name, values in facts]
    return "\n".join([*lines, "  the run folders are not part of the repository: run the command, or pass --work-dir"])


def _value(row: Mapping[Any, Any]) -> str:
    return f"{row['value']:<12.6g} {row['metric']:<9} {row['arm']:<12}"


def _walk(
    frame: pd.DataFrame, verdicts: Sequence[Verdict], target: Target, where: str
) -> tuple[list[str], pd.DataFrame]:
    """Return what a study and a committed report have in common: what is printed and why, and the rows behind it."""
    if target.metric is None:
        if target.name in set(frame["arm"]):
            raise GitbenchError(
                f"{target.ablation}:{target.name} is an arm: name a score of it, as {target.ablation}:{target.name}:CIDEr"
            )
        verdict = _verdict(verdicts, target.name)
        claim = verdict.claim
        lines = [
            f"{target.ablation}:{target.name} {where}: {verdict.word}",
            f"  {'reason   ' if claim.confidence == OURS else 'the paper'}    {quoted(claim)}",
            f"  judged       {verdict_sentence(verdict)}",
        ]
        behind = []
        for each in (verdict, verdict.likelihood) if verdict.likelihood else (verdict,):
            metric = each.claim.metric
            lines.append(f"  paired differences in {metric}")
            pairs = zip(each.replicates, each.differences, strict=True)
            lines += [f"    {replicate:>3}  {value:+.6g}" for replicate, value in pairs]
            behind += [values_behind(frame, arm, metric).sort_values("replicate") for arm in claim.arms]
        return lines, pd.concat(behind)
    rows = values_behind(frame, target.name, target.metric).sort_values("replicate")
    if rows.empty:
        known = frame.loc[frame["arm"] == target.name, "metric"]
        if known.empty:
            raise unknown_name("arm with a finished run", target.name, set(frame["arm"]))
        raise unknown_name("metric", target.metric, set(known))
    lines = [f"{target.ablation}:{target.name}:{target.metric} {where}"]
    if target.name != "ceiling":
        lines += [f"  arm          {rows['label'].iloc[0]}"]
        lines += [f"  printed      {mean_text(rows['value'].tolist(), target.metric)}"]
        lines += [f"  of one run   {aggregation(target.metric)}"]
    return [*lines, *(f"  signature    {each}" for each in rows["signature"].dropna().unique())], rows


def _verdict(verdicts: Sequence[Verdict], name: str) -> Verdict:
    found = next((verdict for verdict in verdicts if verdict.claim.name == name), None)
    if found is None:
        raise unknown_name("claim", name, (verdict.claim.name for verdict in verdicts))
    return found


def mean_text(values: Sequence[float], metric: str) -> str:
    """Return "114.5 ± 9.8 points: mean of 5 replicates, 95 % Student-t interval 104.6 to 124.3, sd 7.9"."""
    found = t_interval(values)
    places = digits((found.mean,))
    if found.low is None or found.high is None or found.sd is None:
        return f"{found.mean:.{places}f} {unit(metric)}: 1 replicate, so no interval"
    mean = f"{plus_minus(found.mean, found.half_width, places)} {unit(metric)}"
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
    if metric in SHARES:
        return "facts said that are false over facts said, both summed over all test images"
    if metric in DESCRIPTIVE:
        return "counted in the captions of all test images together"
    if metric in FIT:
        return "summed nats over summed tokens of all captions of the images, measured when the training ended"
    if metric == LOSS:
        return "summed nats over summed tokens of all test captions"
    return f"mean over the test images of column {metric}, undefined ones left out"
