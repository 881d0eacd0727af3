"""What to know before believing a study's scores of captions (`gitbench.metrics.guards`), each line said once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gitbench.judge.verdict import CONTRADICT, Verdict
from gitbench.metric_info import display_name
from gitbench.metrics.guards import margin_warnings, warnings_of_all
from gitbench.study.store import Study
from gitbench.variants.encoder_init import start_note


def study_notes(study: Study, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return the notes of a study: of its runs' captions, blind arms aside, of each claim's margin and of its two words."""
    contradictions = (
        f"{each.claim.name} is {each.word} by {display_name(each.claim.metric)} and {each.likelihood.word} by likelihood"
        for each in verdicts
        if each.likelihood is not None and each.agreement == CONTRADICT
    )
    margins = (line for verdict in verdicts for line in _margin_notes(verdict))
    return (*_start_notes(study), *_caption_notes(study), *margins, *contradictions)


def _start_notes(study: Study) -> list[str]:
    """Say where the base arm's image encoder starts from nothing, unless that is what the study is about."""
    base = next((run for run in study.finished if run.arm == study.plan.base), None)
    record = study.record(base.run_key) if base else None
    if record is None:
        return []
    note = start_note(record["spec"]["variants"]["encoder_init"]["source"], study.plan.axis)
    return [] if note is None else [note]


def _caption_notes(study: Study) -> list[str]:
    if study.plan.task not in ("caption", "video"):
        return []
    blind = {arm.name for arm in study.plan.arms if arm.role == "floor"}  # one caption for all images, by design
    said = {
        f"{run.arm} seed {run.replicate}": {
            str(row["image_id"]): row["caption"] for row in study.predictions(run.run_key)
        }
        for run in study.finished
        if run.arm not in blind
    }
    return warnings_of_all(said, "all runs")


def _margin_notes(verdict: Verdict) -> list[str]:
    own = next(iter(verdict.image_errors.values()), None)  # of the difference itself; of steps and control after it
    if own is None or not verdict.margin:
        return []
    return margin_warnings(math.sqrt(own.covariance[0][0]), own.count, verdict.margin, verdict.claim.name)
