"""Where the words of a study come from, beside its numbers: when claims were locked and runs began, by which numerics
version, what proves that claims came first, and what does not verify. Reports and the board print it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gitbench.study.lock import locked_since, read_lock
from gitbench.study.store import Study
from gitbench.study.verify import findings, moved_on, numerics_of, stated_beforehand


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Of one study. Dates are UTC; "" where nothing says."""

    numerics: tuple[int | None, ...] = ()  # versions of the runs; None: runs that name none
    stated: bool = False  # whether the runs prove that the claims were stated before them
    began: str = ""  # the day on which the first run started
    locked: Mapping[str, str] | None = None  # claim -> the day since which claims.lock has it as it is
    notes: tuple[str, ...] = ()  # what does not verify (`gitbench.study.verify`)

    @classmethod
    def of(cls, study: Study) -> Origin:
        """Gather it from a study."""
        plan, hashes, since = study.plan, read_lock(), locked_since()
        names = {claim.name: f"{plan.ablation}/{claim.name}" for claim in plan.claims}
        kept = {claim: name for claim, name in names.items() if name in hashes}
        same = {claim: name for claim, name in kept.items() if hashes[name] == plan.claim_hashes.get(name)}
        starts = [str(study.provenance(run.run_key).get("started") or "")[:10] for run in study.finished]
        return cls(
            numerics=numerics_of(study),
            stated=stated_beforehand(study),
            began=min(filter(None, starts), default=""),
            locked={claim: since.get(name, "") for claim, name in same.items()},
            notes=_notes(study),
        )

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reader must know: that the code has moved on, and what does not verify."""
        return tuple(filter(None, (moved_on(self.numerics), *self.notes)))

    @property
    def versions(self) -> str:
        """The numerics versions, as text."""
        return ", ".join("none named" if each is None else str(each) for each in self.numerics)

    def line(self, claim: str) -> str:
        """Return "locked 2026-11-24, runs began 2026-11-26, numerics version 6" of one claim."""
        since = (self.locked or {}).get(claim)
        locked = f"locked {since}" if since else "not locked as it is"
        return f"{locked}, runs began {self.began or 'on an unknown day'}, numerics version {self.versions}"


def _notes(study: Study) -> tuple[str, ...]:
    """Return what does not verify; what is said of several runs is one line that names them."""
    alone: list[str] = []
    runs: dict[str, list[str]] = {}
    for finding in findings(study):
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
