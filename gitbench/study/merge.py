"""Join work directories that each hold a part of the same studies: what agrees is put together, what does not is refused.

All that decides a verdict must be the same wherever two directories hold it: plans, ceilings, noise floors, and of a run
its predictions, scores and spec. What it cost and where it was made may differ; then the first one's is kept. Nothing is
written before everything has been compared.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gitbench.claim import claimed
from gitbench.errors import GitbenchError
from gitbench.files import atomic_path, read_json
from gitbench.plan import Plan, PlannedRun
from gitbench.run_folder import RunFolder
from gitbench.study.find import check_version
from gitbench.study.interim import Look, Looks
from gitbench.study.manifest import entries_of, file_digests
from gitbench.study.store import Study, existing, open_studies, study_names

DECIDES = ("metrics", "spec", "numerics", "data_fingerprint", "seed_root", "overridden")  # of a record


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A study after the merge, with how many runs came to it, were there before, and are done nowhere."""

    name: str
    copied: int
    found: int
    missing: int


def merge(sources: Sequence[Path], out: Path) -> list[Merged]:
    """Join the studies of `sources` in `out`, which may hold some already; finished runs alone are taken.

    Errors: GitbenchError for what disagrees, or was changed since a study entered it.
    """
    check_version(out)
    there = {study.name: study for study in (open_studies(out) if study_names(out) else [])}
    joined: dict[str, list[Study]] = {name: [study] for name, study in there.items()}
    for source in sources:
        if existing(source).resolve() == out.resolve():
            raise GitbenchError(f"{source} is the work directory to merge into: pass another --work-dir")
        studies = open_studies(source)
        if not studies:
            raise GitbenchError(f"{source} holds no study: pass work directories of `gitbench run`")
        for study in studies:
            joined.setdefault(study.name, []).append(study)
    for parts in joined.values():
        _check(parts)
    return [_joined(name, parts, out) for name, parts in joined.items()]


# ---- comparing ----------------------------------------------------------------------------------------------------------


def _check(parts: Sequence[Study]) -> None:
    """Refuse parts of a study that disagree."""
    for study in parts:
        _check_entered(study)
    first = parts[0]
    for other in parts[1:]:
        if differing := _differing(first.plan, other.plan):
            raise GitbenchError(
                f"{first.name}: {first.work_dir} and {other.work_dir} hold other plans ({', '.join(differing)} differ): "
                "merge parts of one plan, made by the same command"
            )
        for one, two in ((first.yardstick_path, other.yardstick_path), (first.noise_path, other.noise_path)):
            if one.is_file() and two.is_file() and read_json(one) != read_json(two):
                raise GitbenchError(f"{first.name}: {one} and {two} disagree: delete the one that is wrong")
    _looks(parts)
    made: dict[str, Study] = {}
    for study in parts:
        for run in study.unique_runs:
            if study.done(run):
                before = made.setdefault(run.run_key, study)
                _check_equal(before, study, run)


def _check_entered(study: Study) -> None:
    """Refuse runs that are not what their study entered when they were scored: a merged manifest would enter them anew."""
    entered = {(each.arm, each.replicate): each.record for each in study.manifest.runs}
    changed = [
        each for each in entries_of(study) if entered.get((each.arm, each.replicate), each.record) != each.record
    ]
    if study.manifest.unchained is not None or changed:
        raise GitbenchError(
            f"{study.manifest_path} does not list the runs as they are: `gitbench verify {study.plan.ablation} --work-dir "
            f"{study.work_dir}` says more"
        )
    for run in study.unique_runs:
        named = (study.record(run.run_key) or {}).get("files") if study.done(run) else None
        if named and named != file_digests(study.folder(run.run_key)):
            raise GitbenchError(
                f"{study.folder(run.run_key).path} holds other files than its record names: delete it and run again"
            )


def _differing(one: Plan, other: Plan) -> list[str]:
    """Return the fields in which plans differ, but for the command: options that change nothing stand there."""
    names = [field.name for field in dataclasses.fields(Plan) if field.name != "command"]
    return [name for name in names if getattr(one, name) != getattr(other, name)]


def _check_equal(one: Study, other: Study, run: PlannedRun) -> None:
    """Refuse a run that both studies have finished, each with another result."""
    if one is not other and (why := _unequal(one, other, run.run_key)):
        raise GitbenchError(
            f"{one.name}: {run.arm} seed {run.replicate} has other {why} in {one.work_dir} than in {other.work_dir} "
            f"(run {run.run_key}): it was made on another kind of machine, delete one of them"
        )


def _unequal(one: Study, other: Study, key: str) -> str:
    """Return in what two finished runs of one key differ, "" where they agree."""
    records = [study.record(key) or {} for study in (one, other)]
    for name in DECIDES:
        if records[0].get(name) != records[1].get(name):
            return name
    texts = {study.folder(key).predictions.read_bytes() for study in (one, other)}
    return "" if len(texts) == 1 else "predictions"


def _looks(parts: Sequence[Study]) -> Looks | None:
    """Return the looks of a study: the longest of sequences that begin alike, or all in the order of time.

    Errors: GitbenchError where looks that were made apart mean something, since runs were started after them or the
    judge counts them.
    """
    found = sorted((study.looks for study in parts if study.looks), key=lambda looks: len(looks.looks))
    if not found or all(found[-1].looks[: len(each.looks)] == each.looks for each in found):
        return found[-1] if found else None
    after = (
        (study.provenance(run.run_key).get("looks") or {}).get("count") for study in parts for run in study.finished
    )
    if parts[0].plan.design == "sequential" or any(after):
        raise GitbenchError(
            f"{parts[0].name}: the work directories were looked at, each by itself (a report was made), and runs went on "
            "after that: they are no parts of one study any more"
        )
    merged = Looks(study=parts[0].name)
    every: list[Look] = []
    for look in (dataclasses.replace(look, hash="") for looks in found for look in looks.looks):
        every += [look] if look not in every else []
    for look in sorted(every, key=lambda look: look.time):
        chained = dataclasses.replace(look, hash=look.chained(merged.last))
        merged = dataclasses.replace(merged, looks=(*merged.looks, chained))
    return merged


# ---- writing ------------------------------------------------------------------------------------------------------------


def _joined(name: str, parts: Sequence[Study], out: Path) -> Merged:
    """Write a study of several parts; what is there is left."""
    study = Study(out, parts[0].plan)
    study.write_plan()
    looks = _looks(parts)
    if looks is not None and looks != study.looks:
        study.write_looks(looks)
    copied = found = 0
    for run in study.unique_runs:
        if study.done(run):
            found += 1
        elif (source := next((each for each in parts if each.done(run)), None)) is not None:
            if _copy_run(source.folder(run.run_key), study.folder(run.run_key)):
                copied += 1
            else:
                _check_equal(source, Study(out, study.plan), run)
                found += 1
    for part in parts:
        for one, other in ((part.yardstick_path, study.yardstick_path), (part.noise_path, study.noise_path)):
            if one.is_file() and not other.is_file():
                _copy(one, other)
        if part.proven and not Study(out, study.plan).proven:
            _copy(part.proof_path, study.proof_path)
    study = Study.open(out, name)
    study.adopt()
    return Merged(name=name, copied=copied, found=found, missing=len(study.missing))


def _copy_run(source: RunFolder, target: RunFolder) -> bool:
    """Copy the files of a finished run, its record last; returns False where it was finished there meanwhile."""
    names = (
        "config",
        "origin",
        "provenance",
        "log",
        "curve",
        "trained",
        "predictions",
        "weights",
        "tokenizer",
        "per_image",
    )
    with claimed(target.claim):
        if target.completed_record() is not None:
            return False
        for name in (*names, "record"):
            if (file := getattr(source, name)).is_file():
                _copy(file, getattr(target, name))
        target.remove_checkpoints()  # of a training that was not finished here
    return True


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
