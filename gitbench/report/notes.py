"""What to know before believing a study's scores of captions (`gitbench.metrics.guards`), each line said once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from gitbench.formats import plural
from gitbench.judge.verdict import CONTRADICT, Verdict
from gitbench.metric_info import display_name
from gitbench.metrics.guards import caption_warnings, margin_warnings, warnings_of_all
from gitbench.spec import Claim
from gitbench.study.makers import Standing
from gitbench.study.store import Study
from gitbench.variants.encoder_init import start_note


def study_notes(study: Study, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return the notes of a study: of missing runs, other code, encoders, machines, captions (blind arms aside) and each
    claim's margin and words.
    """
    contradictions = (
        f"{each.claim.name} is {each.word} by {display_name(each.claim.metric)} and {each.likelihood.word} by likelihood"
        for each in verdicts
        if each.likelihood is not None and each.agreement == CONTRADICT
    )
    margins = (line for verdict in verdicts for line in _margin_notes(verdict))
    of_data = [f"Data: {note}." for note in study.plan.data_notes]
    of_runs = (
        *of_data,
        *_part_notes(study),
        *Standing.of_study(study).lines,
        *_start_notes(study),
        *_machine_notes(study),
    )
    of_captions = (*_encoder_notes(study, verdicts), *_caption_notes(study))
    return (*of_runs, *of_captions, *margins, *contradictions)


def _part_notes(study: Study) -> list[str]:
    """Say that runs of the plan are not there, and how many of which arms are: a report of a part looks like one of all."""
    if not study.missing:
        return []
    planned, there = (
        {arm.name: sum(run.arm == arm.name for run in runs) for arm in study.plan.arms}
        for runs in (study.plan.runs, study.finished)
    )
    counts = ", ".join(f"{arm} {there[arm]} of {count}" for arm, count in planned.items() if count)
    return [f"this is a report of a part of the study: finished are {counts} runs"]


def _start_notes(study: Study) -> list[str]:
    """Say where the base arm's image encoder starts from nothing, unless that is what the study is about."""
    base = next((run for run in study.finished if run.arm == study.plan.base), None)
    record = study.record(base.run_key) if base else None
    if record is None:
        return []
    specs = record["spec"]["variants"]
    note = start_note({axis: spec["source"] for axis, spec in specs.items() if "source" in spec}, study.plan.axis)
    return [] if note is None else [note]


def _machine_notes(study: Study) -> list[str]:
    """Say where runs were made on machines of several kinds: cores or cards."""
    costs = [(study.record(run.run_key) or {}).get("cost", {}) for run in study.finished]
    kinds = Counter(str(cost.get("machine", "unknown")) for cost in costs)
    if len(kinds) < 2:
        return []
    told = ", ".join(f"{plural(count, 'run')} on {kind}" for kind, count in sorted(kinds.items()))
    return [
        f"made on machines of {len(kinds)} kinds ({told}): what arms cost is a mean over these, and a seed gives the same run "
        "bit for bit on one kind alone"
    ]


def own_encoders(study: Study, claim: Claim) -> bool:
    """Tell whether a claim compares arms whose image encoders differ from the start and of which some are pre-trained.

    A recipe of pre-training has one seed, so there is one such encoder, under every seed of an arm.
    """
    keys = {run.arm: run.run_key for run in study.finished}
    records = [study.record(keys[arm]) or {} for arm in claim.compared if arm in keys]
    starts = [{axis: record["spec"]["variants"][axis] for axis in ("encoder", "encoder_init")} for record in records]
    differ = any(start != starts[0] for start in starts)
    return differ and any(start["encoder_init"]["source"] != "random" for start in starts)


def _encoder_notes(study: Study, verdicts: Sequence[Verdict]) -> list[str]:
    """Say which verdicts are about encoders of one pre-training each."""
    names = [each.claim.name for each in verdicts if own_encoders(study, each.claim)]
    if not names:
        return []
    return [
        f"{', '.join(names)}: said of captioners on these encoders, each of which was pre-trained once, where it was; how "
        "much another pre-training would change is in no interval"
    ]


def _caption_notes(study: Study) -> list[str]:
    if study.plan.task not in ("caption", "video"):
        return []
    blind = {arm.name for arm in study.plan.arms if arm.role == "floor"}  # one caption for all images, by design
    said = {
        f"{run.arm} seed {run.replicate}": [
            *caption_warnings({str(row["image_id"]): row["caption"] for row in study.predictions(run.run_key)}),
            *((study.record(run.run_key) or {}).get("warnings") or ()),  # what only its scorer knew
        ]
        for run in study.finished
        if run.arm not in blind
    }
    return warnings_of_all(said, "all runs")


def _margin_notes(verdict: Verdict) -> list[str]:
    own = next(iter(verdict.image_errors.values()), None)  # of the difference itself; of steps and control after it
    if own is None or not verdict.margin:
        return []
    return margin_warnings(math.sqrt(own.covariance[0][0]), own.count, verdict.margin, verdict.claim.name)
