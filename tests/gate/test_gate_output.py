"""What a check says: the terminal, Markdown, JUnit, JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers_gate import finding, fine, made_check, red, stale, unmeasured

from gitbench.gate import output, words
from gitbench.gate.outcome import EXITS, REGRESSED, UNMEASURED, Measured, Outcome, judged, overall
from gitbench.gate.run import Check

LOGITS = finding()
CIDER = finding(quantity="CIDEr", part="search", excess=1.84, said="CIDEr is 12 points worse")


def shown(check: Check, capsys: pytest.CaptureFixture) -> list[str]:
    output.show(check)
    return capsys.readouterr().out.splitlines()


# ---- the terminal ------------------------------------------------------------------------------------------------


def test_a_check_in_which_all_is_fine_says_so_in_one_line_with_its_seconds(capsys) -> None:
    lines = shown(made_check(fine("exact"), fine("trajectory")), capsys)
    assert lines[0].split() == ["tier", "status", "seconds", "what", "it", "did"]
    assert lines[1].split(maxsplit=3) == ["exact", "fine", "12", "three values; compared: 3"]
    assert lines[4] == "fine: exact and trajectory, in 71 s"
    assert re.fullmatch(r"reference of exact and trajectory, \d{4}-\d\d-\d\d: made for a test", lines[5])
    assert len(lines) == 6


def test_the_first_failure_is_a_sentence_and_the_others_are_counted(capsys) -> None:
    others = [finding(quantity=f"loss {n}", said=f"loss {n} differs", excess=2.0) for n in range(8)]
    lines = shown(made_check(fine("exact"), red("trajectory", LOGITS, *others), red("quality", CIDER)), capsys)
    assert "regressed: trajectory and quality; fine: exact, in 71 s" in lines
    said = "first: trajectory: logits differ by 3.1e-2, 3e+07 times what is allowed: the likely part is the decoder"
    place = lines.index(said)
    assert lines[place + 1 : place + 7] == [
        "trajectory: 9 quantities (decoder 9) out of band",
        *(f"  loss {n} differs" for n in range(4)),
        "  and 4 others",
    ]
    assert lines[place + 7 : place + 9] == ["quality: 1 quantity (search 1) out of band", "  CIDEr is 12 points worse"]


@pytest.mark.parametrize(
    ("excess", "said"), [(1.84, "1.8 times"), (350.4, "350 times"), (3e7, "3e+07 times"), (1.7e308, "beyond measure")]
)
def test_a_deviation_in_units_of_the_allowed_one(excess: float, said: str) -> None:
    assert words.times(excess).startswith(said)


def test_what_is_beyond_measure_is_not_counted() -> None:
    check = made_check(red("exact", finding(excess=1e12, said="logits: it fails with ValueError")))
    assert (
        words.first_sentence(check) == "first: exact: logits: it fails with ValueError: the likely part is the decoder"
    )


def test_what_is_stale_and_what_record_would_change(capsys) -> None:
    lines = shown(made_check(stale("exact", LOGITS, CIDER), stale("trajectory"), unmeasured("speed")), capsys)
    assert "could not measure: speed; reference stale: exact and trajectory, in 71 s" in lines
    why = "reference stale (numerics version 8, the reference has 7): `gitbench gate record` would change"
    assert f"exact: {why} 2 quantities (decoder 1, search 1)" in lines
    assert f"trajectory: {why} no quantity beyond its band, only what the reference was made of" in lines
    assert any(line.startswith("first: exact, beside a stale reference: logits") for line in lines)
    assert not any("likely part" in line for line in lines)
    assert any(line.endswith("not done after 400 s") for line in lines)


def test_notes_and_what_a_stopped_check_had_done(capsys) -> None:
    resumed = Outcome(**{**vars(fine("exact", notes=("equal to the last bit",))), "resumed": True})
    lines = shown(made_check(resumed, notes=("speed is left out",)), capsys)
    assert "note: speed is left out" in lines and "note: exact: equal to the last bit" in lines
    assert any("(of the check that was stopped)" in line for line in lines)


def test_how_much_was_compared_is_said_once() -> None:
    said = Outcome(tier="exact", status="fine", seconds=1.0, measured=Measured(compared=712, did="712 values compared"))
    assert words.what(said) == "712 values compared"


def test_what_could_not_be_told_is_said(capsys) -> None:
    measured = Measured(compared=7, did="8 quantities", untold=("captioning could not be told",))
    outcome = judged("speed", 300.0, measured, (), ())
    lines = shown(made_check(outcome), capsys)
    assert any(line.endswith("8 quantities; compared: 7; captioning could not be told") for line in lines)
    red = judged("speed", 300.0, dataclasses.replace(measured, findings=(LOGITS,)), (), ())
    assert "note: speed: captioning could not be told" in shown(made_check(red), capsys) and red.status == REGRESSED
    assert outcome.status == UNMEASURED and "; captioning could not be told |" in output.markdown(made_check(outcome))


def test_a_check_without_tiers_could_not_measure(capsys) -> None:
    assert "could not measure, in 71 s" in shown(made_check(), capsys)


def test_a_terminal_shows_text_as_it_is(capsys, monkeypatch) -> None:
    monkeypatch.setattr(output.sys.stdout, "isatty", lambda: True, raising=False)
    text = "\n".join(shown(made_check(red("exact", finding(said="[EOS] is [red]not[/red] predicted"))), capsys))
    assert "three values; compared: 3" in text and "[EOS] is [red]not[/red] predicted" in text


# ---- Markdown ----------------------------------------------------------------------------------------------------


def test_markdown_holds_tables_that_nothing_breaks() -> None:
    nasty = finding(quantity="a|b", value="<b>", said="a|b *is* <b>\nnot c")
    text = output.markdown(made_check(red("exact", nasty), stale("quality", CIDER)))
    assert "## \u274c gitbench gate: regressed" in text and "| exact | \u274c regressed | 12 |" in text
    assert "| a\\|b | decoder | &lt;b> | 1.4 | 3e+07 times |" in text
    assert (
        "**first: exact: a\\|b \\*is\\* &lt;b> not c, 3e+07 times what is allowed: the likely part is the decoder**"
        in text
    )
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5, 6}
    assert "`gitbench gate record` would change 1 quantity" in text


def test_the_smallest_change_that_is_found_is_in_every_output(tmp_path) -> None:
    check = made_check(fine("exact"), fine("speed", finds="training step +14 %"))
    assert output.words.finds(check) == ["speed: training step +14 %"]
    assert "* speed: training step +14 %" in output.markdown(check) and "power of 90 %" not in output.markdown(
        made_check()
    )
    assert "<li>speed: training step +14 %</li>" in output.page(check) and "power" not in output.page(made_check())


def test_many_findings_are_cut_and_counted() -> None:
    many = [finding(quantity=f"loss {n}") for n in range(output.ROWS + 7)]
    text = output.markdown(made_check(red("exact", *many)))
    assert f"loss {output.ROWS - 1} " in text and f"loss {output.ROWS} " not in text
    assert "and 7 more, in gate.json" in text


def test_the_summary_of_a_job_is_added_to(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("# of another step\n")
    check = made_check(fine("exact"))
    output.write_outputs(check, tmp_path / "out")
    assert (tmp_path / "summary.md").read_text() == f"# of another step\n{output.markdown(check)}\n"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none" / "summary.md"))
    assert [file.name for file in output.write_outputs(check, tmp_path / "out")] == [
        "gate.json",
        "gate.md",
        "gate.xml",
        "gate.html",
    ]
    assert "GITHUB_STEP_SUMMARY cannot be written" in capsys.readouterr().err


# ---- JUnit -------------------------------------------------------------------------------------------------------

# junit-10.xsd of Jenkins, the schema that GitLab and the actions of GitHub read too: element -> attributes, of which those
# with a "!" have to be there, and children.
WORDS = (("type", "message"), ())
SCHEMA = {
    "testsuites": (("name", "time", "tests", "failures", "errors"), ("testsuite",)),
    "testsuite": (
        ("name!", "tests!", "failures!", "errors!", "time", "skipped", "timestamp", "hostname", "id", "package"),
        ("testsuite", "properties", "testcase", "system-out", "system-err"),
    ),
    "testcase": (
        ("name!", "time", "classname", "group"),
        ("skipped", "error", "failure", "system-out", "system-err"),
    ),
    **dict.fromkeys(("failure", "error", "skipped"), WORDS),
    "system-out": ((), ()),
}


def faults(element: ElementTree.Element) -> Iterator[str]:
    """Yield what the schema does not allow."""
    attributes, children = SCHEMA[element.tag]
    known = {name.rstrip("!") for name in attributes}
    yield from (f"{element.tag} has {name}" for name in set(element.attrib) - known)
    yield from (f"{element.tag} lacks {n[:-1]}" for n in attributes if n.endswith("!") and n[:-1] not in element.attrib)
    if "time" in element.attrib and not re.fullmatch(r"\d+(\.\d*)?", element.attrib["time"]):
        yield f"{element.tag} has the time {element.attrib['time']}"
    for child in element:
        if child.tag not in children:
            yield f"{element.tag} holds {child.tag}"
        else:
            yield from faults(child)


def suites(check: Check, folder: Path) -> dict[str, ElementTree.Element]:
    """Write a check and read its XML again."""
    output.junit(check).write(folder / "gate.xml", encoding="utf-8", xml_declaration=True)
    root = ElementTree.parse(folder / "gate.xml").getroot()
    assert root.tag == "testsuites" and not list(faults(root))
    return {suite.attrib["name"]: suite for suite in root}


def counts(suite: ElementTree.Element) -> tuple[int, int, int]:
    cases = suite.findall("testcase")
    found = (len(cases), sum(len(case.findall("failure")) for case in cases), len(suite.findall("testcase/error")))
    assert found == tuple(int(suite.attrib[name]) for name in ("tests", "failures", "errors"))
    return found


def test_a_tier_is_a_suite_of_itself_and_of_what_failed(tmp_path) -> None:
    twice = finding(said="logits differ \x1b[31m\x00again")
    found = suites(
        made_check(fine("exact"), red("trajectory", LOGITS, twice), stale("quality", CIDER), unmeasured("speed")),
        tmp_path,
    )
    assert {name: counts(suite) for name, suite in found.items()} == {
        "exact": (1, 0, 0),
        "trajectory": (3, 3, 0),
        "quality": (1, 0, 1),
        "speed": (1, 0, 1),
    }
    cases = found["trajectory"].findall("testcase")
    assert [case.attrib["name"] for case in cases] == ["trajectory", "logits", "logits (2)"]
    assert {case.attrib["classname"] for case in cases} == {"gate.git.trajectory"}
    assert cases[1].find("failure").attrib == {"type": "decoder", "message": "logits differ by 3.1e-2"}
    assert "again" in cases[2].find("failure").attrib["message"]
    assert found["quality"].find("testcase/error").attrib["type"] == "reference stale"
    assert found["speed"].find("testcase/error").attrib["message"] == "not done after 400 s"


def test_the_schema_finds_what_it_does_not_allow() -> None:
    wrong = ElementTree.fromstring(
        '<testsuites><testsuite name="a" tests="1" time="1 s"><case/></testsuite></testsuites>'
    )
    assert set(faults(wrong)) == {
        "testsuite lacks failures",
        "testsuite lacks errors",
        "testsuite has the time 1 s",
        "testsuite holds case",
    }


# ---- JSON --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcomes", [(), (fine("exact"),), (red("exact"), fine("speed")), (stale("exact"),), (unmeasured("speed"),)]
)
def test_json_holds_everything_that_its_docstring_names(outcomes, tmp_path) -> None:
    check = made_check(*outcomes)
    values = json.loads(output.write_outputs(check, tmp_path)[0].read_text())
    assert values["schema"] == 1 and values["status"] == overall(outcomes) and values["exit"] == EXITS[values["status"]]
    assert [each["tier"] for each in values["outcomes"]] == [each.tier for each in outcomes]
    assert set(values["references"]) == set(check.references)
    told = set(re.findall(r"\w+", output.__doc__))
    names = {*values, *(name for each in values["outcomes"] for name in (*each, *(each["measured"] or ())))}
    assert names <= told
