"""Compare the verdicts of a report with a truth that was planted: `python -m gitbench.judge.truth ABLATION.py REPORT`.

An ablation file whose effects are known by construction holds `TRUTH`, claim -> the words that may come out. The
comparison is of the report's own `verdicts.json`, so that everything from the run to the report stands in between.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gitbench.errors import GitbenchError
from gitbench.files import read_json


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a report says of one claim, and what it may say."""

    claim: str
    word: str
    allowed: tuple[str, ...]
    difference: float | None
    interval: tuple[float, float] | None
    n: int
    reason: str

    @property
    def right(self) -> bool:
        """Whether the word is one of those that the truth allows."""
        return self.word in self.allowed


def truth_of(ablation_file: Path) -> Mapping[str, tuple[str, ...]]:
    """Return `TRUTH` of an ablation file; a GitbenchError where it plants none."""
    found = runpy.run_path(str(ablation_file)).get("TRUTH")
    if not isinstance(found, dict):
        raise GitbenchError(f"{ablation_file} plants no TRUTH: see ablations/_truth.py")
    return found


def outcomes(truth: Mapping[str, tuple[str, ...]], report: Path) -> tuple[Outcome, ...]:
    """Return the outcome of every claim of `truth` in a report folder; one without a verdict is a GitbenchError."""
    listed = {each["claim"]["name"]: each for each in read_json(report / "verdicts.json")["verdicts"]}
    if lacking := sorted(set(truth) - set(listed)):
        raise GitbenchError(f"{report} has no verdict on {', '.join(lacking)}: run the ablation with this file again")
    return tuple(
        Outcome(
            claim=name,
            word=listed[name]["word"],
            allowed=tuple(allowed),
            difference=listed[name]["difference"],
            interval=tuple(listed[name]["interval"]) if listed[name]["interval"] else None,
            n=listed[name]["n"],
            reason=listed[name]["reason"],
        )
        for name, allowed in truth.items()
    )


def main(arguments: list[str] | None = None) -> int:
    """Print claim by claim what came out; 0: all as planted, 1: not, 2: it cannot be said."""
    parser = argparse.ArgumentParser(prog="python -m gitbench.judge.truth", description=__doc__)
    parser.add_argument("ablation_file", type=Path, metavar="ABLATION.py")
    parser.add_argument("report", type=Path, metavar="REPORT", help="the folder of the report")
    given = parser.parse_args(arguments)
    try:
        found = outcomes(truth_of(given.ablation_file), given.report)
    except (GitbenchError, OSError) as error:
        print(f"gitbench: {error}", file=sys.stderr)
        return 2
    for each in found:
        measured = "" if each.difference is None else f", difference {each.difference:+.2f}, n = {each.n}"
        wanted = "" if each.right else f" (WRONG: may be {' or '.join(each.allowed)})"
        print(f"{each.claim}: {each.word}{wanted}{measured}: {each.reason}")
    return 0 if all(each.right for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
