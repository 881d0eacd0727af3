"""Does a study say what its runs stored, and are its runs the ones that it planned? All that can be told without scoring.

A record says one number a metric; `per_image.parquet` says what it is made of (`gitbench.metrics.aggregate`). A score that
was edited, or taken from another run, disagrees with its images and stops a report. All else that is found is a line of
`findings`, which a report prints: keys, seeds and replicates that do not follow from the plan, files that are not the
ones that a run left, broken chains of records and of looks. `gitbench.study.rescore` goes on from here and scores the
predictions themselves again.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.metric_info import DESCRIPTIVE, FIT
from gitbench.metrics.aggregate import aggregate
from gitbench.plan import PlannedRun
from gitbench.run_key import NUMERICS_VERSION
from gitbench.study.evidence import Made, plan_findings, runs_findings
from gitbench.study.manifest import CEILING, digest, entries_of
from gitbench.study.store import Study
from gitbench.variants import run_spec_from_json

CLOSE = 1e-6  # of a score, relative above 1: the same sums in another order differ by 1e-12


def check_records(study: Study) -> None:
    """Raise GitbenchError for the first score that says something else than its images, or for a damaged file."""
    for run in study.unique_runs:
        for said in _wrong_scores(study, run, stored=False):
            raise GitbenchError(f"{said}: delete the folder {study.folder(run.run_key).path} and run again")


def findings(study: Study) -> Iterator[str]:
    """Yield one line for all that is wrong with a study; places are named within its work directory."""
    for part in (lambda study: plan_findings(study.plan), _of_runs, _of_equal_runs, _of_manifest, _of_looks, _of_proof):
        try:
            for said in part(study):
                yield said.replace(f"{study.work_dir}/", "")
        except GitbenchError as error:
            yield str(error).replace(f"{study.work_dir}/", "")


def made_of(study: Study) -> dict[str, Made]:
    """Return how each finished run was made, by its key; without those whose record holds no spec (a finding says so)."""
    found = {}
    for run in study.finished:
        with contextlib.suppress(GitbenchError):
            found[run.run_key] = Made.of(study.record(run.run_key) or {})
    return found


def numerics_of(study: Study) -> tuple[int | None, ...]:
    """Return the numerics versions of the finished runs; None stands for runs that name none."""
    found = {(study.record(run.run_key) or {}).get("numerics") for run in study.finished}
    return tuple(sorted(found, key=lambda version: version or 0))


def moved_on(versions: Sequence[int | None]) -> str:
    """Say that today's code would not give runs of these numerics versions again; "" where it would."""
    if set(versions) <= {NUMERICS_VERSION}:
        return ""
    named = [f"numerics version {each}" for each in versions if each is not None]
    named += ["an earlier numerics version that they do not name"] * (None in versions)
    return f"these runs are of {' and '.join(named)}, this code is at {NUMERICS_VERSION}: today's code would not reproduce them"


def _of_runs(study: Study) -> Iterator[str]:
    """What is wrong with each finished run by itself."""
    made = made_of(study)
    for run in study.plan.runs:
        try:
            if (record := study.record(run.run_key)) is None:
                continue
            yield from _wrong_scores(study, run, stored=True)
            yield from runs_findings(study.plan, [run], made)
            for said in (
                *_of_curve(study, run, record),
                *_of_texts(study, run),
                *_of_spec(study, run, record),
                *_of_files(study, run, record),
            ):
                yield f"{_named(run)}: {said}"
        except GitbenchError as error:
            yield str(error)


def _of_curve(study: Study, run: PlannedRun, record: dict[str, Any]) -> Iterator[str]:
    """A likelihood of the validation images that is not the last one of the curve."""
    curve, said = study.curve(run.run_key), record["metrics"].get("val_nll")
    measured = curve.loc[curve["split"] == "val", "loss"]
    if said is not None and (measured.empty or abs(measured.iloc[-1] - said["value"]) > CLOSE):
        last = "none" if measured.empty else f"{measured.iloc[-1]:.6g}"
        yield f"record.json says val_nll {said['value']:.6g} but the last one of curve.csv is {last}"


def _of_texts(study: Study, run: PlannedRun) -> Iterator[str]:
    rows, table = study.predictions(run.run_key), study.per_image(run.run_key)
    record = study.record(run.run_key) or {}
    ids = [str(row["image_id"]) for row in rows]
    if ids != list(map(str, table["image_id"])):
        yield "predictions.jsonl and per_image.parquet are of other images"
    images = len({row.get("image", row["image_id"]) for row in rows})
    if study.plan.test_images not in (None, images) and not record.get("overridden"):
        yield f"predictions.jsonl holds {images} images, planned were {study.plan.test_images}"


def _of_spec(study: Study, run: PlannedRun, record: dict[str, Any]) -> Iterator[str]:
    """What its spec says otherwise than its record and its arm."""
    plan, spec = study.plan, run_spec_from_json(record["spec"])
    if record.get("seed_root", "") != spec.seed_root:
        yield "its record names other seeds than its spec"
    if (record.get("overridden") or []) != sorted(spec.cfg_options):
        yield f"its record says that {record.get('overridden') or 'nothing'} was overridden, its spec {sorted(spec.cfg_options)}"
    same = [plan.arm(each.arm).variants for each in plan.runs if each.run_key == run.run_key]  # arms that are one run
    for axis, name in plan.arm(run.arm).variants.items():
        if (made := spec.variant_names.get(axis)) not in [variants.get(axis) for variants in same]:
            yield f"it was made with {axis} {made}, the arm has {name}"
    if plan.claim_hashes and not study.provenance(run.run_key).get("claims"):
        yield "its provenance names no claims: nothing says which ones it was made under"
    if (lock := study.provenance(run.run_key).get("claims_lock")) != record.get("claims_lock", lock):
        yield "its provenance names another claims.lock than its record"


def _of_files(study: Study, run: PlannedRun, record: dict[str, Any]) -> Iterator[str]:
    """Files that are not the ones that the run left; a bundle has no config."""
    folder = study.folder(run.run_key)
    if not record.get("files"):
        yield "its record names no hashes of its files: made by an earlier version of gitbench, or taken out"
    for name, hashed in record.get("files", {}).items():
        path = folder.path / name
        if path.name != name or (path.is_file() and digest(path) != hashed):
            yield f"{name} is not the file that the run left (SHA-256): it was changed"
        elif not path.is_file() and path != folder.config:
            yield f"{name} is missing"


def _of_equal_runs(study: Study) -> Iterator[str]:
    """Replicates of one arm with the same predictions, which other seeds do not give: one run under two keys."""
    for arm in study.plan.arms:
        seen: dict[str, PlannedRun] = {}
        for run in study.finished:
            if (
                run.arm != arm.name
                or arm.role == "floor"
                or not (path := study.folder(run.run_key).predictions).is_file()
            ):
                continue
            first = seen.setdefault(digest(path), run)
            if first.replicate != run.replicate:
                yield f"{_named(run)}: its predictions are byte for byte those of seed {first.replicate}"


def _of_manifest(study: Study) -> Iterator[str]:
    """Records that are not those which were entered, and entries that the plan does not list any more."""
    manifest = study.manifest
    if (number := manifest.unchained) is not None:
        yield f"{study.manifest_path}: entry {number} does not follow from the one before it: it was edited"
    entered = {(entry.arm, entry.replicate): entry for entry in manifest.runs}
    records: dict[str, set[str]] = {}
    for entry in manifest.runs:
        records.setdefault(entry.run_key, set()).add(entry.record)
    for now in entries_of(study):
        ceiling = now.arm == CEILING
        named = f"{study.yardstick_path}" if ceiling else f"{now.arm} seed {now.replicate}"
        file = "it" if ceiling else "record.json"
        last = entered.pop((now.arm, now.replicate), None)
        if last is None:
            yield f"{named}: {study.manifest_path} has no entry of it"
        elif (last.run_key, last.record) != (now.run_key, now.record):
            yield f"{named}: {file} is not the one that was entered in {study.manifest_path}: it was changed"
        if len(records.get(now.run_key, ())) > 1:
            yield f"{named}: {study.manifest_path} has several entries of it that differ: it was changed or made again"
    planned = {(run.arm, run.replicate) for run in study.plan.runs}
    for arm, replicate in sorted(entered):
        if (arm, replicate) in planned or arm == CEILING or study.plan.design == "fixed":
            yield f"{arm} seed {replicate}: it was entered in {study.manifest_path} and is gone: it was dropped"


def _of_looks(study: Study) -> Iterator[str]:
    """Looks that were edited, and runs that were started after looks which are not there."""
    looks = study.looks
    if looks is not None and (number := looks.unchained) is not None:
        yield f"{study.looks_path}: look {number} does not follow from the one before it: it was edited"
    hashes = [""] + ([look.hash for look in looks.looks] if looks else [])
    for run in study.finished:
        mark = study.provenance(run.run_key).get("looks") or {"count": 0, "last": ""}
        count = mark.get("count")
        if not isinstance(count, int) or not 0 <= count < len(hashes) or hashes[count] != mark.get("last"):
            said = f"it was started after {count} looks that are not those of {study.looks_path}"
            yield f"{_named(run)}: {said}: they were edited or taken out"


def _of_proof(study: Study) -> Iterator[str]:
    if not study.proven:
        yield (
            f"{study.proof_path} is {'missing' if study.proof is None else 'the proof of other runs'}: run "
            f"`{study.plan.command}` to prove that the arms differ in their axis alone"
        )


def _wrong_scores(study: Study, run: PlannedRun, stored: bool) -> Iterator[str]:
    """Yield a line for every score of a run that its images do not give; `stored`: also where nothing is stored of them."""
    record = study.record(run.run_key)
    if record is None:
        return
    table, named = study.per_image(run.run_key), f"{_named(run)}: record.json says"
    for metric, entry in record["metrics"].items():
        try:
            again = aggregate(table, metric)
        except GitbenchError:
            if stored and metric not in (*DESCRIPTIVE, *FIT):
                yield f"{named} {metric} but per_image.parquet stores nothing of it"
            continue
        said = float(entry["value"])
        if math.isnan(again) != math.isnan(said) or abs(again - said) > CLOSE * max(1.0, abs(said)):
            yield f"{named} {metric} {said:.6g} but its per_image.parquet gives {again:.6g}"


def _named(run: PlannedRun) -> str:
    return f"{run.arm} seed {run.replicate}"
