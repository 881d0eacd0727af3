"""Looks at a study: each time that somebody read its results, with the words that were read. They are kept and chained.

Any command that shows results of a work directory looks: `report`, `publish`, `run` at its end, `explain`, the board, and
`--until-decided` after each batch; so does the report of a bundle that is unpacked into a work directory (else nothing
stays that runs could be added to). A study is fixed or sequential from its first run
(`Plan.design`). A fixed one is judged by the t rules at all its seeds, and another number of seeds is another study on
other seeds; so looking changes nothing. A sequential one is always judged by the test that stays valid under looking
(`gitbench.judge.sequential`).

The looks lie beside the plan (`Study.looks`). Each has a hash over itself and the one before it, and every run that
starts later records how many there were and the last hash: looks that are edited or deleted are then missed
(`gitbench.study.verify`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.claim import claimed
from gitbench.errors import GitbenchError
from gitbench.files import load_json
from gitbench.judge.claims import judge_study
from gitbench.judge.verdict import Verdict
from gitbench.run_key import read_as
from gitbench.study.chain import chained, first_unchained
from gitbench.study.provenance import now

if TYPE_CHECKING:
    from gitbench.study.store import Study


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
    """One look: when (UTC) and by which command, finished seeds by arm, a line a claim, and the hash of the chain so far."""

    time: str
    command: str
    seeds: Mapping[str, int]
    claims: tuple[ClaimLook, ...]
    hash: str = ""

    def chained(self, before: str) -> str:
        """Return the hash that this look has after one of the hash `before`."""
        return chained(self, "hash", before)[:16]


@dataclass(frozen=True, kw_only=True)
class Looks:
    """All looks of a study in order, and why `--until-decided` added no more seeds ("" elsewhere)."""

    study: str
    looks: tuple[Look, ...] = ()
    stopped: str = ""

    @property
    def last(self) -> str:
        """The hash of the last look; "" before the first."""
        return self.looks[-1].hash if self.looks else ""

    @property
    def mark(self) -> dict[str, Any]:
        """What a run records that starts now: how many looks there were, and the last hash."""
        return {"count": len(self.looks), "last": self.last}

    @property
    def unchained(self) -> int | None:
        """The number of the first look, from 1, that is not as it was made; None where all are."""
        return first_unchained(self.looks, "hash")

    def with_look(self, seeds: Mapping[str, int], verdicts: Sequence[Verdict] = (), command: str = "") -> Looks:
        """Add a look; one at the seeds of the last look is that look again."""
        if self.looks and dict(self.looks[-1].seeds) == dict(seeds):
            return self
        fields = ("word", "n", "p", "p_holm", "p_refute_holm")
        lines = (
            ClaimLook(claim=each.claim.name, **{name: getattr(each, name) for name in fields}) for each in verdicts
        )
        look = Look(time=now(), command=command, seeds=dict(seeds), claims=tuple(lines))
        look = dataclasses.replace(look, hash=look.chained(self.last))
        return dataclasses.replace(self, looks=(*self.looks, look))


def read_looks(path: Path) -> Looks | None:
    """Read the looks of a study; None where there are none, or only reports of an earlier version, which count no more.

    Errors: GitbenchError for a damaged file, or looks of an earlier version's `--until-decided`.
    """
    if not path.is_file():
        return None
    values = load_json(path)
    if isinstance(values, dict) and values.get("schema") == 1:
        if values.get("until_decided", True) and values.get("looks"):
            raise GitbenchError(f"{path} was written by an earlier version of gitbench: use that version for the study")
        return None
    return read_as(Looks, path, "delete it only if nobody has seen a verdict of this study, then run again")


def judge(study: Study, command: str = "report") -> tuple[Verdict, ...]:
    """Judge a study for somebody to read, and keep that as a look by this command.

    A study without claims or without a finished run says nothing of any, and is not looked at.
    """
    plan, frame = study.plan, study.frame
    looks = study.looks or Looks(study=plan.name)
    own = frame[~frame["overridden"]].groupby("arm")["replicate"].nunique()
    seeds = {arm.name: int(own.get(arm.name, 0)) for arm in plan.arms}  # finished replicates
    verdicts = verdicts_at(study, looks.with_look(seeds))
    if verdicts and any(seeds.values()) and looks.with_look(seeds, verdicts, command) != looks:
        with claimed(study.looks_path):  # somebody else may look at the same time, and then has looked first
            looks = read_looks(study.looks_path) or Looks(study=plan.name)
            verdicts = verdicts_at(study, looks.with_look(seeds))
            study.write_looks(looks.with_look(seeds, verdicts, command))
    return verdicts


def verdicts_at(study: Study, looks: Looks) -> tuple[Verdict, ...]:
    """Judge a study at the last of these looks, and keep nothing."""
    count = counted(study, looks)
    return tuple(judge_study(study.plan, study.frame, study.yardstick.kind, looks=count, images=study.per_image))


def counted(study: Study, looks: Looks) -> int:
    """Return the looks that the judge allows for: 0 of a fixed study, at least 1 of a sequential one."""
    return max(1, len(looks.looks)) if study.plan.design == "sequential" else 0
