"""A report is a look: what it shows of a study is kept, so that seeds added or dropped after it do not count as planned.

Whoever runs 3 seeds, reads the report, and runs a fourth, and so on until a claim is supported, is wrong far more often
than once in twenty. `note_report` is called before every report; the first one of a study is judged by the test at a fixed
number of seeds, those with another number by the one that holds under looking (`gitbench.study.interim`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gitbench.judge.claims import Verdict, judge_study
from gitbench.study.interim import ClaimLook, Look, Looks, read_looks, write_looks
from gitbench.study.records import Study, build_frame, load_yardstick


def look_of(seeds: dict[str, int], verdicts: Sequence[Verdict]) -> Look:
    """Return the record of a look: the seeds by arm, and what was said of every claim."""
    lines = tuple(
        ClaimLook(
            claim=each.claim.name,
            word=each.word,
            n=each.n,
            p=each.p,
            p_holm=each.p_holm,
            p_refute_holm=each.p_refute_holm,
        )
        for each in verdicts
    )
    return Look(seeds=seeds, claims=lines)


def note_report(work_dir: str | Path, study: Study) -> Looks | None:
    """Record that a report of a study is made, where it judges a claim on other seeds than the last look; return the looks.

    A report that says nothing of any claim (runs missing, too few seeds) is no look.
    """
    before = read_looks(work_dir, f"{study.ablation}.{study.profile}.{study.data}")
    if not study.claims:
        return before
    frame = build_frame(work_dir, [study])
    seeds = _seeds(study, frame)
    if before is not None and before.looks and dict(before.looks[-1].seeds) == seeds:
        return before
    looks = before or Looks(study=f"{study.ablation}.{study.profile}.{study.data}", until_decided=False)
    # judged as the report will judge it, this look among the others
    count = dataclasses.replace(looks, looks=(*looks.looks, Look(seeds=seeds, claims=()))).counted
    kind = (load_yardstick(work_dir, study) or {}).get("kind")
    verdicts = judge_study(study, frame, kind, looks=count)
    if all(each.p is None for each in verdicts):
        return before
    looks = dataclasses.replace(looks, looks=(*looks.looks, look_of(seeds, verdicts)))
    write_looks(work_dir, looks)
    return looks


def _seeds(study: Study, frame: pd.DataFrame) -> dict[str, int]:
    """Return the finished replicates of every arm, without those changed by --cfg-options."""
    own = frame[~frame["overridden"]].groupby("arm")["replicate"].nunique()
    return {arm.name: int(own.get(arm.name, 0)) for arm in study.arms}
