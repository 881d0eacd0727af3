"""Does a study say what its runs stored, and are its runs the ones that it planned? All that can be told without scoring.

A record says one number a metric; `per_image.parquet` says what it is made of (`gitbench.metrics.aggregate`). A score that
was edited, or taken from another run, disagrees with its images and stops a report. All else that is found is a line of
`findings`, which a report prints: keys, seeds and replicates that do not follow from the plan, files that are not the
ones that a run left, broken chains of records and of looks. `gitbench.study.rescore` goes on from here and scores the
predictions themselves again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.judge.noise import NOISE_ABLATION
from gitbench.metric_info import DESCRIPTIVE
from gitbench.metrics.aggregate import aggregate
from gitbench.run_key import NUMERICS_VERSION, run_key
from gitbench.spec import Plan, PlannedRun, RunSpec
from gitbench.study.lock import claim_forms, seed_root
from gitbench.study.manifest import digest
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
    for part in (_of_plan, _of_runs, _of_equal_runs, _of_manifest, _of_looks, _of_proof):
        try:
            for said in part(study):
                yield said.replace(f"{study.work_dir}/", "")
        except GitbenchError as error:
            yield str(error).replace(f"{study.work_dir}/", "")


def planned_root(plan: Plan) -> str | None:
    """Return what the seeds of a plan's runs derive from; None for a plan of an earlier version."""
    if plan.design == "fixed" and plan.seeds is None:
        return None
    return seed_root(plan.ablation, plan.claim_hashes, plan.design, plan.seeds)


def stated_beforehand(study: Study) -> bool:
    """Tell whether the seeds of every finished run follow from the claims as they stand: then these were stated before."""
    root = planned_root(study.plan)
    records = [study.record(run.run_key) or {} for run in study.finished]
    same = root is not None and all(record["spec"].get("seed_root") == root for record in records)
    return same and not list(_of_plan(study))


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


def _of_plan(study: Study) -> Iterator[str]:
    """Claims that the seeds do not follow from; replicates that are missing, too many, or one run under two numbers."""
    plan = study.plan
    if planned_root(plan) is None:
        yield f"{study.plan_path}: planned by an earlier version of gitbench: its seeds do not follow from its claims"
    stated = {f"{plan.ablation}/{claim.name}": claim_forms(claim, plan.task) for claim in plan.claims}
    for name, forms in stated.items():
        if plan.claim_hashes.get(name) not in forms:
            yield f"{study.plan_path}: claim {name} is not the one that the seeds of the runs follow from"
    if plan.task == "caption":  # other tasks leave claims out
        for name in sorted(set(plan.claim_hashes) - set(stated)):
            yield f"{study.plan_path}: claim {name} was dropped after the runs were planned"
    for arm in plan.arms:
        numbers = sorted(run.replicate for run in plan.runs if run.arm == arm.name)
        count = plan.seeds if plan.design == "fixed" and plan.ablation != NOISE_ABLATION else None
        if numbers != list(range(len(numbers) if count is None else count)):
            wanted = "without a gap" if count is None else f"0 to {count - 1}"
            said = ", ".join(map(str, numbers)) or "none"
            yield f"{study.plan_path}: arm {arm.name} lists the replicates {said}, planned were all {wanted}"
        keys = Counter(run.run_key for run in plan.runs if run.arm == arm.name)
        for key in sorted(key for key, times in keys.items() if times > 1):
            yield f"{study.plan_path}: arm {arm.name} lists the run {key} under {keys[key]} replicate numbers"


def _of_runs(study: Study) -> Iterator[str]:
    """What is wrong with each finished run by itself."""
    whole = _whole(study)
    for run in study.plan.runs:
        try:
            if (record := study.record(run.run_key)) is None:
                continue
            study.curve(run.run_key)
            yield from _wrong_scores(study, run, stored=True)
            for said in (*_of_texts(study, run), *_of_spec(study, run, record, whole), *_of_files(study, run, record)):
                yield f"{_named(run)}: {said}"
        except GitbenchError as error:
            yield str(error)


def _of_texts(study: Study, run: PlannedRun) -> Iterator[str]:
    rows, table = study.predictions(run.run_key), study.per_image(run.run_key)
    record = study.record(run.run_key) or {}
    ids = [str(row["image_id"]) for row in rows]
    if ids != list(map(str, table["image_id"])):
        yield "predictions.jsonl and per_image.parquet are of other images"
    images = len({row.get("image", row["image_id"]) for row in rows})
    if study.plan.test_images not in (None, images) and not record.get("overridden"):
        yield f"predictions.jsonl holds {images} images, planned were {study.plan.test_images}"


def _of_spec(study: Study, run: PlannedRun, record: dict[str, Any], whole: Callable[[RunSpec], bool]) -> Iterator[str]:
    """What its spec says otherwise than its key, the plan or its record."""
    plan, spec = study.plan, run_spec_from_json(record["spec"])
    numerics, data = record.get("numerics"), record.get("data_fingerprint")
    if not isinstance(numerics, int) or not isinstance(data, str):
        yield "its record names no numerics version and data: made by an earlier version of gitbench, or taken out"
        numerics, data = None, plan.data_fingerprint if whole(spec) else None
    if data is not None and run_key(spec, data, numerics) != run.run_key:
        yield "its spec and data do not give its run key: it was changed, or another version made it"
    if whole(spec) and data != plan.data_fingerprint:
        yield "it was made on other data than the study's"
    if spec.replicate != run.replicate:
        yield f"it was made as seed {spec.replicate}: it was renumbered, or paired anew"
    root = planned_root(plan)
    if root is not None and (spec.seed_root != root or record.get("seed_root") != root):
        yield "its seeds do not follow from the claims and the number of seeds of this study"
    if (record.get("overridden") or []) != sorted(spec.cfg_options):
        yield f"its record says that {record.get('overridden') or 'nothing'} was overridden, its spec {sorted(spec.cfg_options)}"
    for axis, name in plan.arm(run.arm).variants.items():
        if (made := spec.variant_names.get(axis)) != name:
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
    for run in study.finished:
        entry = entered.pop((run.arm, run.replicate), None)
        if entry is None:
            yield f"{_named(run)}: {study.manifest_path} has no entry of it"
        elif (entry.run_key, entry.record) != (run.run_key, digest(study.folder(run.run_key).record)):
            yield f"{_named(run)}: record.json is not the one that was entered in {study.manifest_path}: it was changed"
    planned = {(run.arm, run.replicate) for run in study.plan.runs}
    for arm, replicate in sorted(entered):
        if (arm, replicate) in planned or study.plan.design == "fixed":
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
            if stored and metric not in DESCRIPTIVE:
                yield f"{named} {metric} but per_image.parquet stores nothing of it"
            continue
        said = float(entry["value"])
        if math.isnan(again) != math.isnan(said) or abs(again - said) > CLOSE * max(1.0, abs(said)):
            yield f"{named} {metric} {said:.6g} but its per_image.parquet gives {again:.6g}"


def _whole(study: Study) -> Callable[[RunSpec], bool]:
    """Return what tells whether a spec takes all training images of the study, not a part as its arm says."""
    records = [study.folder(run.run_key).read_record() for run in study.unique_runs]
    sizes = [each["spec"].get("data", {}) for each in records if each is not None]
    amounts = [each.get("vocabulary_images") or each.get("train_images") for each in sizes if isinstance(each, dict)]
    known = [each for each in amounts if isinstance(each, int)]
    most = max(known) if known and len(known) == len(amounts) else None
    return lambda spec: spec.data.train_images == most


def _named(run: PlannedRun) -> str:
    return f"{run.arm} seed {run.replicate}"
