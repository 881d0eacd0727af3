"""A report is a look: seeds that are added or dropped after one do not count as planned."""

import dataclasses

import pytest
from helpers_runs import NAME, make_work_dir

from gitbench.errors import GitbenchError
from gitbench.judge.claims import NOT_TESTABLE
from gitbench.study.interim import Looks, judge_for_report
from gitbench.study.store import Study


def report(work, seeds: int, before: Looks | None = None):
    """Judge for a report the study that would be there with this many seeds: (verdicts, looks)."""
    plan = Study.open(work, NAME).plan
    plan = dataclasses.replace(plan, runs=tuple(run for run in plan.runs if run.replicate < seeds))
    return judge_for_report(plan, Study(work, plan).frame, "grammar", before)


def test_one_report_keeps_the_test_at_a_fixed_number_of_seeds(tmp_path):
    work, looks = make_work_dir(tmp_path, replicates=5, records_only=True), None
    for _ in range(3):  # however often it is made again
        verdicts, looks = report(work, 5, looks)
    assert len(looks.looks) == 1 and not looks.until_decided and looks.counted == 0 and not verdicts[0].sequential
    (claim,) = looks.looks[0].claims
    assert claim.n == 5 and claim.p == claim.p_holm and claim.p_refute_holm is not None
    assert dict(looks.looks[0].seeds) == {"blind": 5, "small": 5, "base": 5, "large": 5}
    study = Study.open(work, NAME)
    study.write_looks(looks)
    assert Study.open(work, NAME).looks == study.looks == looks
    study.looks_path.write_text('{"looks": [{}]}')
    with pytest.raises(GitbenchError, match="delete it only if nobody has seen a verdict"):
        _ = Study.open(work, NAME).looks


def test_reports_at_other_numbers_of_seeds_are_looks(tmp_path):
    work, looks = make_work_dir(tmp_path, replicates=6, records_only=True), None
    for count, seeds in enumerate((4, 5, 6, 4), start=1):  # dropping seeds again is another look
        (verdict,), looks = report(work, seeds, looks)
        assert looks.counted == (0 if count == 1 else count)
    assert verdict.sequential and verdict.looks == 4 and looks.looks[-1].claims[0].p == verdict.p


def test_what_says_nothing_of_a_claim_is_no_look(tmp_path):
    (verdict,), looks = report(
        make_work_dir(tmp_path / "few", replicates=4, records_only=True), 2
    )  # too few for a word
    assert verdict.word == NOT_TESTABLE and looks is None
    gap = make_work_dir(tmp_path / "gap", replicates=4, missing=(("large", 3),), records_only=True)
    assert report(gap, 4)[1] is None
    assert report(make_work_dir(tmp_path / "none", replicates=4, claims=(), records_only=True), 4)[1] is None


def test_a_study_that_ran_until_decided_keeps_its_looks(tmp_path):
    before = Looks(study=NAME)
    assert before.counted == 0  # it has not looked yet
    _, looks = report(make_work_dir(tmp_path, replicates=5, records_only=True), 5, before)
    assert looks.counted == 1 and looks.until_decided
