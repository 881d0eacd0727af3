"""`gitbench explain decoder_size:large:CIDEr`: where a printed number comes from, down to the files, commands and versions.

A number is named ABLATION:ARM:METRIC, a judged difference ABLATION:CLAIM. With a work directory the walk ends at run
folders and the score is put together again from what they stored per image; with a committed report alone it ends at
its `runs.csv` and manifest, whose hashes are checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from gitbench.errors import GitbenchError, unknown_name
from gitbench.judge.claims import Verdict
from gitbench.judge.intervals import t_interval
from gitbench.judge.words import verdict_sentence
from gitbench.metrics.aggregate import BLEUS, CORPUS_METRICS, LOSS, aggregate
from gitbench.report.audit import differences_of, values_behind
from gitbench.report.results import Result
from gitbench.report.verdict_details import verdict_details
from gitbench.report.view import provenance_of
from gitbench.scores import COSTS, digits, unit
from gitbench.study.store import Study

# What runs say of where they ran, beside revision and packages; "command" and "claims_lock" are the run's own.
_FACTS = ("git_revision", "python", "platform", "cpu", "gpus", "machine", "device", "driver", "command", "claims_lock")


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
    if target.metric is None:
        return "\n".join(_claim_walk(study, _verdict(verdicts, target.name)))
    if target.name == "ceiling":
        return "\n".join(_ceiling_walk(study, target.metric))
    study.plan.arm(target.name)
    behind = values_behind(study.frame, target.name, target.metric)
    if behind.empty:
        known = sorted(set(study.frame.query("arm == @target.name")["metric"]))
        if known and target.metric not in known:
            raise unknown_name("metric", target.metric, known)
        number = f"{target.ablation}:{target.name}:{target.metric}"
        raise GitbenchError(f"no finished run stands behind {number}: run `{study.plan.command}`")
    return "\n".join(_number_walk(study, target, target.metric, behind))


def _verdict(verdicts: Sequence[Verdict], name: str) -> Verdict:
    found = next((verdict for verdict in verdicts if verdict.claim.name == name), None)
    if found is None:
        raise unknown_name("claim", name, (verdict.claim.name for verdict in verdicts))
    return found


def _where(study: Study) -> str:
    return f"on {study.plan.data}, {study.plan.profile} profile"


def _number_walk(study: Study, target: Target, metric: str, behind: pd.DataFrame) -> Iterator[str]:
    yield f"{target.ablation}:{target.name}:{metric} {_where(study)}"
    yield f"  arm          {study.plan.arm(target.name).label}"
    yield f"  printed      {mean_text(behind['value'].tolist(), metric)}"
    yield f"  of one run   {aggregation(metric)}"
    yield from (f"  signature    {each}" for each in behind["signature"].dropna().unique())
    yield "  replicates"
    for each in behind.itertuples():
        mark = "  (changed by --cfg-options)" if each.overridden else ""
        yield f"    {each.replicate:>3}  {each.value:<12.6g} {study.folder(each.run_key).path}{mark}"
        if (again := _from_images(study, each.run_key, metric)) is not None:
            yield f"         {again[0]:<12.6g} again, from {again[1]} rows of its per-image scores"
    yield from _environment(study, behind["run_key"].tolist())


def _claim_walk(study: Study, verdict: Verdict) -> Iterator[str]:
    claim, values = verdict.claim, differences_of(study.frame, verdict.claim)
    yield f"{study.plan.ablation}:{claim.name} {_where(study)}: {verdict.word}"
    yield f'  the paper    "{claim.quote}" ({claim.where}, {claim.confidence})'
    yield f"  judged       {verdict_sentence(verdict)}"
    for what, found in verdict_details(study, [verdict])[0].lines:
        yield f"  {what + ':':<30} {found}"
    keys = {(run.arm, run.replicate): run.run_key for run in study.plan.runs}
    yield f"  paired differences in {claim.metric}"
    for replicate, value in values.items():
        runs = ", ".join(f"{arm} {keys[arm, replicate]}" for arm in claim.arms)
        yield f"    {replicate:>3}  {value:<+12.6g} {runs}"
    yield from _environment(study, [keys[arm, replicate] for replicate in values for arm in claim.arms])


def _ceiling_walk(study: Study, metric: str) -> Iterator[str]:
    name, entry = f"{study.plan.ablation}:ceiling:{metric}", study.yardstick.ceiling.get(metric)
    if entry is None:
        raise GitbenchError(f"no yardstick stands behind {name}: run `{study.plan.command}`")
    yield f"{name} {_where(study)}"
    yield f"  value        {entry['value']:.6g} {unit(metric)}, kind {study.yardstick.kind}"
    yield f"  signature    {entry.get('signature')}"
    yield f"  file         {study.yardstick_path}"


def explain_result(result: Result, target: Target) -> str:
    """Return the walk as far as a committed report goes: its rows, run keys, command and environment."""
    frame, where = result.frame, f"on {result.data}, {result.profile} profile, from {result.folder}"
    if target.metric is None:
        verdict = _verdict(result.verdicts, target.name)
        lines = [f"{target.ablation}:{target.name} {where}: {verdict.word}"]
        lines += [f"  judged       {verdict_sentence(verdict)}"]
        rows = frame[frame["arm"].isin(verdict.claim.arms) & (frame["metric"] == verdict.claim.metric)]
    else:
        own = frame[frame["arm"] == target.name]
        if own.empty:
            raise unknown_name("arm", target.name, set(frame["arm"]))
        rows = own[own["metric"] == target.metric]
        if rows.empty:
            raise unknown_name("metric", target.metric, set(own["metric"]))
        lines = [f"{target.ablation}:{target.name}:{target.metric} {where}"]
        if not rows["run_key"].isna().all():
            lines += [f"  printed      {mean_text(rows['value'].tolist(), target.metric)}"]
            lines += [f"  of one run   {aggregation(target.metric)}"]
    lines += [f"  signature    {each}" for each in rows["signature"].dropna().unique()] + ["  replicates (runs.csv)"]
    for row in rows.itertuples():
        number = "" if pd.isna(row.replicate) else int(row.replicate)
        lines.append(f"    {number:>3}  {row.value:<12.6g} {row.arm:<12} {'' if pd.isna(row.run_key) else row.run_key}")
    lines += [f"  command      {result.manifest['command']}"]
    lines += [f"  data         fingerprint {result.manifest['data_fingerprint']}"]
    facts = (result.manifest.get("environment") or {}).items()
    lines += [f"  {name:<20} {', '.join(values)}" for name, values in facts if name != "data_fingerprint"]
    return "\n".join([*lines, "  the run folders are not part of the repository: run the command, or pass --work-dir"])


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


def _from_images(study: Study, run_key: str, metric: str) -> tuple[float, int] | None:
    """Put one run's score together again; None where the run stores nothing per image for this metric."""
    if metric in COSTS:
        return None
    table = study.per_image(run_key)
    try:
        return aggregate(table, metric), len(table)
    except GitbenchError:
        return None


def _environment(study: Study, run_keys: Sequence[str]) -> Iterator[str]:
    """Yield the command, and the distinct values of everything that the runs say about revision, packages and machine."""
    plan = study.plan
    yield f"  command      {plan.command}"
    yield f"  data         {plan.data}, fingerprint {plan.data_fingerprint}"
    for name, values in provenance_of(study, run_keys, _FACTS).items():
        yield f"  {name:<20} {', '.join(values)}"
