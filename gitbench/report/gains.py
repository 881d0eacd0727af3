"""Before and after: what training gained over its start on the same test images, and what it said on the way."""

from __future__ import annotations

from dataclasses import dataclass

from gitbench.formats import plural
from gitbench.judge.systems import SystemDifference, compare_systems
from gitbench.metric_info import HEADLINE, display_name, ordered, unit
from gitbench.plan import Plan
from gitbench.report.systems import numbers
from gitbench.report.tables import score_heading
from gitbench.study.store import Study

UNTRAINED = ("steps", "none")  # axis and variant of an arm that is tested as it starts


@dataclass(frozen=True, kw_only=True)
class Gains:
    """The base arm against its own start, by every headline score and by likelihood; the main score first."""

    arm: str
    start: str
    seeds: int
    images: int
    differences: tuple[SystemDifference, ...]

    @property
    def rows(self) -> list[tuple[str, str, str, str, str, str]]:
        """Heading, before, after, difference, its 95 % interval, and the shares of images that went up / tied / went down."""
        printed = [(each, numbers(each)) for each in self.differences]
        return [
            (score_heading(each.metric), said["b"], said["a"], said["difference"], said["interval"], said["shares"])
            for each, said in printed
        ]

    @property
    def scope(self) -> str:
        """Say what the intervals hold for."""
        if self.seeds == 1:
            return "over test images; one seed says nothing of what another training would give"
        return f"over test images and seeds ({self.seeds})"

    def said(self, data: str) -> str:
        """Return the gain by the main score in one sentence."""
        first = self.differences[0]
        found, name = numbers(first), display_name(first.metric)
        return (
            f"On {data}, training took {name} from {found['b']} to {found['a']}: {found['difference']} {unit(first.metric)} "
            f"(95 % interval {found['interval']}, {self.scope}; {plural(self.images, 'test image')})."
        )


def gains_of(study: Study) -> Gains | None:
    """Return what the base arm gained; None where the study has no arm that is not trained, or one of the two is missing."""
    plan, (axis, variant) = study.plan, UNTRAINED
    untrained = [arm.name for arm in plan.arms if arm.variants.get(axis) == variant]
    before = [run.run_key for run in study.finished if run.arm in untrained]
    after = [run.run_key for run in study.finished if run.arm == plan.base]
    if not before or not after or plan.base in untrained:
        return None
    own, start = ([study.per_image(key) for key in keys] for keys in (after, before[:1] * len(after)))
    record = study.record(after[0]) or {}
    names = [name for name in ordered(record["metrics"]) if name in HEADLINE]
    differences = tuple(each for name in names if (each := compare_systems(name, own, start)) is not None)
    if not differences:
        return None
    return Gains(
        arm=plan.base, start=untrained[0], seeds=len(after), images=differences[0].images, differences=differences
    )


@dataclass(frozen=True, kw_only=True)
class EarlyLook:
    """What one run wrote of one validation image at each validation: (iterations done, text)."""

    image_id: str
    question: str
    reference: str
    texts: tuple[tuple[int, str], ...]


def early_looks(study: Study, plan: Plan) -> tuple[EarlyLook, ...]:
    """Return the looks of the base arm's first finished replicate; none where it took none."""
    runs = sorted((run for run in study.finished if run.arm == plan.base), key=lambda run: run.replicate)
    rows = study.early_captions(runs[0].run_key) if runs else []
    found = []
    for image_id in dict.fromkeys(row["image_id"] for row in rows):
        own = [row for row in rows if row["image_id"] == image_id]
        texts = tuple((row["iteration"], row["caption"]) for row in own)
        first = own[0]
        found.append(
            EarlyLook(
                image_id=image_id, question=first.get("prefix", ""), reference=first["references"][0], texts=texts
            )
        )
    return tuple(found)
