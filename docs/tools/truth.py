"""Compare the verdicts of a report with a truth that was planted: `python docs/tools/truth.py ABLATION.py REPORT`.

An ablation file whose effects are known by construction holds `TRUTH`, claim -> the words that may come out. The
comparison is of the report's own `verdicts.json`, so that everything from the run to the report stands in between.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import read_json


def truth_of(ablation_file: Path) -> Mapping[str, Sequence[str]]:
    """Return `TRUTH` of an ablation file; a GitbenchError where it plants none."""
    found = runpy.run_path(str(ablation_file)).get("TRUTH")
    if not isinstance(found, dict):
        raise GitbenchError(f"{ablation_file} plants no TRUTH: see ablations/_truth.py")
    return found


def verdicts_on(truth: Mapping[str, Sequence[str]], report: Path) -> dict[str, dict[str, Any]]:
    """Return claim -> its verdict, as a report folder has it; a claim without one is a GitbenchError."""
    listed = {each["claim"]["name"]: each for each in read_json(report / "verdicts.json")["verdicts"]}
    if lacking := sorted(set(truth) - set(listed)):
        raise GitbenchError(f"{report} has no verdict on {', '.join(lacking)}: run the ablation with this file again")
    return {name: listed[name] for name in truth}


def main(arguments: list[str] | None = None) -> int:
    """Print claim by claim what came out; 0: all as planted, 1: not, 2: it cannot be said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("ablation_file", type=Path, metavar="ABLATION.py")
    parser.add_argument("report", type=Path, metavar="REPORT", help="the folder of the report")
    given = parser.parse_args(arguments)
    try:
        truth = truth_of(given.ablation_file)
        found = verdicts_on(truth, given.report)
    except (GitbenchError, OSError) as error:
        print(f"gitbench: {error}", file=sys.stderr)
        return 2
    wrong = [name for name, verdict in found.items() if verdict["word"] not in truth[name]]
    for name, verdict in found.items():
        wanted = f" (WRONG: may be {' or '.join(truth[name])})" if name in wrong else ""
        difference = verdict["difference"]
        measured = "" if difference is None else f", difference {difference:+.2f}, n = {verdict['n']}"
        print(f"{name}: {verdict['word']}{wanted}{measured}: {verdict['reason']}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
