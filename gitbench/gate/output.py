"""A check for people and for machines: the terminal's table, Markdown, JUnit XML, JSON; the HTML page is `page.py`.

gate.json, of schema 1:
    status, exit          how the whole check ended, and the exit status of the command
    headline, first       in words; `first` is null where nothing left its band
    setting               what was asked: subject (variants, task, data), device, jobs, base
    revision, machine, began, seconds, notes
    outcomes              a list, by tier: tier, status, seconds, why, by_packages, resumed, and `measured` (null where nothing
                          was): compared, did, untold, finds, notes, details, findings (quantity, part, value, reference, excess,
                          said), the first the likeliest
    references            tier -> made, reason, origin; their values are in their own files
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gitbench.files import atomic_path, make_dir, write_json, write_text
from gitbench.gate import words
from gitbench.gate.outcome import EXITS, FINE, REGRESSED, STALE, UNMEASURED, Finding, Outcome, overall
from gitbench.gate.page import page
from gitbench.gate.reference import machine_class
from gitbench.gate.run import Check

SCHEMA = 1
JSON, MARKDOWN, JUNIT, PAGE = "gate.json", "gate.md", "gate.xml", "gate.html"
SUMMARY = "GITHUB_STEP_SUMMARY"  # names the file of a job's summary, to which steps append
ROWS = 50  # findings of a tier in Markdown, and test cases of a tier in JUnit; the others are counted
_HEADS = ("tier", "status", "seconds", "what it did")
_COLOURS = {FINE: "green", REGRESSED: "bold red", UNMEASURED: "yellow", STALE: "yellow"}
_ICONS = {FINE: "\u2705", REGRESSED: "\u274c", UNMEASURED: "\u26a0\ufe0f", STALE: "\u26a0\ufe0f"}


def write_outputs(check: Check, folder: Path) -> list[Path]:
    """Write gate.json, gate.md, gate.xml and gate.html into a folder and return them; add to the summary of a GitHub job."""
    make_dir(folder)
    text = markdown(check)
    write_json(folder / JSON, as_json(check))
    write_text(folder / MARKDOWN, text)
    with atomic_path(folder / JUNIT) as temporary:
        junit(check).write(temporary, encoding="utf-8", xml_declaration=True)
    write_text(folder / PAGE, page(check))
    if summary := os.environ.get(SUMMARY):
        try:
            with open(summary, "a", encoding="utf-8") as file:
                file.write(f"{text}\n")
        except OSError as error:
            print(
                f"gitbench: ${SUMMARY} cannot be written ({error.strerror}): see {folder / MARKDOWN}", file=sys.stderr
            )
    return [folder / name for name in (JSON, MARKDOWN, JUNIT, PAGE)]


# ---- the terminal ------------------------------------------------------------------------------------------------


def show(check: Check) -> None:
    """Print a check: its table, then what there is to say; in colour, and as wide as it is, where that is a terminal."""
    rows = [(each.tier, each.status, f"{each.seconds:.0f}", words.what(each)) for each in check.outcomes]
    if sys.stdout.isatty():
        _print_rich(rows)
    else:
        widths = [max(map(len, column)) for column in zip(_HEADS, *rows, strict=True)]
        for tier, status, seconds, said in (_HEADS, *rows):
            print(f"{tier:<{widths[0]}}  {status:<{widths[1]}}  {seconds:>{widths[2]}}  {said}")
    print()
    for line in below(check):
        print(line)


def _print_rich(rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in _HEADS:
        table.add_column(
            head, justify="right" if head == "seconds" else "left", no_wrap=head != _HEADS[-1], overflow="fold"
        )
    for tier, status, seconds, said in rows:
        table.add_row(tier, Text(status, style=_COLOURS[status]), seconds, Text(said))
    Console().print(table)


def below(check: Check) -> Iterator[str]:
    """Yield what stands under the table: how it ended, the first failure, the others, what is stale, references, notes."""
    yield words.headline(check)
    if (first := words.first_sentence(check)) is not None:
        yield first
    for outcome in check.outcomes:
        head, *rest = words.others(check, outcome) or [""]
        yield from filter(None, [head, *(f"  {line}" for line in rest)])
        if (said := words.unsettled(outcome)) is not None:
            yield said
    yield from words.references(check)
    yield from (f"note: {note}" for note in words.notes(check))


# ---- Markdown ----------------------------------------------------------------------------------------------------


def markdown(check: Check) -> str:
    """Return a check as Markdown, for a job's summary."""
    return "\n".join(_markdown_lines(check)) + "\n"


def _markdown_lines(check: Check) -> Iterator[str]:
    status = overall(check.outcomes)
    yield f"## {_ICONS[status]} gitbench gate: {status}"
    yield ""
    yield f"{_escaped(words.asked(check))}. {_escaped(words.headline(check))}."
    yield ""
    if (first := words.first_sentence(check)) is not None:
        yield f"**{_escaped(first)}**"
        yield ""
    rows = [
        (each.tier, f"{_ICONS[each.status]} {each.status}", f"{each.seconds:.0f}", words.what(each))
        for each in check.outcomes
    ]
    yield from _markdown_table(_HEADS, rows)
    yield ""
    for outcome in check.outcomes:
        if outcome.measured is not None and outcome.measured.findings:
            yield from _markdown_findings(outcome.tier, outcome.measured.findings)
    if found := words.finds(check):
        yield "<details><summary>The smallest change that each tier finds, with a power of 90 %</summary>"
        yield ""
        yield from (f"* {_escaped(line)}" for line in found)
        yield ""
        yield "</details>"
        yield ""
    stale = [said for each in check.outcomes if (said := words.unsettled(each)) is not None]
    for line in (*stale, *words.references(check), *(f"note: {note}" for note in words.notes(check))):
        yield f"* {_escaped(line)}"


def _markdown_findings(tier: str, findings: Sequence[Finding]) -> Iterator[str]:
    yield f"<details><summary>{tier}: {words.counted(findings)} out of band</summary>"
    yield ""
    heads = ("quantity", "likely part", "here", "reference", "deviation / allowed")
    rows = [
        (each.quantity, each.part, each.value, each.reference, words.times(each.excess)) for each in findings[:ROWS]
    ]
    yield from _markdown_table(heads, rows)
    if len(findings) > ROWS:
        yield ""
        yield f"and {len(findings) - ROWS} more, in {JSON}"
    yield ""
    yield "</details>"
    yield ""


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (heads, ["---"] * len(heads), *([_escaped(cell) for cell in row] for row in rows)):
        yield f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Return text that breaks no cell of a table and is read as no markup, but for `words` in backticks."""
    text = re.sub(r"([\\|*])", r"\\\1", " ".join(text.split()))
    return text.replace("<", "&lt;")


# ---- JUnit -------------------------------------------------------------------------------------------------------


def junit(check: Check) -> ElementTree.ElementTree[ElementTree.Element]:
    """Return a check as JUnit's XML: a suite a tier, a case for the tier and one for each quantity that failed.

    A regressed tier and its quantities are failures. What could not be measured, and a stale reference, are errors: GitLab
    and the usual actions of GitHub show what is skipped as if it were fine.
    """
    root = ElementTree.Element("testsuites", name="gitbench gate")
    for outcome in check.outcomes:
        suite = ElementTree.SubElement(root, "testsuite", name=outcome.tier, timestamp=check.began.rstrip("Z"))
        for case in _cases(check, outcome):
            suite.append(case)
        kinds = Counter(child.tag for case in suite for child in case)
        suite.attrib |= {"tests": str(len(suite)), "failures": str(kinds["failure"]), "errors": str(kinds["error"])}
        suite.attrib |= {"skipped": "0", "time": f"{outcome.seconds:.1f}"}
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, 0)) for suite in root)))
    root.set("time", f"{check.seconds:.1f}")
    return ElementTree.ElementTree(root)


def _cases(check: Check, outcome: Outcome) -> Iterator[ElementTree.Element]:
    place = f"gate.{check.setting.subject.name}.{outcome.tier}"
    case = ElementTree.Element("testcase", name=outcome.tier, classname=place, time=f"{outcome.seconds:.1f}")
    findings = outcome.measured.findings if outcome.measured is not None else ()
    if outcome.status == REGRESSED:
        _add(case, "failure", outcome.status, f"{words.counted(findings)} out of band; the first: {findings[0].said}")
    elif outcome.status != FINE:
        _add(case, "error", outcome.status, words.unsettled(outcome) or "; ".join(outcome.why))
    ElementTree.SubElement(case, "system-out").text = _xml(
        "\n".join([words.what(outcome), *(f.said for f in findings)])
    )
    yield case
    if outcome.status != REGRESSED:
        return
    names = Counter[str]()
    for finding in findings[:ROWS]:
        names[finding.quantity] += 1
        again = f" ({names[finding.quantity]})" if names[finding.quantity] > 1 else ""  # GitLab drops cases of one name
        case = ElementTree.Element("testcase", name=_xml(finding.quantity + again), classname=place, time="0")
        off = f"deviation / allowed: {words.times(finding.excess)}"
        said = f"{finding.said}\nhere {finding.value}, reference {finding.reference}, {off}"
        _add(case, "failure", finding.part, finding.said, said)
        yield case


def _add(case: ElementTree.Element, tag: str, kind: str, message: str, text: str | None = None) -> None:
    ElementTree.SubElement(case, tag, type=kind, message=_xml(message)).text = _xml(text or message)


def _xml(text: str) -> str:
    """Return text without the characters that XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


# ---- JSON --------------------------------------------------------------------------------------------------------


def as_json(check: Check) -> dict[str, Any]:
    """Return a check as plain values; see the module's docstring."""
    status = overall(check.outcomes)
    return {
        "schema": SCHEMA,
        "status": status,
        "exit": EXITS[status],
        "headline": words.headline(check),
        "first": words.first_sentence(check),
        "setting": {name: value for name, value in asdict(check.setting).items() if name not in ("folder", "seconds")},
        "revision": check.revision,
        "machine": machine_class(check.setting.device),
        "began": check.began,
        "seconds": round(check.seconds, 1),
        "notes": list(check.notes),
        "outcomes": [asdict(outcome) for outcome in check.outcomes],
        "references": {
            tier: {"made": each.made, "reason": each.reason, "origin": asdict(each.origin)}
            for tier, each in check.references.items()
        },
    }
