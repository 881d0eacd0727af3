"""Everything one report says, gathered once from a study and its verdicts; tables, figures and page draw from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.formats import digits
from gitbench.judge.sentences import answer
from gitbench.judge.verdict import Verdict
from gitbench.metric_info import FIT, HEADLINE
from gitbench.plan import Plan, PlannedArm
from gitbench.report.deviations import Deviation, deviations
from gitbench.report.gains import EarlyLook, Gains, early_looks, gains_of
from gitbench.report.notes import study_notes
from gitbench.report.origin import Origin
from gitbench.report.paper_table import PaperTable, paper_tables
from gitbench.report.rates import LearningRates
from gitbench.report.reach import Reach, reach_of
from gitbench.report.samples import Pictures, Sample, draw_samples, take_samples
from gitbench.report.tables import Cell, best_arms, cost_names, main_metric, score_names, summarise
from gitbench.report.verdict_details import VerdictDetails, dropped_claims, verdict_details
from gitbench.study.lock import LockDeviation
from gitbench.study.makers import Standing
from gitbench.study.store import Study

_FACTS = ("git_revision", "python", "cpu", "gpus", "data_fingerprint")


@dataclass(frozen=True, kw_only=True)
class View:
    """What a report is made of."""

    study: Study
    plan: Plan
    frame: pd.DataFrame  # one row a value
    table: pd.DataFrame  # one row an arm, in full precision (`tables.summarise`)
    best: Mapping[str, str]  # score -> the arm that is bold, where there is one
    arms: tuple[PlannedArm, ...]  # those with a finished run, the floor first
    verdicts: tuple[Verdict, ...]
    details: tuple[VerdictDetails, ...]  # of each verdict, in its order
    answer: str
    metric: str  # the score that the study is about
    overridden: Mapping[str, tuple[str, ...]]  # run key -> the changed options
    absent: Mapping[str, str]  # metric -> why it was not computed
    curves: pd.DataFrame  # those of all runs (`Study.curve`), with arm and replicate
    samples: tuple[Sample, ...]
    sheet: tuple[Sample, ...]  # test images drawn at random with the base arm's captions; none without images
    provenance: Mapping[str, tuple[str, ...]]
    deviations: tuple[Deviation, ...]
    paper_tables: tuple[PaperTable, ...]
    gains: Gains | None  # of training over its start, where an arm is not trained
    early: tuple[EarlyLook, ...]  # what was said during training
    notes: tuple[str, ...]  # what to know before believing the scores
    dropped: tuple[LockDeviation, ...]  # claims that runs were made under and that nobody states any more
    origin: Origin  # when and under what its runs were made, and what does not verify

    @classmethod
    def of(cls, study: Study, verdicts: Sequence[Verdict], images: Pictures | None = None) -> View:
        """Gather what the report of a study says. Errors: GitbenchError where no run of it is finished."""
        plan, frame = study.plan, study.frame
        if not study.finished:
            asked = f"{plan.ablation} ({plan.profile}, {plan.data})"
            raise GitbenchError(f"no run of {asked} is finished: run `{plan.command}` first")
        records = {run.run_key: study.record(run.run_key) or {} for run in study.finished}
        finished = {run.arm for run in study.finished}
        arms = tuple(sorted((arm for arm in plan.arms if arm.name in finished), key=lambda arm: arm.role != "floor"))
        shown = next((arm for arm in arms if arm.name == plan.base), arms[0])
        metric = main_metric(frame, plan)
        gains = gains_of(study)
        runs = [study.curve(run.run_key).assign(arm=run.arm, replicate=run.replicate) for run in study.finished]
        return cls(
            study=study,
            plan=plan,
            frame=frame,
            table=summarise(frame, plan),
            best=best_arms(frame, plan, study.noise_floors),
            arms=arms,
            verdicts=tuple(verdicts),
            details=verdict_details(study, verdicts),
            answer=gains.said(plan.data) if gains and not verdicts else answer(plan, verdicts),
            metric=metric,
            overridden={key: tuple(each["overridden"]) for key, each in records.items() if each.get("overridden")},
            absent={name: why for each in records.values() for name, why in sorted((each.get("absent") or {}).items())},
            curves=pd.concat(runs, ignore_index=True),
            samples=take_samples(study, arms, metric, images),
            sheet=() if images is None else draw_samples(study, shown, metric, images),
            provenance=provenance_of(study, list(records), _FACTS),
            deviations=_deviations(study, records),
            paper_tables=paper_tables(plan, frame, metric),
            gains=gains,
            early=early_looks(study, plan),
            notes=study_notes(study, verdicts),
            dropped=dropped_claims(study),
            origin=Origin.of(study),
        )

    @property
    def code(self) -> str:
        """By which code its runs were made, in words."""
        return Standing.of(self.origin.makers).said

    @property
    def scores(self) -> list[str]:
        """The scores that a printed table shows; all of them where a study has none of the usual ones."""
        names = score_names(self.frame)
        return [name for name in names if name in HEADLINE] or names

    @property
    def more_scores(self) -> list[str]:
        """The scores that stand in table.csv and in a folded table of the page alone."""
        return [name for name in score_names(self.frame) if name not in (*self.scores, *FIT)]

    @property
    def costs(self) -> list[str]:
        """The cost columns."""
        return cost_names(self.frame)

    @property
    def rows(self) -> list[dict[Any, Any]]:
        """The rows of the table; None where an arm has no value."""
        return self.table.astype(object).where(self.table.notna(), None).to_dict("records")

    @property
    def reach(self) -> Reach:
        """How far each arm got."""
        return reach_of(self.frame, self.plan)

    @property
    def axes(self) -> list[str]:
        """The axes in which the arms differ by label, the ablation's own first; none where a plan holds no such labels."""
        arms = [arm for arm in self.plan.arms if arm.role == "arm"]
        names = dict.fromkeys(axis for arm in arms for axis in arm.labels)
        return [axis for axis in names if len({arm.labels.get(axis) for arm in arms}) > 1]

    @property
    def learning_rates(self) -> LearningRates:
        """What there is to say of the arms' learning rates."""
        return LearningRates.of(self.plan, self.title)

    def title(self, arm: str) -> str:
        """Return what people call an arm: its label; the floor and the ceiling have their names alone."""
        labels = {each.name: each.label for each in self.plan.arms if each.role == "arm"}
        return labels.get(arm) or arm

    @property
    def levels(self) -> list[str]:
        """The labels of the axis that the arms are crossed with, in study order; none where they are crossed with none."""
        crossed = self.plan.crossed_with
        if crossed not in self.axes:
            return []
        return list(dict.fromkeys(arm.labels[crossed] for arm in self.arms if crossed in arm.labels))

    def title_within(self, arm: str) -> str:
        """Return what people call an arm among those of the same level."""
        labels = {} if not self.levels else self.plan.arm(arm).labels
        parts = [label for axis, label in labels.items() if axis != self.plan.crossed_with]
        return ", ".join(parts) or self.title(arm)

    @property
    def titles(self) -> dict[str, str]:
        """Arm -> what people call it, of every arm with a finished run."""
        return {arm.name: self.title(arm.name) for arm in self.arms}

    def places(self, metric: str) -> int:
        """Return the decimals that a score is printed with."""
        return digits(self.table[metric].dropna())

    def cell(self, row: Mapping[str, Any], metric: str) -> Cell:
        """Return the printed score of one of `rows`."""
        mean, high, places = row[metric], row[f"{metric}_high"], self.places(metric)
        if mean is None:
            return Cell()
        half = None if high is None else f"{high - mean:.{places}f}"
        return Cell(text=f"{mean:.{places}f}", half=half, bold=self.best.get(metric) == row["arm"])

    def level(self, role: str) -> float | None:
        """Return the mean of the main metric over the runs of a role: of "floor", or of "ceiling"."""
        found = self.frame.loc[(self.frame["role"] == role) & (self.frame["metric"] == self.metric), "value"].dropna()
        return float(found.mean()) if len(found) else None


def _deviations(study: Study, records: Mapping[str, Any]) -> tuple[Deviation, ...]:
    """Return how the recipe of the runs differs from the paper's. Errors: GitbenchError for a record whose spec is none."""
    try:
        return deviations(record["spec"] for record in records.values())
    except (KeyError, TypeError, ValueError, AttributeError):
        raise GitbenchError(
            f"{study.name}: a record holds no whole spec: `gitbench verify` names it, delete its folder and run again"
        ) from None


def provenance_of(study: Study, run_keys: Sequence[str], facts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return fact -> its distinct values over some runs, as text; "git_dirty" and "package NAME" are added to `facts`."""
    found: dict[str, dict[str, None]] = {}
    for key in run_keys:
        recorded = study.provenance(key)
        values: dict[str, Any] = {name: recorded.get(name) for name in facts}
        values["git_dirty"] = "yes" if recorded.get("git_dirty") else "no"
        values |= {f"package {name}": each for name, each in sorted((recorded.get("packages") or {}).items())}
        for name, value in values.items():
            if value not in (None, "", []):
                found.setdefault(name, {})[str(value)] = None
    return {name: tuple(values) for name, values in found.items()}
