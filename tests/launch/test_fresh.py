"""`gitbench run --fresh`: runs of other code are made again, whatever is killed meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers_honest import reopened
from helpers_makers import OTHER, here, made, made_by, no_findings, study

from gitbench.claim import Claim
from gitbench.launch import fresh
from gitbench.run_folder import RunFolder
from gitbench.study.store import Study

__all__ = ["made", "no_findings", "study"]


def files(folder: RunFolder) -> set[str]:
    return {path.name for path in folder.path.iterdir()}


def folders(study: Study, arm: str) -> list[RunFolder]:
    return [study.folder(run.run_key) for run in study.plan.runs if run.arm == arm]


def test_fresh_clears_the_runs_of_other_code_alone(study: Study) -> None:
    study = made_by(made_by(study, here(code=OTHER)), arm="blind")
    own = [files(each) for each in folders(study, "base")]
    assert fresh.clear(study) == (6, 0)
    assert [files(each) for each in folders(study, "base")] == own
    for each in (*folders(study, "small"), *folders(study, "blind")):
        assert files(each) == {"config.py", "origin.json"} & files(each)
    again = reopened(study)
    assert {run.arm for run in again.missing} == {"small", "blind"} and fresh.clear(again) == (0, 0)


def test_what_was_begun_by_other_code_is_cleared_too(study: Study) -> None:
    study = made_by(study, here(code=OTHER))
    captioned, training, bare = folders(study, "small")
    captioned.record.unlink()
    for name in ("record", "trained", "predictions", "per_image"):
        getattr(training, name).unlink()
    (training.path / "iter_20.pth").write_text("")
    training.tracked.write_text("{}")
    for path in bare.path.iterdir():
        path.unlink()
    bare.track.write_text("{}")  # it was only planned, to be reported to a tracker
    assert fresh.clear(study) == (2, 0)
    assert not training.checkpoints and not captioned.captioned and not training.tracked.exists()


def test_a_run_that_somebody_works_on_is_left(study: Study) -> None:
    study = made_by(study, here(code=OTHER))
    (first, *_), claim = folders(study, "small"), Claim(folders(study, "small")[0].claim)
    assert claim.take()
    before = files(first)
    try:
        assert fresh.clear(study) == (2, 1) and files(first) == before
    finally:
        claim.release()
    assert fresh.clear(study) == (1, 0)


def test_a_kill_at_any_moment_leaves_a_whole_run_or_a_planned_one(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = made_by(study, here(code=OTHER))
    (folder, *_), unlink = folders(study, "small"), Path.unlink
    (folder.path / "20260101_000000").mkdir()
    kept, steps = shutil.copytree(folder.path, folder.path.parent / "kept"), 0

    class Killed(BaseException):
        pass

    while True:
        shutil.rmtree(folder.path)
        shutil.copytree(kept, folder.path)
        left = steps

        def remove(path: Path, missing_ok: bool = False) -> None:
            nonlocal left
            if path.parent == folder.path and "claim" not in path.name:
                if left == 0:
                    raise Killed
                left -= 1
            unlink(path, missing_ok=missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", remove)
            try:
                fresh._cleared(folder)
            except Killed:
                whole = folder.completed_record() is not None
                assert whole == (steps < 2) and (not folder.captioned or steps == 0)
                if folder.predictions.exists():  # what other code left there is still known to be its
                    assert fresh.of_other_code(study)
            else:
                break
        fresh._cleared(folder)
        assert files(folder) <= {"config.py", "origin.json", "provenance.json"} and steps < 20
        steps += 1
    assert steps > 5
