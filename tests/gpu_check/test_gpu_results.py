"""What a check came out as, what is read back of a file that was cut off, and the page that it becomes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_errors import refused

from gitbench.gpu_check.listing import BUDGET, CHECKS, chosen, deadlines
from gitbench.gpu_check.page import PAGE, WHOLE, failed, proves, publish, write_page
from gitbench.gpu_check.results import (
    FAILED,
    MEASURED,
    NOT_RUN,
    PASSED,
    TIMED_OUT,
    Finding,
    Report,
    Result,
    append,
    outcome,
    read,
)

MADE = {
    "kind": "made", "device": "cuda", "card": "NVIDIA H100 80GB HBM3", "driver": "580.1", "cpu": "a processor", "cpu_count": 16,
    "started": "2026-01-01T00:00:00Z", "git_revision": "0123456789abcdef", "git_dirty": False, "python": "3.12.3",
    "versions": {"torch": "2.15.0", "timm": "absent"}, "budget": 480.0, "asked": ["card", "repeat", "arms", "uuid"],
}  # fmt: skip
GOOD, BAD = Finding(what="a", passed=True), Finding(what="b", passed=False)
FIGURE, ABSENT = Finding(what="c", value=1), Finding(what="d", absent="no card")


def end(check: str, ended: str = "done", said: str = "") -> dict:
    return {"kind": "end", "check": check, "ended": ended, "seconds": 2.0, "said": said}


@pytest.mark.parametrize(
    ("findings", "ended", "expected"),
    [
        ([GOOD, FIGURE, ABSENT], "done", PASSED),
        ([GOOD, BAD], "done", FAILED),
        ([GOOD], FAILED, FAILED),  # its process ended with an error
        ([GOOD], TIMED_OUT, TIMED_OUT),
        ([FIGURE, ABSENT], "done", MEASURED),  # nothing was judged: that is no pass
        ([ABSENT], "done", NOT_RUN),
        ([], NOT_RUN, NOT_RUN),
        ([], "done", FAILED),  # a check that found nothing
    ],
)
def test_a_check_passes_if_it_judged_something_and_nothing_failed(findings, ended, expected):
    assert outcome(findings, ended) == expected


def test_a_number_that_is_none_fails_and_is_written_as_a_word(report):
    report.at_most("gap", float("nan"), 1e-4)
    report.at_least("ratio", float("nan"), 4.0)
    report.at_least("enough", 4.0, 4.0)
    assert report.failed == ["gap", "ratio"] and report.passed == ["enough"]
    assert report.found["gap"].value == "nan" and report.found["ratio"].asked == "at least 4"


def test_an_error_in_a_part_of_a_check_is_a_finding_and_the_rest_goes_on(report):
    with report.part("training"):
        raise RuntimeError("no kernel\nimage is available")
    with report.part("captions"):
        report.judge("captions", True, "some")
    assert report.failed == ["training"] and report.passed == ["captions"]
    assert report.found["training"].said == "RuntimeError: no kernel image is available"


def test_of_a_machine_that_went_away_all_is_left_but_the_line_that_was_being_written(tmp_path):
    file = tmp_path / "results.jsonl"
    append(file, MADE)
    Report("card", file).judge("seen", True, "it is")
    append(file, end("card"))
    Report("repeat", file).judge("training", True, "the same bits")
    with open(file, "a") as cut:
        cut.write('{"kind": "finding", "check": "rep')
    _, (card, repeat) = read(file)
    assert card.outcome == PASSED and repeat.outcome == FAILED
    assert [finding.what for finding in repeat.findings] == ["training"] and "stopped" in repeat.said


@pytest.mark.parametrize("text", ["", "{}\n", '{"kind": "made"}\n[1]\n', '{"kind": "end", "check": "a"}\n'])
def test_what_is_no_result_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "results.jsonl").write_text(text)
    with refused("results.jsonl"):
        read(tmp_path / "results.jsonl")
    with refused("cannot be read"):
        read(tmp_path / "none")


# ---- the list ----------------------------------------------------------------------------------------------------


def test_the_shares_of_the_checks_are_the_budget_and_what_one_leaves_over_the_next_ones_have():
    assert sum(check.seconds for check in CHECKS) == BUDGET
    first, second = deadlines(CHECKS[:2], BUDGET / 2)
    assert first == CHECKS[0].seconds / 2 and second == first + CHECKS[1].seconds / 2
    assert deadlines(CHECKS, BUDGET)[-1] == BUDGET


def test_checks_are_chosen_by_name_in_their_own_order():
    assert [check.name for check in chosen(["repeat", "card"])] == ["card", "repeat"]
    assert chosen(None) == CHECKS
    with refused("--only names no check"):
        chosen([])
    with refused("unknown check 'repaet': did you mean 'repeat'?"):
        chosen(["repaet"])


def test_a_check_that_asks_nothing_may_run_out_of_time():
    results = [Result(check=name, outcome=TIMED_OUT, seconds=1.0) for name in ("arms", "compile", "of a plugin")]
    assert failed(results) == ["arms", "of a plugin"]
    assert failed([Result(check="compile", outcome=FAILED, seconds=1.0)]) == ["compile"]


@pytest.mark.parametrize(
    ("outcomes", "right"), [((), False), ((NOT_RUN,), False), ((NOT_RUN, MEASURED), True), ((FAILED, PASSED), True)]
)
def test_a_proof_is_one_if_some_check_passed_or_measured_something(outcomes, right):
    assert proves([Result(check="a", outcome=outcome, seconds=0.0) for outcome in outcomes]) == right


# ---- the page ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    file = tmp_path / "proof" / "results.jsonl"
    file.parent.mkdir()
    append(file, MADE)
    Report("card", file).figure("matrix products", 788.4, "TFLOP/s")
    append(file, end("card"))
    repeat = Report("repeat", file)
    repeat.judge("training | weights", True, "the same bits twice")
    repeat.at_most("captions", 0.5, 0.1, "of them", "why")
    append(file, end("repeat"))
    append(file, end("arms", TIMED_OUT, "not done after 60 s"))
    return file.parent


def test_the_page_tells_from_the_results_alone_what_passed_what_failed_and_what_was_not_run(folder):
    text = write_page(folder).read_text()
    assert text.startswith("# GPU check: NVIDIA H100 80GB HBM3\n") and "**Failed: repeat, arms.** Passed: none." in text
    assert "driver 580.1" in text and "revision 0123456789ab" in text and "torch 2.15.0" in text and "timm" not in text
    assert "| training \\| weights |  | the same bits twice | passed |" in text
    assert "| captions | 0.5 of them (why) | at most 0.1 | **failed** |" in text
    assert "| matrix products | 788.4 TFLOP/s |  |  |" in text
    assert "**timed out: not done after 60 s**" in text
    assert "| uuid | a worker that is given its card by uuid | not run: not reached |" in text
    assert "not run: not asked for" in text  # the others
    whole = json.loads((folder / WHOLE).read_text())
    assert whole["card"] == MADE["card"] and [check["outcome"] for check in whole["checks"]] == [
        MEASURED,
        FAILED,
        TIMED_OUT,
    ]
    assert failed(read(folder / "results.jsonl")[1]) == ["repeat", "arms"]


def test_a_proof_is_published_under_its_card_and_the_test_on_a_cpu_is_not(folder, tmp_path):
    page = publish(folder, tmp_path / "reports")
    assert page == tmp_path / "reports" / "gpu" / "h100-80gb-hbm3" / PAGE
    assert (page.parent / WHOLE).is_file()
    file = folder / "results.jsonl"
    file.write_text(json.dumps({**MADE, "card": None, "device": "cpu"}) + "\n")
    with refused("proves nothing of a card"):
        publish(folder, tmp_path / "reports")
    assert "**No GPU has run this.**" in write_page(folder).read_text()
