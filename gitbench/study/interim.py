"""How often a study was looked at: the record that `gitbench run --until-decided` and every report keep beside the study.

`studies/<study>.looks.json` holds one entry a look: the seeds of every arm at that moment, and what the judge said of
every claim. A look is a judge call between two batches of `--until-decided`, or a report of the study with another number
of seeds than the one before it (`gitbench.commands.interim_report`). A study that was looked at more than once is judged with
bounds that hold under looking (`gitbench.judge.sequential`), however it is run or reported afterwards: what was seen cannot be
unseen. One report alone changes nothing: the test at a fixed number of seeds is made for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import read_json, write_json

SUFFIX = ".looks.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class ClaimLook:
    """What one look said of one claim: its word, the paired seeds it rests on, and the p-values of the test of that look.

    `p` is that to support it by itself; the other two are adjusted within its family (Holm) and decide.
    """

    claim: str
    word: str
    n: int
    p: float | None = None
    p_holm: float | None = None  # None too in records that are older than the field
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


def looks_file(work_dir: str | Path, study: str) -> Path:
    """Return the file that holds the looks of a study ("<ablation>.<profile>.<data>")."""
    return Path(work_dir) / "studies" / f"{study}{SUFFIX}"


def read_looks(work_dir: str | Path, study: str) -> Looks | None:
    """Return the looks of a study; None where nobody looked yet. Errors: GitbenchError for a damaged file."""
    path = looks_file(work_dir, study)
    if not path.is_file():
        return None
    values = read_json(path)
    try:
        looks = tuple(
            Look(
                seeds={str(arm): int(count) for arm, count in look["seeds"].items()},
                claims=tuple(ClaimLook(**claim) for claim in look["claims"]),
            )
            for look in values["looks"]
        )
        until_decided = bool(values.get("until_decided", True))
        return Looks(study=values["study"], looks=looks, stopped=values["stopped"], until_decided=until_decided)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise GitbenchError(
            f"{path} is damaged: delete it only if nobody has seen a verdict of this study, then run again"
        ) from None


def write_looks(work_dir: str | Path, looks: Looks) -> None:
    """Write the looks of a study, whole or not at all."""
    values: dict[str, Any] = {"schema": SCHEMA, **asdict(looks)}
    write_json(looks_file(work_dir, looks.study), values)


def looks_of(work_dir: str | Path, study: Any) -> int:
    """Return how often a study was looked at while its seeds changed; 0: its test is the one at fixed n.

    `study` is a `Study` or its name.
    """
    name = study if isinstance(study, str) else f"{study.ablation}.{study.profile}.{study.data}"
    found = read_looks(work_dir, name)
    return 0 if found is None else found.counted
