"""A report is a look: seeds that are added or dropped after one do not count as planned."""

import pytest
from helpers_judge import CLAIMS, frame_of, pair, plan_of

from gitbench.errors import GitbenchError
from gitbench.judge.verdict import INCOMPLETE, NOT_TESTABLE
from gitbench.study.interim import ClaimLook, Look, Looks, judge_for_report, read_looks, write_looks

PLAN = plan_of(CLAIMS["better"], arms="ad")
NOISE = [-1.0, 0.4, 0.9, -0.5, 0.2, 0.3]


def report(seeds: int, before: Looks | None = None, plan=PLAN):
    """Return what a report of the first seeds says, and the looks after it."""
    return judge_for_report(plan, frame_of(pair(1.0, NOISE[:seeds])), "grammar", before)


def test_one_report_keeps_the_test_at_a_fixed_number_of_seeds():
    looks = None
    for _ in range(3):  # however often it is made again
        (verdict,), looks = report(5, looks)
    assert len(looks.looks) == 1 and not looks.until_decided and looks.counted == 0 and not verdict.sequential
    (claim,) = looks.looks[0].claims
    assert claim.n == 5 and claim.p == claim.p_holm == verdict.p and claim.p_refute_holm is not None
    assert looks.looks[0].seeds == {"a": 5, "d": 5, "blind": 5}


def test_reports_at_other_numbers_of_seeds_are_looks():
    looks = None
    for count, seeds in enumerate((4, 5, 6, 4), start=1):  # dropping seeds again is another look
        (verdict,), looks = report(seeds, looks)
        assert looks.counted == verdict.looks == (0 if count == 1 else count)
        assert verdict.sequential == (count > 1)
        assert looks.looks[-1].claims[0].p == verdict.p  # what the record says of a look is what its report said


def test_what_says_nothing_of_a_claim_is_no_look():
    (verdict,), looks = report(2)  # too few seeds for a word
    assert verdict.word == NOT_TESTABLE and looks is None
    _, before = report(5)
    (verdict,), looks = report(2, before)
    assert looks is before and not verdict.sequential
    (verdict,), looks = report(4, plan=plan_of(CLAIMS["better"], runs=(("d", 4),)))  # a run is missing
    assert verdict.word == INCOMPLETE and looks is None
    assert report(4, plan=plan_of()) == ((), None)


def test_a_study_that_ran_until_decided_keeps_its_looks():
    empty = Looks(study=PLAN.name)
    assert empty.counted == 0  # it has not looked yet
    (verdict,), looks = report(5, empty)
    assert looks.counted == verdict.looks == 1 and looks.until_decided and verdict.sequential


def test_looks_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "a.b.c.looks.json"
    assert read_looks(path) is None
    look = Look(seeds={"base": 3}, claims=(ClaimLook(claim="c", word="SUPPORTED", n=3, p=0.01),))
    written = Looks(study="a.b.c", looks=(look,), stopped="decided")
    write_looks(path, written)
    assert read_looks(path) == written and written.counted == 1
    path.write_text('{"looks": [{}]}')
    with pytest.raises(GitbenchError, match="is damaged"):
        read_looks(path)
