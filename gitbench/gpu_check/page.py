"""The page of a proof, `gpu_check.md`, and all of it as one JSON, made from the results alone. No torch.

results.jsonl     what the checks wrote;  gpu_check.json: the same as one value, which is kept beside the page
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.files import make_dir, write_json, write_text
from gitbench.gpu_check.listing import CHECKS
from gitbench.gpu_check.results import FAILED, MEASURED, NOT_RUN, PASSED, TIMED_OUT, Finding, Result, read
from gitbench.machine import machine_of

RESULTS = "results.jsonl"
PAGE, WHOLE = "gpu_check.md", "gpu_check.json"
NOTHING = "Nothing was proven: no check passed or measured anything"


def write_page(folder: Path) -> Path:
    """Make the page from `results.jsonl` of a folder; returns the page."""
    made, results = read(folder / RESULTS)
    checks = [{**asdict(result), "findings": [asdict(each) for each in result.findings]} for result in results]
    write_json(folder / WHOLE, {**made, "checks": checks})
    write_text(folder / PAGE, page(made, results))
    return folder / PAGE


def publish(folder: Path, reports: Path) -> Path:
    """Put the page of a folder and its JSON under `reports`/gpu/<card>; returns the page there.

    Errors: GitbenchError for the test of the checks on a CPU, which proves nothing of a card.
    """
    made, _ = read(folder / RESULTS)
    if made["card"] is None:
        raise GitbenchError(f"{folder} was made on a CPU and proves nothing of a card: it is not published")
    write_page(folder)
    place = make_dir(reports / "gpu" / machine_of(made["card"], made["cpu_count"]))
    for name in (PAGE, WHOLE):
        shutil.copyfile(folder / name, place / name)
    return place / PAGE


def failed(results: Sequence[Result]) -> list[str]:
    """Return the checks that did not come out well; one that only measures may run out of time."""
    measuring = {check.name for check in CHECKS if not check.judges}
    bad = [result for result in results if result.outcome in (FAILED, TIMED_OUT)]
    return [result.check for result in bad if result.outcome == FAILED or result.check not in measuring]


def proves(results: Sequence[Result]) -> bool:
    """Tell whether any check passed or measured anything."""
    return any(result.outcome in (PASSED, MEASURED) for result in results)


def page(made: dict[str, Any], results: Sequence[Result]) -> str:
    """Return the page as Markdown."""
    return "\n".join(_lines(made, results)) + "\n"


def _lines(made: dict[str, Any], results: Sequence[Result]) -> Iterator[str]:
    card = made["card"]
    yield f"# GPU check: {card or 'tested on a CPU, no card'}"
    yield ""
    yield f"{_verdict(results)} Made by `gitbench gpu-check`; what each check does: docs/gpu_check.md."
    if card is None:
        yield ""
        yield "**No GPU has run this.** It shows that the checks themselves work, with small runs."
    yield ""
    where = [f"driver {made['driver'] or 'not told'}"] if card else []
    where += [f"{made['cpu']}, {made['cpu_count']} cores", made["started"]]
    revision = (made["git_revision"] or "unknown")[:12] + (" with changes" if made["git_dirty"] else "")
    yield f"* {', '.join(where)}; revision {revision}"
    versions = [f"{name} {version}" for name, version in made["versions"].items() if version != "absent"]
    yield f"* {', '.join(versions)}, Python {made['python']}"
    seconds = sum(result.seconds for result in results)
    yield f"* {seconds:.0f} s of {made['budget']:.0f} s"
    yield ""
    yield from _table(("check", "what", "outcome", "s"), list(_summary(made, results)))
    for result in results:
        if result.findings:
            yield ""
            yield f"## {result.check}"
            yield ""
            heads = ("what", "found", "asked", "result")
            yield from _table(heads, [_row(finding) for finding in result.findings])


def _verdict(results: Sequence[Result]) -> str:
    bad, passed = failed(results), [result.check for result in results if result.outcome == PASSED]
    if bad:
        return f"**Failed: {', '.join(bad)}.** Passed: {', '.join(passed) or 'none'}."
    if not proves(results):
        return f"**{NOTHING}.**"
    return f"**Passed: {', '.join(passed) or 'none'}.**"


def _summary(made: dict[str, Any], results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    by_name = {result.check: result for result in results}
    docs = {check.name: check.doc for check in CHECKS} | {
        "scores": "of the captions of resume, made where there is Java"
    }
    for name in dict.fromkeys([*(check.name for check in CHECKS), *by_name]):
        if (result := by_name.get(name)) is None:
            why = "not asked for" if name not in made["asked"] else "not reached"
            yield name, docs.get(name, ""), f"{NOT_RUN}: {why}", ""
            continue
        outcome = result.outcome + (f": {result.said}" if result.said else "")
        bold = result.outcome in (FAILED, TIMED_OUT)
        yield name, docs.get(name, ""), f"**{outcome}**" if bold else outcome, f"{result.seconds:.0f}"


def _row(finding: Finding) -> tuple[str, ...]:
    if finding.absent:
        return finding.what, "", finding.asked, f"{NOT_RUN}: {finding.absent}"
    found = " ".join(filter(None, [_value(finding.value), finding.unit]))
    found += f" ({finding.said})" if finding.said and found else finding.said
    word = {True: PASSED, False: f"**{FAILED}**", None: ""}[finding.passed]
    return finding.what, found, finding.asked, word


def _value(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (heads, ["---"] * len(heads), *rows):
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
