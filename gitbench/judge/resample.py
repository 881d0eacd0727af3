"""From stored per-image statistics to intervals over seeds and images, for every metric a run records.

A mean over images (CIDEr with the study's fixed document frequencies, ROUGE-L, SceneF1, accuracy, VQA) is a sum of its
images' values. BLEU, METEOR and the loss per token are not: averaging BLEU per image gives another number. They are
functions of sums of sufficient statistics (`gitbench.metrics.aggregate`), so here they are always re-aggregated:

* `image_values`: the delete-one jackknife's pseudo-values of each replicate's score, one an image. Their mean is the
  replicate's score itself, and a table of their paired differences goes into `crossed_interval`.
* `bootstrap_interval`: images drawn with replacement, the same ones for all arms and replicates (paired), and every
  score re-aggregated. Its variances give the same mean squares, hence the same interval, without linearisation.

Whatever a claim is about is a weighted sum of its arms' scores, so all kinds are judged alike (`claim_weights`).

Replicates are never bootstrapped: with 3 to 10 of them that covers 75 to 90 % (`gitbench.judge.intervals`); they enter as
in `gitbench.judge.crossed`. Several requests about one image (VQA, column `image`) are one cluster, drawn together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.judge.crossed import Crossed, MeanSquares, crossed_interval, interval_of
from gitbench.judge.sample import slopes
from gitbench.metrics.aggregate import scores_from_totals, statistics
from gitbench.spec import Claim
from gitbench.study.records import Study, load_per_image, load_record, load_yardstick

RESAMPLES = 1000
_CHUNK = 2_000_000  # image counts held at a time


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm of a comparison: its weight in it, and its additive statistics, (replicates, images, k)."""

    weight: float
    parts: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A weighted sum of arms minus a fixed number, on the replicates and images that all of them share."""

    metric: str
    replicates: tuple[int, ...]
    images: tuple[str, ...]
    sides: tuple[Side, ...]
    less: float = 0.0  # the fixed number: what a level has beside the scores of arms

    def by_replicate(self) -> np.ndarray:
        """Return the comparison of the re-aggregated scores, (replicates,)."""
        return _summed(self, lambda parts: scores_from_totals(parts.sum(axis=1), self.metric))

    def table(self) -> pd.DataFrame:
        """Return the paired per-image values, replicate x image; a row's mean is the replicate's comparison."""
        values = _summed(self, lambda parts: image_values(parts, self.metric))
        return pd.DataFrame(values, index=list(self.replicates), columns=list(self.images))


def claim_weights(study: Study, claim: Claim, ceiling: float | None) -> tuple[dict[str, float], float] | None:
    """Return (arm -> weight, fixed number to take away) of what a claim is about, in the metric's own sign.

    As `gitbench.judge.sample` has it: differences, differences of gains, slopes, distances from a level. None where the
    level is a share of a range that is unknown.
    """
    if claim.kind == "trend":
        arms, places = zip(*claim.along, strict=True)
        return dict(zip(arms, slopes(np.eye(len(arms)), places).tolist(), strict=True)), 0.0
    if claim.kind == "threshold":
        assert claim.level is not None
        if claim.level_unit == "metric":
            return {claim.treatment: 1.0}, claim.level
        floors = [arm.name for arm in study.arms if arm.role == "floor"]
        if ceiling is None or not floors:
            return None
        return {claim.treatment: 1.0, floors[0]: claim.level - 1.0}, claim.level * ceiling
    found: dict[str, float] = {}
    named = ((1.0, claim.treatment), (-1.0, claim.reference), (-1.0, claim.treatment_from), (1.0, claim.reference_from))
    for weight, arm in named:
        if arm is not None:  # two gains may start from one arm, which then has no part in their difference
            found[arm] = found.get(arm, 0.0) + weight
    return {arm: weight for arm, weight in found.items() if weight}, 0.0


def load_comparison(
    study: Study, work_dir: str | Path, metric: str, weights: Mapping[str, float], less: float = 0.0
) -> Comparison | None:
    """Read what arms (name -> weight) stored per image; None where it is not there to be compared.

    That is: fewer than 2 replicates finished in all arms and not overridden, a metric that a run lacks, fewer than 2
    images. Errors: GitbenchError for a damaged file, an unknown arm, or runs that were tested on different images.
    """
    found: dict[str, dict[int, pd.DataFrame]] = {study.arm(arm).name: {} for arm in weights}
    for run in study.runs:
        parts = _parts(work_dir, run.run_key, metric) if run.arm in found else None
        if parts is not None:
            found[run.arm][run.replicate] = parts
    shared = sorted(set.intersection(*(set(own) for own in found.values())))
    if len(shared) < 2:
        return None
    images = next(iter(found.values()))[shared[0]].index
    for arm, own in found.items():
        if any(not own[replicate].index.equals(images) for replicate in shared):
            raise GitbenchError(f"the runs of arm '{arm}' were tested on other images: delete their folders, run again")
    if len(images) < 2:
        return None
    sides = tuple(
        Side(weight=weight, parts=np.stack([found[arm][each].to_numpy() for each in shared]))
        for arm, weight in weights.items()
    )
    return Comparison(metric=metric, replicates=tuple(shared), images=tuple(map(str, images)), sides=sides, less=less)


def crossed_claim(study: Study, work_dir: str | Path, claim: Claim, level: float = 0.95) -> Crossed | None:
    """Return the interval of what a claim is about over future seeds and images, in the metric's own sign.

    For every kind of claim and any metric. None: see `load_comparison`. The ceiling, where a level is measured from it,
    counts as known.
    """
    ceiling = (load_yardstick(work_dir, study) or {"ceiling": {}})["ceiling"].get(claim.metric)
    parts = claim_weights(study, claim, None if ceiling is None else float(ceiling["value"]))
    found = None if parts is None else load_comparison(study, work_dir, claim.metric, *parts)
    return None if found is None else crossed_interval(found.table(), level)


def bootstrap_interval(found: Comparison, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95) -> Crossed:
    """Return the crossed interval whose mean squares come from `resamples` draws of images.

    With images drawn anew the mean over replicates varies by Vi/I + Ve/(R I), one replicate's score by (Vi + Ve)/I:
    two equations for the images and the rest. The seeds' mean square is that of the scores on all images.
    """
    draws = image_draws(found, resamples, seed)
    replicates, count = len(found.replicates), len(found.images)
    scores, exact = found.by_replicate(), count / (count - 1)  # a bootstrap variance is (I - 1)/I of the unbiased one
    images = replicates * count * exact * float(draws.mean(axis=1).var())
    one = count * exact * float(draws.var(axis=0).mean())
    rest = max(0.0, (replicates * one - images) / (replicates - 1))
    squares = MeanSquares(
        mean=float(scores.mean()),
        seeds=float(count * scores.var(ddof=1)),
        images=images,
        rest=rest,
        replicates=replicates,
        count=count,
    )
    return interval_of(squares, level)


def image_draws(found: Comparison, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return the re-aggregated paired differences of resampled image sets, (resamples, replicates)."""
    return np.concatenate(
        [
            _summed(found, functools.partial(_drawn, found.metric, counts))
            for counts in _counts(len(found.images), resamples, seed)
        ]
    )


def image_values(parts: np.ndarray, metric: str) -> np.ndarray:
    """Return jackknife pseudo-values, (replicates, images), of the statistics of runs, (replicates, images, k).

    For a mean over images these are its per-image values. Their mean is shifted to the score itself, which takes away
    the jackknife's own correction of bias (of order 1/images).
    """
    total, count = parts.sum(axis=1), parts.shape[1]
    score = scores_from_totals(total, metric)[:, None]
    without = scores_from_totals(total[:, None] - parts, metric)
    values = score - (count - 1) * (without - score)
    values = np.where(np.isfinite(values), values, score)  # the only image where a mean is defined says nothing alone
    return values - values.mean(axis=1, keepdims=True) + score


def _summed(found: Comparison, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Add up `score(parts)` of every side with its weight, less the fixed number."""
    return np.sum([side.weight * score(side.parts) for side in found.sides], axis=0) - found.less


def _counts(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield (draws, images) arrays of how often each image was drawn, a part of the resamples at a time."""
    rng, step = np.random.default_rng(seed), max(1, _CHUNK // images)
    for start in range(0, resamples, step):
        yield rng.multinomial(images, np.full(images, 1 / images), size=min(step, resamples - start)).astype(float)


def _drawn(metric: str, counts: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return the scores of drawn image sets, (draws, replicates)."""
    replicates, images, k = parts.shape
    flat = parts.transpose(1, 0, 2).reshape(images, replicates * k)
    return scores_from_totals((counts @ flat).reshape(-1, replicates, k), metric)


def _parts(work_dir: str | Path, key: str, metric: str) -> pd.DataFrame | None:
    """Return a run's additive statistics by image; None where the run does not count or lacks the metric."""
    record = load_record(work_dir, key)
    if record is None or record.get("overridden") or metric not in record["metrics"]:
        return None
    path = Path(work_dir) / "runs" / key / "per_image.parquet"
    if not path.is_file():  # a record alone, as in a bundle without scores
        return None
    return _statistics(str(work_dir), key, path.stat().st_mtime_ns, metric)


@functools.lru_cache(maxsize=512)
def _statistics(work_dir: str, key: str, written: int, metric: str) -> pd.DataFrame | None:
    """Read and keep one run's statistics of a metric; `written` tells a file from the one that replaced it."""
    table = load_per_image(work_dir, key)
    try:
        parts = pd.DataFrame(statistics(table, metric))
    except GitbenchError:  # scored without what this metric needs
        return None
    name = "image" if "image" in table.columns else "image_id"
    return parts.groupby(table[name].astype(str).to_numpy(), sort=False).sum()
