"""What proves that the files of a run are the ones that it left: their hashes in its record, and the records chained.

A record names the SHA-256 of every file of its folder, and the study's manifest lists the records in the order in which
they came to the study, each with a hash over itself and the one before it. So an edited file contradicts its record, an
edited record the manifest, and a dropped or reordered line the chain. The file of the ceiling is entered likewise.
Whoever rewrites all of it is beyond it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gitbench.errors import GitbenchError
from gitbench.run_folder import RunFolder
from gitbench.study.anonymize import without_machine
from gitbench.study.chain import chained, first_unchained

if TYPE_CHECKING:
    from gitbench.study.store import Study

CEILING = "ceiling"  # what stands for the arm in the entry of a yardstick


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run that came to a study: `record` is the digest of its record, `chain` the hash over this and what came before.

    That of the ceiling has the key and the digest of the yardstick's file.
    """

    arm: str
    replicate: int
    run_key: str
    record: str
    chain: str = ""

    def chained(self, before: str) -> str:
        """Return the `chain` that this entry has after one of the chain `before`."""
        return chained(self, "chain", before)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The entries of a study, in the order in which they came."""

    runs: tuple[Entry, ...] = ()

    def with_entries(self, entries: Sequence[Entry]) -> Manifest:
        """Add those that are not listed; a run whose record has changed is listed once more."""
        listed, found = {dataclasses.replace(each, chain="") for each in self.runs}, list(self.runs)
        for entry in entries:
            if entry not in listed:
                found.append(dataclasses.replace(entry, chain=entry.chained(found[-1].chain if found else "")))
        return Manifest(runs=tuple(found))

    @property
    def unchained(self) -> int | None:
        """The number of the first entry, from 1, that is not as it was made; None where all are."""
        return first_unchained(self.runs, "chain")


def entries_of(study: Study, keys: Collection[str] | None = None) -> list[Entry]:
    """Return the entries of the finished runs of a study, of those of `keys` alone, in the plan's order, and of its ceiling."""
    runs = [run for run in study.plan.runs if keys is None or run.run_key in keys]
    paths = [(run, study.folder(run.run_key).record) for run in runs if study.done(run)]
    found = [
        Entry(arm=run.arm, replicate=run.replicate, run_key=run.run_key, record=digest(path)) for run, path in paths
    ]
    key, path = study.plan.yardstick_key, study.yardstick_path
    if key and path.is_file():
        found.append(Entry(arm=CEILING, replicate=0, run_key=key, record=digest(path)))
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a file; of JSON, of its content as a bundle carries it (without paths and program text).

    Errors: GitbenchError for a file that is missing or damaged.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(without_machine(json.loads(content)), sort_keys=True).encode()
    except (OSError, ValueError):
        raise GitbenchError(f"{path} is missing or damaged: delete the folder {path.parent} and run again") from None
    return hashlib.sha256(content).hexdigest()


def file_digests(folder: RunFolder) -> dict[str, str]:
    """Return name -> digest of the files that a finished run leaves beside its record, those that are there."""
    paths = (folder.config, folder.per_image, folder.predictions, folder.curve, folder.provenance)
    return {path.name: digest(path) for path in paths if path.is_file()}
