"""What stands behind a verdict, line by line: intervals, tests, looks, changed claims, the noise floor."""

import dataclasses

import pytest
from helpers_report import floor_of, judged, study_of
from helpers_runs import CLAIM

from gitbench.report.verdict_details import VerdictDetails, noise_line, verdict_details
from gitbench.study.interim import judge
from gitbench.study.lock import LockDeviation


def test_both_intervals_are_there_with_shares(made):
    details = verdict_details(made.study, judge(made.study))[0]
    lines, crossed = dict(details.lines), details.crossed
    assert crossed.replicates == 5 and crossed.images == 12
    assert crossed.seed_share + crossed.image_share + crossed.rest_share == pytest.approx(1)
    assert "n = 5" in lines["seeds, on these test images"]
    assert f"{100 * crossed.image_share:.0f} % images" in lines["seeds and test images"]
    assert lines["exact sign-flip test"].startswith("p ") and lines["noise floor"].startswith("not measured")


def test_without_images_or_with_few_seeds_it_says_so(tmp_path):
    study = study_of(tmp_path, replicates=3)
    for run in study.plan.runs:
        study.folder(run.run_key).per_image.unlink()
    details = verdict_details(study, judge(study))[0]
    lines = dict(details.lines)
    assert details.crossed is None and lines["seeds and test images"].startswith("not measured")
    assert "fewer than 5 seeds" in lines["exact sign-flip test"]


def test_looks_changes_and_the_number_of_claims_are_listed(tmp_path):
    _, verdicts = judged(tmp_path, claims=(CLAIM, CLAIM | {"name": "again", "reference": "small"}))
    change = LockDeviation(
        name="larger-no-better", what="its margin was 2", when="2026-01-01", kind="changed", runs=3, of=10
    )
    looked = dataclasses.replace(verdicts[0], sequential=True, looks=3, p_sign_flip=None)
    lines = dict(VerdictDetails(verdict=looked, changes=(change,)).lines)
    assert lines["claim as locked beforehand"] == "its margin was 2 (2026-01-01)"
    assert "3 times" in lines["looks"] and "valid under looking" in lines["seeds, on these test images"]
    assert "sequential test" in lines and "under looking" in lines["exact sign-flip test"]
    assert lines["Holm, 2 claims"].startswith("p ")


def test_noise_floor_says_whether_the_difference_reaches_it(tmp_path):
    _, verdicts = judged(tmp_path)
    floor = floor_of(sd=1.0, mde=2.4)
    smallest = floor.mde_at(5)
    near, far = (dataclasses.replace(verdicts[0], difference=share * smallest) for share in (0.9, 1.1))
    assert "does not reach" in noise_line(near, floor) and "does not reach" not in noise_line(far, floor)
    assert "4.0 %" in noise_line(far, floor) and f"{smallest:.2f} points" in noise_line(far, floor)
    gains = dataclasses.replace(far, claim=dataclasses.replace(far.claim, kind="interaction"))
    assert "does not reach" in noise_line(gains, floor)  # four arms: the least detectable effect is larger
