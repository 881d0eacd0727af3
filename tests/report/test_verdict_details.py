"""What stands behind a verdict, line by line: intervals, tests, looks, changed claims, the noise floor."""

import dataclasses

import pandas as pd
from helpers_report import floor_of, judged, study_of
from helpers_runs import CLAIM

from gitbench.judge.verdict import NOT_TESTABLE
from gitbench.report.board import rows_of_studies, write_board
from gitbench.report.verdict_details import VerdictDetails, noise_line, quoted, verdict_details
from gitbench.study.interim import judge
from gitbench.study.lock import LockDeviation, claim_hash


def test_mean_typical_seed_and_images_are_there(made):
    details = verdict_details(made.study, judge(made.study))[0]
    lines, verdict = dict(details.lines), details.verdict
    assert "n = 5" in lines["mean over seeds"] and "% of what the base arm learned" in lines["mean over seeds"]
    assert f"ahead in {verdict.ahead} of 5 seeds" in lines["typical seed (median)"]
    assert "12 test images" in lines["test images"] and "other test images of this kind" in lines["it is about"]
    assert lines["what is seen"].startswith(verdict.finding) and lines["noise floor"].startswith("not measured")
    assert "large: 0 of 5 seeds collapsed (up to 45 % of seeds may)" in lines["collapsed seeds"]


def test_a_choice_of_the_paper_is_marked_wherever_its_claim_is_quoted(tmp_path):
    """Beside how a quotation is known: in the tables, on the board and by `explain`, which all print its source."""
    study = study_of(tmp_path, replicates=3, claims=(CLAIM | {"choice": True},))
    verdicts = judge(study)
    (claim,) = study.plan.claims  # as its file has it
    plain = dataclasses.replace(claim, choice=False)
    said = "p. 11, as a reader quotes it; a choice of the paper, no measurement of it was found"
    assert said in quoted(claim) and "a choice" not in quoted(plain) and claim_hash(claim) != claim_hash(plain)
    write_board(rows_of_studies([(study, verdicts)]), tmp_path)
    assert all(said in (tmp_path / name).read_text(encoding="utf-8") for name in ("board.html", "board.md"))


def test_without_images_nothing_is_shown(tmp_path):
    study = study_of(tmp_path, replicates=3)
    for run in study.plan.runs:
        path = study.folder(run.run_key).per_image
        pd.read_parquet(path)[["image_id"]].to_parquet(path)
    lines = dict(verdict_details(study, verdicts := judge(study))[0].lines)
    assert verdicts[0].word == NOT_TESTABLE and "keep no CIDEr by image" in verdicts[0].reason
    assert "holds for these alone" in lines["test images"] and "these test images alone" in lines["it is about"]


def test_looks_changes_and_the_number_of_claims_are_listed(tmp_path):
    _, verdicts = judged(tmp_path, claims=(CLAIM, CLAIM | {"name": "again", "reference": "small"}))
    change = LockDeviation(
        name="larger-no-better", what="its margin was 2", when="2026-01-01", kind="changed", runs=3, of=10
    )
    looked = dataclasses.replace(verdicts[0], sequential=True, looks=3)
    lines = dict(VerdictDetails(verdict=looked, changes=(change,)).lines)
    assert lines["the claim since its runs"] == "its margin was 2 (2026-01-01)"
    assert "3 times" in lines["looks"] and "valid under looking" in lines["mean over seeds"]
    assert "sequential test" in lines and lines["Holm, 2 claims"].startswith("to support p ")


def test_noise_floor_says_whether_the_difference_reaches_it(tmp_path):
    _, verdicts = judged(tmp_path)
    floor = floor_of(sd=1.0, mde=2.4)
    smallest = floor.mde_at(5)
    near, far = (dataclasses.replace(verdicts[0], difference=share * smallest) for share in (0.9, 1.1))
    assert "does not reach" in noise_line(near, floor) and "does not reach" not in noise_line(far, floor)
    assert "4.0 %" in noise_line(far, floor) and f"{smallest:.2f} points" in noise_line(far, floor)
    gains = dataclasses.replace(far, claim=dataclasses.replace(far.claim, kind="interaction"))
    assert "does not reach" in noise_line(gains, floor)  # four arms: the least detectable effect is larger
