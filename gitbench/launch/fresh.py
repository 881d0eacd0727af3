"""Clear runs that other code made, so that they are made again: `gitbench run --fresh`.

A run is cleared under its claim, by whoever holds it, and in an order in which it is whole or planned at any moment: first
goes what says that it is trained, then its record; last, after all that other code left, what says by whom it was made. So a
kill leaves a run that the next `--fresh` clears to the end.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gitbench.claim import Claim, ClaimLost
from gitbench.files import explain_os_errors, load_json
from gitbench.plan import PlannedRun
from gitbench.run_folder import RunFolder
from gitbench.study.makers import Gave, makers_of, read_found, stands
from gitbench.study.part import Part
from gitbench.study.store import Study


def of_other_code(study: Study, part: Part | None = None) -> list[PlannedRun]:
    """Return the runs of a study, or of a part, of which there is something that today's code may not give again.

    Runs that were begun and are not finished count too: they would go on from there.
    """
    runs = (part.within(study) if part else study).unique_runs
    found = read_found()
    return [run for run in runs if _is_of_others(study.folder(run.run_key), found)]


def clear(study: Study, part: Part | None = None) -> tuple[int, int]:
    """Clear them; returns how many, and how many were left since somebody works on them."""
    cleared = left = 0
    for run in of_other_code(study, part):
        if _cleared(study.folder(run.run_key)):
            cleared += 1
        else:
            left += 1
    return cleared, left


def _is_of_others(folder: RunFolder, found: Sequence[Gave]) -> bool:
    return bool(_made(folder)) and not stands(makers_of(load_json(folder.provenance)), found)


def _made(folder: RunFolder) -> list[Path]:
    """Return what working on a run has left in its folder, but for who did, in the order in which it is to go."""
    planned = {folder.config.name, folder.origin.name, folder.track.name, folder.provenance.name}
    try:
        there = sorted(path for path in folder.path.iterdir() if path.name not in planned and not _is_claim(path.name))
    except FileNotFoundError:
        return []
    first = (folder.trained, folder.record)
    return [*(path for path in first if path in there), *(path for path in there if path not in first)]


def _cleared(folder: RunFolder) -> bool:
    """Clear one run, unless somebody works on it; what another launch made anew meanwhile stays."""
    claim = Claim(folder.claim)
    if not claim.take():
        return False
    try:
        if _is_of_others(folder, read_found()):
            with explain_os_errors(folder.path):
                for path in (*_made(folder), folder.provenance):
                    claim.check()
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return True
    except ClaimLost:
        return False
    finally:
        claim.release()


def _is_claim(name: str) -> bool:
    """Tell whether a file of a run's folder is a claim on it, or one that is being made."""
    return name.removeprefix(".").startswith(f"{RunFolder(Path()).claim.name}.")
