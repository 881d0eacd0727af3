"""Clear runs that other code made, so that they are made again: `gitbench run --fresh`.

A run is cleared under its claim, by whoever holds it, and in an order in which it is whole or planned at any moment: first
goes what says that it is trained, then its record; last, after all that other code left, what says by whom it was made. So a
kill leaves a run that the next `--fresh` clears to the end.
"""

from __future__ import annotations

import shutil

from gitbench.claim import Claim, ClaimLost
from gitbench.files import explain_os_errors, load_json
from gitbench.plan import PlannedRun
from gitbench.run_folder import RunFolder
from gitbench.study.makers import makers_of, read_found, stands
from gitbench.study.part import Part
from gitbench.study.store import Study


def of_other_code(study: Study, part: Part | None = None) -> list[PlannedRun]:
    """Return the runs of a study, or of a part, of which there is something that today's code may not give again.

    Runs that were begun and are not finished count too: they would go on from there.
    """
    runs = (part.within(study) if part else study).unique_runs
    return [run for run in runs if _is_of_others(study.folder(run.run_key))]


def clear(study: Study, part: Part | None = None) -> tuple[int, int]:
    """Clear them; returns how many, and how many were left since somebody works on them."""
    cleared = left = 0
    for run in of_other_code(study, part):
        if _cleared(study.folder(run.run_key)):
            cleared += 1
        else:
            left += 1
    return cleared, left


def _is_of_others(folder: RunFolder) -> bool:
    there = folder.record.exists() or folder.trained.exists() or folder.predictions.exists() or folder.checkpoints
    return bool(there) and not stands(makers_of(load_json(folder.provenance)), read_found())


def _cleared(folder: RunFolder) -> bool:
    """Clear one run, unless somebody works on it; what another launch made anew meanwhile stays."""
    claim = Claim(folder.claim)
    if not claim.take():
        return False
    try:
        if _is_of_others(folder):
            kept = (folder.config, folder.origin, folder.trained, folder.record, folder.provenance)
            names = {path.name for path in kept}
            rest = [
                path for path in folder.path.iterdir() if path.name not in names and not _is_claim(folder, path.name)
            ]
            with explain_os_errors(folder.path):
                for path in (folder.trained, folder.record, *rest, folder.provenance):
                    claim.check()
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return True
    except ClaimLost:
        return False
    finally:
        claim.release()


def _is_claim(folder: RunFolder, name: str) -> bool:
    """Tell whether a name is that of a claim on the folder, or of one that is being made."""
    return name.startswith((f"{folder.claim.name}.", f".{folder.claim.name}."))
