"""Interim looks at a study: how often somebody saw its verdicts while seeds were added or dropped.

A look is a judge call between two batches of `gitbench run --until-decided`, or a report of the study with another number
of seeds than the look before it. Whoever runs 3 seeds, reads the report, runs a fourth, and so on until a claim is
supported, is wrong far more often than once in twenty. So a study that was looked at more than once is judged with bounds
that stay valid under looking (`gitbench.judge.sequential`), however it is run or reported afterwards. One report alone
changes nothing: the test at a fixed number of seeds is made for it.

The looks are kept beside the plan (`Study.looks`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from gitbench.judge.claims import judge_study
from gitbench.judge.verdict import Verdict
from gitbench.spec import Plan


@dataclass(frozen=True, kw_only=True)
class ClaimLook:
    """What one look said of one claim: its word, the paired seeds it rests on, and the p-values of the test of that look.

    `p` is that to support it by itself; the other two are adjusted over the claims of the ablation (Holm) and decide.
    """

    claim: str
    word: str
    n: int
    p: float | None = None
    p_holm: float | None = None
    p_refute_holm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look: seeds by arm, and a line a claim."""

    seeds: Mapping[str, int]
    claims: tuple[ClaimLook, ...]


@dataclass(frozen=True, kw_only=True)
class Looks:
    """All looks of a study in order, and why no more seeds were added ("" while it is under way)."""

    study: str
    looks: tuple[Look, ...] = ()
    stopped: str = ""
    until_decided: bool = True  # False: reports alone have looked

    @property
    def counted(self) -> int:
        """How many looks the test must allow for: 0 where the only one is a report, as planned."""
        return len(self.looks) if self.until_decided or len(self.looks) > 1 else 0

    def with_look(self, seeds: Mapping[str, int], verdicts: Sequence[Verdict] = ()) -> Looks:
        """Add a look; one at the seeds of the last look is that look again."""
        if self.looks and dict(self.looks[-1].seeds) == dict(seeds):
            return self
        fields = ("word", "n", "p", "p_holm", "p_refute_holm")
        lines = (
            ClaimLook(claim=each.claim.name, **{name: getattr(each, name) for name in fields}) for each in verdicts
        )
        return dataclasses.replace(self, looks=(*self.looks, Look(seeds=dict(seeds), claims=tuple(lines))))


def judge_for_report(
    plan: Plan, frame: pd.DataFrame, ceiling_kind: str | None, before: Looks | None
) -> tuple[tuple[Verdict, ...], Looks | None]:
    """Judge a study as a report shows it; return the verdicts, and the looks with this report among them.

    A report that says nothing of any claim (runs missing, too few seeds) is no look.
    """
    looks = before or Looks(study=plan.name, until_decided=False)
    own = frame[~frame["overridden"]].groupby("arm")["replicate"].nunique()
    seeds = {arm.name: int(own.get(arm.name, 0)) for arm in plan.arms}  # finished replicates
    counted = looks.with_look(seeds).counted
    verdicts = judge_study(plan, frame, ceiling_kind, looks=counted)
    if all(each.p is None for each in verdicts):
        earlier = looks.counted
        again = verdicts if earlier == counted else judge_study(plan, frame, ceiling_kind, looks=earlier)
        return tuple(again), before
    return tuple(verdicts), looks.with_look(seeds, verdicts)
