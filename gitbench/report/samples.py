"""Some test images with what every arm says of them. Their place in the test split or chance chooses them, no result does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gitbench.plan import PlannedArm
from gitbench.study.store import Study

SAMPLES = 6  # test images whose captions a report shows
DRAWN = 16  # test images on the sheet of captions
Pictures = Callable[[Any], np.ndarray]  # image_id -> (H, W, 3) uint8


@dataclass(frozen=True, kw_only=True)
class SampleCaption:
    """One arm's caption of one image, with its score on that image where there is one."""

    arm: str
    text: str
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One test image (or question): its references and every arm's text; `image` is (H, W, 3) uint8 or None."""

    image_id: str
    image: np.ndarray | None
    references: tuple[str, ...]
    captions: tuple[SampleCaption, ...]
    question: str = ""


def take_samples(
    study: Study, arms: tuple[PlannedArm, ...], metric: str, images: Pictures | None
) -> tuple[Sample, ...]:
    """Take test images evenly spaced through the split.

    Captions are those of each arm's first finished replicate; `metric` gives their scores, where it has one per image.
    """
    return _samples(study, arms, metric, images, lambda count: np.linspace(0, count - 1, min(SAMPLES, count)).round())


def draw_samples(study: Study, arm: PlannedArm, metric: str, images: Pictures) -> tuple[Sample, ...]:
    """Draw `DRAWN` test images at random with one arm's captions, as `take_samples`; the data alone seed the draw."""
    chance = chance_of(study.plan.data_fingerprint)
    return _samples(study, (arm,), metric, images, lambda count: chance.permutation(count)[:DRAWN])


def chance_of(fingerprint: str) -> np.random.Generator:
    """Return the random numbers by which images of data are drawn: the data alone seed them."""
    return np.random.default_rng(int(hashlib.sha256(fingerprint.encode()).hexdigest(), 16))


def _samples(
    study: Study,
    arms: tuple[PlannedArm, ...],
    metric: str,
    images: Pictures | None,
    choose: Callable[[int], np.ndarray],
) -> tuple[Sample, ...]:
    """Take the test images that `choose` names of so many."""
    first = {run.arm: run.run_key for run in sorted(study.finished, key=lambda run: -run.replicate)}
    captions = {arm.name: {str(each["image_id"]): each for each in study.predictions(first[arm.name])} for arm in arms}
    scores = {arm.name: image_scores(study.per_image(first[arm.name]), metric) for arm in arms}
    order = list(captions[arms[0].name])
    return tuple(sample_of(order[index], captions, scores, images) for index in choose(len(order)).astype(int))


def sample_of(
    identity: str,
    captions: Mapping[str, Mapping[str, Mapping[str, Any]]],
    scores: Mapping[str, Mapping[str, float]],
    images: Pictures | None,
) -> Sample:
    """Return an image with what is said of it; arm -> its rows of predictions, by id, and arm -> its scores likewise.

    The first arm has it; others may lack it.
    """
    entry = next(iter(captions.values()))[identity]
    return Sample(
        image_id=identity,
        image=images(entry.get("image", entry["image_id"])) if images else None,
        references=tuple(entry["references"]),
        captions=tuple(
            SampleCaption(arm=arm, text=said[identity]["caption"], score=scores[arm].get(identity))
            for arm, said in captions.items()
            if identity in said
        ),
        question=entry.get("prefix", ""),
    )


def same_text(captions: Sequence[SampleCaption]) -> list[tuple[str, list[SampleCaption]]]:
    """Return each text once, with the captions that are it, in the order of the arms; their scores are one as well."""
    found: dict[str, list[SampleCaption]] = {}
    for caption in captions:
        found.setdefault(caption.text, []).append(caption)
    return list(found.items())


def image_scores(table: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return image_id -> score of a per-image table; empty where the metric has none per image, without undefined ones."""
    if metric not in table:
        return {}
    pairs = zip(table["image_id"].map(str), table[metric].astype(float), strict=True)
    return {identity: score for identity, score in pairs if np.isfinite(score)}
