"""Everything one report says, gathered once from the run folders and handed to tables, figures and page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.judge.claims import Verdict, judge_study
from gitbench.judge.noise import NoiseFloor, load_noise_floor
from gitbench.judge.words import answer
from gitbench.report.deviations import Deviation, deviations
from gitbench.report.paper import paper_claims
from gitbench.report.verdict_details import Evidence, gather_evidence
from gitbench.study.interim import looks_of
from gitbench.study.lock import LockDeviation, lock_deviations
from gitbench.study.proof import Proof, read_proof
from gitbench.study.records import (
    PlannedRun,
    Study,
    StudyArm,
    build_frame,
    load_curves,
    load_per_image,
    load_predictions,
    load_provenance,
    load_record,
    load_study,
    load_yardstick,
)

SAMPLES = 6  # test images whose captions a report shows


@dataclass(frozen=True, kw_only=True)
class SampleCaption:
    """One arm's caption of one image, with its score on that image where there is one."""

    arm: str
    role: str
    text: str
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One test image (or question): its references and every arm's text; `image` is (H, W, 3) uint8 or None."""

    image_id: str
    image: np.ndarray | None
    references: tuple[str, ...]
    captions: tuple[SampleCaption, ...]
    given: str = ""  # the question


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a report is made of."""

    study: Study
    frame: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    answer: str
    yardstick_kind: str | None
    finished: tuple[PlannedRun, ...]
    missing: tuple[PlannedRun, ...]
    overridden: Mapping[str, tuple[str, ...]]  # run key -> the changed options
    absent: Mapping[str, str]  # metric -> why it was not computed
    signatures: Mapping[str, tuple[str, ...]]
    curves: pd.DataFrame  # arm, replicate, iteration, split, loss
    samples: tuple[Sample, ...]
    sample_metric: str | None
    provenance: Mapping[str, tuple[str, ...]]
    deviations: tuple[Deviation, ...]
    paper_claims: pd.DataFrame
    proof: Proof | None  # that the arms differ in one thing
    floors: Mapping[str, NoiseFloor]  # metric -> noise floor; empty: not measured
    evidence: Mapping[str, Evidence]  # claim -> what stands behind it beside its verdict
    dropped: tuple[LockDeviation, ...]  # claims that runs were made under and that nobody states any more
    amounts: Mapping[str, int]  # arm -> its training images; without an arm that takes the whole split


def gather(
    work_dir: str | Path, ablation: str, profile: str, data: str, images: Mapping[Any, np.ndarray] | None = None
) -> Content:
    """Read one study and all it needs; raises GitbenchError when it is missing, damaged, or no run is finished."""
    study = load_study(work_dir, ablation, profile, data)
    frame = build_frame(work_dir, [study])
    records = {run.run_key: load_record(work_dir, run.run_key) for run in study.runs}
    finished = tuple(run for run in study.runs if records[run.run_key] is not None)
    if not finished:
        raise GitbenchError(f"no run of {ablation} ({profile}, {data}) is finished: run `{study.command}` first")
    done = {key: record for key, record in records.items() if record is not None}
    kind = (load_yardstick(work_dir, study) or {}).get("kind")
    verdicts = tuple(judge_study(study, frame, kind, looks=looks_of(work_dir, study)))
    samples, metric = _samples(work_dir, study, finished, images)
    floors = load_noise_floor(work_dir, profile, data)
    return Content(
        study=study,
        frame=frame,
        verdicts=verdicts,
        answer=answer(study, verdicts),
        yardstick_kind=kind,
        finished=finished,
        missing=tuple(run for run in study.runs if records[run.run_key] is None),
        overridden={
            key: tuple(map(str, record["overridden"])) for key, record in done.items() if record.get("overridden")
        },
        absent={name: why for record in done.values() for name, why in sorted((record.get("absent") or {}).items())},
        signatures=_signatures(frame),
        curves=_curves(work_dir, finished),
        samples=samples,
        sample_metric=metric,
        provenance=_provenance(work_dir, finished),
        deviations=tuple(deviations(record.get("spec") or {} for record in done.values())),
        paper_claims=paper_claims(ablation),
        proof=read_proof(work_dir, f"{ablation}.{profile}.{data}"),
        floors=floors,
        evidence=gather_evidence(study, work_dir, verdicts, floors),
        dropped=tuple(each for each in lock_deviations(study, Path(work_dir)) if each.kind == "removed"),
        amounts=_amounts(finished, done),
    )


def arms_in_order(content: Content) -> list[StudyArm]:
    """Return the arms that have a finished run, the floor first, the others as the study lists them."""
    present = {run.arm for run in content.finished}
    return sorted((arm for arm in content.study.arms if arm.name in present), key=lambda arm: arm.role != "floor")


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave overridden runs out of every arm that has others; an arm of nothing else keeps them (and is marked)."""
    clean = frame[~frame["overridden"]]
    return frame[~frame["overridden"] | ~frame["arm"].isin(clean["arm"])]


def _amounts(runs: tuple[PlannedRun, ...], records: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return arm -> training images, as the records' specs say."""
    found = {run.arm: (records[run.run_key].get("spec") or {}).get("data", {}).get("train_images") for run in runs}
    return {arm: int(amount) for arm, amount in found.items() if amount is not None}


def _signatures(frame: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    signed = frame.dropna(subset=["signature"])
    return {metric: tuple(sorted(set(rows["signature"]))) for metric, rows in signed.groupby("metric", sort=False)}


def _curves(work_dir: str | Path, runs: tuple[PlannedRun, ...]) -> pd.DataFrame:
    tables = [
        load_curves(work_dir, run.run_key)[["iteration", "split", "loss"]].assign(arm=run.arm, replicate=run.replicate)
        for run in runs
    ]
    return pd.concat(tables, ignore_index=True)


def _samples(
    work_dir: str | Path, study: Study, runs: tuple[PlannedRun, ...], images: Mapping[Any, np.ndarray] | None
) -> tuple[tuple[Sample, ...], str | None]:
    """Take test images evenly spaced through the split (through those with a picture, where pictures are given).

    Captions are those of each arm's first replicate; no result enters the choice.
    """
    first = {run.arm: run for run in sorted(runs, key=lambda run: -run.replicate)}
    arms = sorted((arm for arm in study.arms if arm.name in first), key=lambda arm: arm.role != "floor")
    metric = study.claims[0].metric if study.claims else "CIDEr"
    captions, scores = {}, {}
    for arm in arms:
        predictions = load_predictions(work_dir, first[arm.name].run_key)
        captions[arm.name] = {str(each["image_id"]): each for each in predictions}
        table = load_per_image(work_dir, first[arm.name].run_key)
        if metric in table:
            scores[arm.name] = dict(zip(table["image_id"].map(str), table[metric], strict=True))
    order = list(captions[arms[0].name])
    if images is not None:
        given = {str(identity) for identity in images}
        first_arm = captions[arms[0].name]
        order = [each for each in order if str(first_arm[each].get("image", each)) in given] or order
    chosen = [order[index] for index in np.linspace(0, len(order) - 1, min(SAMPLES, len(order))).round().astype(int)]
    samples = []
    for identity in chosen:
        shown = [arm for arm in arms if identity in captions[arm.name]]
        entry = captions[arms[0].name][identity]
        samples.append(
            Sample(
                image_id=identity,
                image=_image(images, entry.get("image", entry["image_id"])),
                given=entry.get("prefix", ""),
                references=tuple(entry["references"]),
                captions=tuple(
                    SampleCaption(
                        arm=arm.name,
                        role=arm.role,
                        text=captions[arm.name][identity]["caption"],
                        score=_finite(scores.get(arm.name, {}).get(identity)),
                    )
                    for arm in shown
                ),
            )
        )
    return tuple(samples), metric if scores else None


def _image(images: Mapping[Any, np.ndarray] | None, identity: Any) -> np.ndarray | None:
    """Return the picture as (H, W, 3) uint8; floats in [0, 1] are scaled, grey is repeated."""
    if images is None:
        return None
    found = next((images[key] for key in (identity, str(identity)) if key in images), None)
    if found is None:
        return None
    picture = np.asarray(found)
    if picture.dtype != np.uint8:
        picture = (np.clip(picture, 0.0, 1.0) * 255).round().astype(np.uint8)
    return np.repeat(picture[..., None], 3, axis=-1) if picture.ndim == 2 else picture[..., :3]


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _provenance(work_dir: str | Path, runs: tuple[PlannedRun, ...]) -> dict[str, tuple[str, ...]]:
    """Collect the distinct values over all runs of what `provenance.json` holds, as text."""
    found: dict[str, dict[str, None]] = {}

    def add(name: str, value: Any) -> None:
        if value not in (None, ""):
            found.setdefault(name, {})[str(value)] = None

    for run in runs:
        values = load_provenance(work_dir, run.run_key)
        for name in ("git_revision", "python", "device", "driver", "cpu", "data_fingerprint"):
            add(name, values.get(name))
        add("git_dirty", "yes" if values.get("git_dirty") else "no")
        for package, version in sorted((values.get("packages") or {}).items()):
            add(f"package {package}", version)
    return {name: tuple(values) for name, values in found.items()}
