"""The model card of an exported captioner: what it is, what it was trained on, what it scores, and what to mind.

Scores and their intervals are those of its run, claims those of the studies that the run belongs to, as they stood when
somebody last looked: a card is no look of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gitbench.data import data_label
from gitbench.data.image_processor import CLIP_MEAN, CLIP_STD, ImageProcessor
from gitbench.files import load_json
from gitbench.formats import digits
from gitbench.judge.crossed import image_statistics, image_values
from gitbench.judge.statistics import t_interval
from gitbench.metric_info import SCORES, display_name, ordered, unit
from gitbench.report.templates import render
from gitbench.run_folder import RunFolder
from gitbench.study.store import Study, open_studies
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What is exported, and in which layout."""

    layout: str  # "huggingface" or "official"
    digest: str  # SHA-256 of the file of weights
    encoder: EncoderSpec
    decoder: DecoderSpec
    tied: bool
    frames: int
    vocab_size: int
    parameters: int
    rule: ImageProcessor  # for photographs
    max_length: int
    length_penalty: float
    beyond_official: tuple[str, ...]  # what of it the official program does not build

    @property
    def photographs(self) -> str:
        """How photographs are prepared, in words."""
        rule, size = self.rule, self.rule.size
        done = "as they are" if size is None else f"short side to {size} pixels"
        if isinstance(size, tuple):
            done = f"resized to {size[0]} x {size[1]} pixels, whatever their aspect"
        if rule.longest is not None:
            done += f", but the long side to {rule.longest} at most"
        cut = "nothing cropped" if rule.crop is None else f"centre of {rule.crop[0]} x {rule.crop[1]} cut out"
        turned = "turned upright by their EXIF tag" if rule.upright else "whatever their EXIF tag says"
        clip = (rule.mean, rule.std) == (CLIP_MEAN, CLIP_STD)
        scaled = "normalised as for CLIP" if clip else f"mean {rule.mean}, standard deviation {rule.std}"
        return ", ".join((turned, done, cut, scaled))


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A score of the run: printed value and 95 % interval over test images ("" where it has none), and its signature."""

    name: str
    value: str
    interval: str
    signature: str


@dataclass(frozen=True, kw_only=True)
class ClaimStatus:
    """A claim about the arm: what the paper says, the word that it last got ("" before any), by how many seeds and when."""

    study: str
    name: str
    says: str
    word: str
    n: int
    when: str


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What is known of a finished run."""

    run_key: str
    arms: tuple[str, ...]  # "study: arm", of every study that it belongs to
    replicate: int
    task: str
    data: str
    fingerprint: str
    splits: Mapping[str, int | None]
    iterations: int
    overridden: tuple[str, ...]
    scores: tuple[Scored, ...]
    absent: Mapping[str, str]
    warnings: tuple[str, ...]
    claims: tuple[ClaimStatus, ...]
    provenance: Mapping[str, Any]

    @classmethod
    def of(cls, folder: RunFolder) -> Trained | None:
        """Gather it; None where the run is not finished. Errors: GitbenchError for a damaged study beside it."""
        record = folder.completed_record()
        if record is None:
            return None
        table = pd.read_parquet(folder.per_image)
        images = table["image" if "image" in table.columns else "image_id"].nunique()
        counts = (load_json(folder.trained) or {}).get("fit_images") or {}
        studies = _studies_of(folder)
        spec = record["spec"]
        return cls(
            run_key=record["run_key"],
            arms=tuple(f"{study.name}: {arm}" for study, arm in studies),
            replicate=spec["replicate"],
            task=spec["task"]["name"],
            data=studies[0][0].plan.data if studies else data_label(spec["data_name"]),
            fingerprint=record.get("data_fingerprint") or "not recorded",
            splits={
                "train": record["cost"].get("training_images"),
                "val": counts.get("val_nll"),
                "test": images,
            },
            iterations=record["train"]["iterations"],
            overridden=tuple(record.get("overridden") or ()),
            scores=tuple(
                _scored(name, record["metrics"][name], table) for name in ordered(record["metrics"]) if name in SCORES
            ),
            absent=record.get("absent") or {},
            warnings=tuple(record.get("warnings") or ()),
            claims=tuple(each for study, arm in studies for each in _claims(study, arm)),
            provenance=load_json(folder.provenance) or {},
        )


def model_card(exported: Exported, trained: Trained | None, license: str, command: str) -> str:
    """Return the README.md of an exported model; `command` is that of the export."""
    return render("model_card.md.j2", model=exported, run=trained, license=license, command=command)


def _studies_of(folder: RunFolder) -> list[tuple[Study, str]]:
    """Return the studies of the run's work directory that it belongs to, with its arm in each."""
    work_dir = folder.path.resolve().parent.parent
    if not (work_dir / "studies").is_dir():
        return []
    return [
        (study, run.arm)
        for study in open_studies(work_dir)
        for run in study.plan.runs
        if run.run_key == folder.path.resolve().name
    ]


def _scored(metric: str, entry: Mapping[str, Any], table: pd.DataFrame) -> Scored:
    """Return a score of a run with its interval over the images of its per-image table."""
    places, interval = digits((entry["value"],)), ""
    parts = image_statistics(table, metric)
    if parts is not None and len(parts) > 1:
        found = t_interval(image_values(parts.to_numpy()[None], metric)[0])
        if found.ends is not None and np.isfinite(found.ends).all():
            interval = " to ".join(f"{round(end, places) + 0.0:.{places}f}" for end in found.ends)  # no "-0.0"
    what = display_name(metric) + ("" if unit(metric) == "points" else f" ({unit(metric)})")
    return Scored(
        name=what, value=f"{entry['value']:.{places}f}", interval=interval, signature=entry.get("signature") or ""
    )


def _claims(study: Study, arm: str) -> list[ClaimStatus]:
    """Return the claims of a study about an arm, as its last look saw them."""
    looks = study.looks.looks if study.looks else ()
    words = {each.claim: each for each in looks[-1].claims} if looks else {}
    return [
        ClaimStatus(
            study=study.name,
            name=claim.name,
            says=claim.says,
            word=words[claim.name].word if claim.name in words else "",
            n=words[claim.name].n if claim.name in words else 0,
            when=looks[-1].time[:10] if claim.name in words else "",
        )
        for claim in study.plan.claims
        if arm in claim.arms
    ]
