"""Where the words of a study come from, beside its numbers: when claims were locked and runs began, by which numerics
version, what proves that claims came first, and what does not verify. Reports and the board print it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gitbench.plan import Plan, PlannedRun
from gitbench.study.evidence import Made, as_locked, lock_findings, plan_findings, runs_findings, stated_beforehand
from gitbench.study.makers import Maker, finished_makers
from gitbench.study.store import Study
from gitbench.study.verify import findings, made_of, moved_on


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Of one study. Dates are UTC; "" where nothing says."""

    numerics: tuple[int | None, ...] = ()  # versions of the runs; None: runs that name none
    stated: bool = False  # whether the runs prove that the claims were stated before them
    began: str = ""  # the day on which the first run started
    locked: Mapping[str, str] | None = None  # claim -> the day since which claims.lock has it as it is
    changed: tuple[str, ...] = ()  # claims that today's claims.lock has otherwise
    notes: tuple[str, ...] = ()  # what does not verify (`gitbench.study.verify`)
    makers: Mapping[str, tuple[Maker, ...]] = field(
        default_factory=dict
    )  # of the runs of this numerics version, by key

    @classmethod
    def of(cls, study: Study) -> Origin:
        """Gather it from a study."""
        starts = [str(study.provenance(run.run_key).get("started") or "")[:10] for run in study.finished]
        began = min(filter(None, starts), default="")
        found = cls.proven(study.plan, study.finished, made_of(study), began, _notes(findings(study)))
        return replace(found, makers=finished_makers(study))

    @classmethod
    def proven(
        cls, plan: Plan, runs: Sequence[PlannedRun], made: Mapping[str, Made], began: str, notes: Sequence[str]
    ) -> Origin:
        """Derive what follows from a plan, its finished runs and how these were made; what does not is added to `notes`."""
        versions = {made[run.run_key].numerics if run.run_key in made else None for run in runs}
        told = _notes((*plan_findings(plan), *runs_findings(plan, runs, made)))
        return cls(
            numerics=tuple(sorted(versions, key=lambda version: version or 0)),
            stated=stated_beforehand(plan, runs, made),
            began=began,
            locked=as_locked(plan),
            changed=lock_findings(plan),
            notes=tuple(dict.fromkeys((*notes, *told))),
        )

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reader must know: that the code has moved on, and what does not verify."""
        return tuple(filter(None, (moved_on(self.numerics), *self.changed, *self.notes)))

    @property
    def versions(self) -> str:
        """The numerics versions, as text."""
        return ", ".join("none named" if each is None else str(each) for each in self.numerics)

    def line(self, claim: str) -> str:
        """Return "locked 2026-11-24, runs began 2026-11-26, numerics version 6" of one claim."""
        since = (self.locked or {}).get(claim)
        locked = f"locked {since}" if since else "not locked as it is"
        return f"{locked}, runs began {self.began or 'on an unknown day'}, numerics version {self.versions}"


def _notes(found: Iterable[str]) -> tuple[str, ...]:
    """Return findings as notes: what is said of several runs is one line that names them."""
    alone: list[str] = []
    runs: dict[str, list[str]] = {}
    for finding in found:
        name, colon, said = finding.partition(": ")
        if colon and " seed " in name:
            runs.setdefault(said, []).append(name)
        else:
            alone.append(finding)
    told = (
        f"{', '.join(names[:4])}{f' and {len(names) - 4} more' * (len(names) > 4)}: {said}"
        for said, names in runs.items()
    )
    return (*alone, *told)
