"""What checks find, one JSON line each, in one file that only grows; and what is read from it. No torch.

A finding is judged, or a figure of which nothing is asked, or something that was not run, with the reason. A check that
judged nothing has not passed: it has measured, or was not run.
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError, in_short
from gitbench.files import explain_os_errors

PASSED, FAILED, TIMED_OUT, MEASURED, NOT_RUN = "passed", "failed", "timed out", "measured", "not run"
OUTCOMES = (PASSED, FAILED, TIMED_OUT, MEASURED, NOT_RUN)
NO_CARD = "no card"  # why what needs one was not run

Value = float | int | str | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found. `passed`: None where nothing is asked. `absent`: why it was not run, "" where it was."""

    what: str
    value: Value = None
    unit: str = ""
    asked: str = ""
    passed: bool | None = None
    absent: str = ""
    said: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check: what it found, how it ended, and in how many seconds. `said`: why it found nothing, or no more."""

    check: str
    outcome: str
    seconds: float
    findings: tuple[Finding, ...] = ()
    said: str = ""


class Report:
    """Writes the findings of a check as they are made."""

    def __init__(self, check: str, file: Path) -> None:
        self.check, self.file = check, file

    def figure(self, what: str, value: Value, unit: str = "", said: str = "") -> None:
        """Note a figure of which nothing is asked."""
        self._write(Finding(what=what, value=value, unit=unit, said=said))

    def judge(self, what: str, passed: bool, asked: str, value: Value = None, unit: str = "", said: str = "") -> None:
        """Note something that had to be so: `asked` says what."""
        self._write(Finding(what=what, value=value, unit=unit, asked=asked, passed=bool(passed), said=said))

    def at_most(self, what: str, value: float, limit: float, unit: str = "", said: str = "") -> None:
        """Judge a number that must not be above a limit; one that is no number fails."""
        self.judge(what, value <= limit, f"at most {limit:g}", value, unit, said)

    def at_least(self, what: str, value: float, limit: float, unit: str = "", said: str = "") -> None:
        """Judge a number that must not be below a limit; one that is no number fails."""
        self.judge(what, value >= limit, f"at least {limit:g}", value, unit, said)

    def not_run(self, what: str, why: str) -> None:
        """Note what was not run, and why."""
        self._write(Finding(what=what, absent=why))

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """Let an error within be a failed finding, so that the rest of the check goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self.judge(what, False, "no error", said=in_short(error))

    def _write(self, finding: Finding) -> None:
        append(self.file, {"kind": "finding", "check": self.check, **asdict(finding)})


def append(file: Path, line: dict[str, Any]) -> None:
    """Append a line of JSON, on disk when this returns; numbers that are none become words."""
    plain = {name: str(v) if isinstance(v, float) and not math.isfinite(v) else v for name, v in line.items()}
    with explain_os_errors(file):
        written = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(written, (json.dumps(plain, allow_nan=False) + "\n").encode())
            os.fsync(written)
        finally:
            os.close(written)


def read(file: Path) -> tuple[dict[str, Any], list[Result]]:
    """Read a file back: where it was made, and the results in order; of a check that has no end what it found so far.

    Errors: GitbenchError for a file that is missing or none of these; a last line that was cut off is left out.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise GitbenchError(f"{file} cannot be read ({error.strerror}): pass the folder of a gpu-check") from None
    made: dict[str, Any] = {}
    found: dict[str, list[Finding]] = {}
    ends: dict[str, dict[str, Any]] = {}
    try:
        for line in map(json.loads, text[: text.rfind("\n") + 1].splitlines()):
            kind = line.pop("kind")
            if kind == "made":
                made = line
                continue
            name = line.pop("check")
            found.setdefault(name, [])
            if kind == "finding":
                found[name].append(Finding(**line))
            else:
                ends[name] = line
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GitbenchError(f"{file} is damaged: run gitbench gpu-check again") from None
    if not made:
        raise GitbenchError(f"{file} is no result of gitbench gpu-check: pass the folder that it wrote")
    missing = {"seconds": 0.0, "ended": "stopped", "said": "the machine or the command was stopped in it"}
    return made, [_result(name, findings, ends.get(name, missing)) for name, findings in found.items()]


def is_proof(file: Path) -> bool:
    """Tell whether a file begins as those of `gitbench gpu-check` do."""
    try:
        with open(file, encoding="utf-8") as lines:
            first = json.loads(lines.readline())
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and first.get("kind") == "made" and "asked" in first


def _result(check: str, findings: Sequence[Finding], end: dict[str, Any]) -> Result:
    return Result(
        check=check,
        outcome=outcome(findings, end["ended"]),
        seconds=end["seconds"],
        findings=tuple(findings),
        said=end["said"],
    )


def outcome(findings: Sequence[Finding], ended: str) -> str:
    """Return how a check came out; `ended`: how its process did ("done", "not run", "timed out", else it failed)."""
    if ended == TIMED_OUT:
        return TIMED_OUT
    if ended == NOT_RUN:
        return NOT_RUN
    judged = [finding.passed for finding in findings if finding.passed is not None]
    if ended != "done" or not all(judged) or not findings:
        return FAILED
    if judged:
        return PASSED
    return NOT_RUN if all(finding.absent for finding in findings) else MEASURED
