"""A report is a look: seeds that are added or dropped after one do not count as planned."""

import dataclasses

import pytest
from helpers_runs import make_work_dir

from gitbench.commands.interim_report import note_report
from gitbench.judge import judge_study
from gitbench.judge.claims import NOT_TESTABLE
from gitbench.study.interim import Looks, looks_of, read_looks, write_looks
from gitbench.study.records import Study, build_frame, load_study

NAME = "decoder_size.cpu.scenes"


def study_in(work, seeds: int) -> Study:
    """Return the study as one of this many seeds would be planned."""
    study = load_study(work, "decoder_size", "cpu", "scenes")
    return dataclasses.replace(study, runs=tuple(run for run in study.runs if run.replicate < seeds))


def test_one_report_keeps_the_test_at_a_fixed_number_of_seeds(tmp_path):
    work = make_work_dir(tmp_path, replicates=5, records_only=True)
    for _ in range(3):  # however often it is made again
        looks = note_report(work, study_in(work, 5))
    assert len(looks.looks) == 1 and not looks.until_decided and looks_of(work, NAME) == 0
    (claim,) = looks.looks[0].claims
    assert claim.n == 5 and claim.p == claim.p_holm and claim.p_refute_holm is not None
    assert dict(looks.looks[0].seeds) == {"blind": 5, "small": 5, "base": 5, "large": 5}


def test_reports_at_other_numbers_of_seeds_are_looks(tmp_path):
    work = make_work_dir(tmp_path, replicates=6, records_only=True)
    for count, seeds in enumerate((4, 5, 6, 4), start=1):  # dropping seeds again is another look
        note_report(work, study_in(work, seeds))
        assert looks_of(work, NAME) == (0 if count == 1 else count)
    study = study_in(work, 4)
    verdict = judge_study(study, build_frame(work, [study]), "grammar", looks=looks_of(work, NAME))[0]
    assert verdict.sequential and verdict.looks == 4
    # what the record says of a look is what its report said
    assert read_looks(work, NAME).looks[-1].claims[0].p == pytest.approx(verdict.p, rel=0.2)


def test_what_says_nothing_of_a_claim_is_no_look(tmp_path):
    work = make_work_dir(tmp_path / "few", replicates=4, records_only=True)
    study = study_in(work, 2)  # too few seeds for a word
    assert judge_study(study, build_frame(work, [study]), "grammar")[0].word == NOT_TESTABLE
    assert note_report(work, study) is None and looks_of(work, NAME) == 0
    work = make_work_dir(tmp_path / "gap", replicates=4, missing=(("large", 3),), records_only=True)
    assert note_report(work, study_in(work, 4)) is None
    work = make_work_dir(tmp_path / "none", replicates=4, claims=(), records_only=True)
    assert note_report(work, study_in(work, 4)) is None and not list((work / "studies").glob("*looks*"))


def test_a_study_that_ran_until_decided_keeps_its_looks(tmp_path):
    work = make_work_dir(tmp_path, replicates=5, records_only=True)
    write_looks(work, Looks(study=NAME))
    assert looks_of(work, NAME) == 0  # it has not looked yet
    note_report(work, study_in(work, 5))
    assert looks_of(work, NAME) == 1 and read_looks(work, NAME).until_decided
