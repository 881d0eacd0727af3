"""From stored per-image statistics to intervals over seeds and images, for every metric a run records.

A mean over images (CIDEr with the study's fixed document frequencies, ROUGE-L, SceneF1, accuracy, VQA) is a sum of its
images' values. BLEU, METEOR and the loss per token are not: averaging BLEU per image gives another number. They are
functions of sums of sufficient statistics (`gitbench.metrics.aggregate`), so here they are always re-aggregated:

* `image_values`: the delete-one jackknife's pseudo-values of each replicate's score, one an image. Their mean is the
  replicate's score itself, and a table of their paired differences goes into `crossed_interval`.
* `paired_bootstrap`: images drawn with replacement, the same ones for both arms and all replicates (paired), and every
  score re-aggregated. Its variances give the same mean squares, hence the same interval, without linearisation.

Replicates are never bootstrapped: with 3 to 10 of them that covers 75 to 90 % (`gitbench.judge.intervals`); they enter as
in `gitbench.judge.crossed`. Several requests about one image (VQA, column `image`) are one cluster, drawn together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.judge.crossed import Crossed, MeanSquares, crossed_interval, interval_of
from gitbench.judge.frame import Study, load_per_image, load_record
from gitbench.metrics.aggregate import scores_from_totals, statistics

RESAMPLES = 1000
_CHUNK = 2_000_000  # image counts held at a time


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm of a comparison: its sign in it, and its additive statistics, (replicates, images, k)."""

    sign: int
    parts: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A paired difference (two arms) or a difference of two gains (four), on the replicates and images all share."""

    metric: str
    replicates: tuple[int, ...]
    images: tuple[str, ...]
    sides: tuple[Side, ...]

    def by_replicate(self) -> np.ndarray:
        """Return the difference of the re-aggregated scores, (replicates,)."""
        return _signed(self, lambda parts: scores_from_totals(parts.sum(axis=1), self.metric))

    def table(self) -> pd.DataFrame:
        """Return the paired per-image values, replicate x image; a row's mean is the replicate's difference."""
        values = _signed(self, lambda parts: image_values(parts, self.metric))
        return pd.DataFrame(values, index=list(self.replicates), columns=list(self.images))


def load_comparison(
    study: Study,
    work_dir: str | Path,
    treatment: str,
    reference: str,
    metric: str,
    *,
    treatment_from: str | None = None,
    reference_from: str | None = None,
) -> Comparison | None:
    """Read what two arms (of an interaction: four) stored per image; None where it is not there to be compared.

    That is: fewer than 2 replicates finished in all arms and not overridden, a metric that a run lacks, fewer than 2
    images. Errors: GitbenchError for a damaged file, an unknown arm, or runs that were tested on different images.
    """
    named = ((1, treatment), (-1, reference), (-1, treatment_from), (1, reference_from))
    arms = [(sign, study.arm(arm).name) for sign, arm in named if arm is not None]
    keys = {(run.arm, run.replicate): run.run_key for run in study.runs}
    found: dict[str, dict[int, pd.DataFrame]] = {arm: {} for _, arm in arms}
    for (arm, replicate), key in sorted(keys.items()):
        if arm in found:
            parts = _parts(work_dir, key, metric)
            if parts is not None:
                found[arm][replicate] = parts
    shared = sorted(set.intersection(*(set(own) for own in found.values())))
    if len(shared) < 2:
        return None
    images = found[arms[0][1]][shared[0]].index
    for arm, own in found.items():
        if any(not own[replicate].index.equals(images) for replicate in shared):
            raise GitbenchError(f"the runs of arm '{arm}' were tested on other images: delete their folders, run again")
    if len(images) < 2:
        return None
    sides = (Side(sign=sign, parts=np.stack([found[arm][each].to_numpy() for each in shared])) for sign, arm in arms)
    return Comparison(metric=metric, replicates=tuple(shared), images=tuple(map(str, images)), sides=tuple(sides))


def crossed_difference(
    study: Study,
    work_dir: str | Path,
    treatment: str,
    reference: str,
    metric: str,
    *,
    treatment_from: str | None = None,
    reference_from: str | None = None,
    level: float = 0.95,
) -> Crossed | None:
    """Return the interval of a difference over future seeds and images, for any metric; None: see `load_comparison`."""
    found = load_comparison(
        study,
        work_dir,
        treatment,
        reference,
        metric,
        treatment_from=treatment_from,
        reference_from=reference_from,
    )
    return None if found is None else crossed_interval(found.table(), level)


def paired_bootstrap(
    study: Study,
    work_dir: str | Path,
    treatment: str,
    reference: str,
    metric: str,
    *,
    treatment_from: str | None = None,
    reference_from: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Crossed | None:
    """Return the same interval by resampling images and re-aggregating the scores; None: see `load_comparison`."""
    found = load_comparison(
        study,
        work_dir,
        treatment,
        reference,
        metric,
        treatment_from=treatment_from,
        reference_from=reference_from,
    )
    return None if found is None else bootstrap_interval(found, resamples, seed, level)


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
            _signed(found, functools.partial(_drawn, found.metric, counts))
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


def _signed(found: Comparison, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Add up `score(parts)` of every side with its sign."""
    return np.sum([side.sign * score(side.parts) for side in found.sides], axis=0)


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
