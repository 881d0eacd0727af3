"""Seeds and images at once: the interval of a mean difference over future replicates *and* future test images.

A t interval over replicates holds the test images fixed. Here a paired difference measured on R replicates x I images
is a two-way table with both ways random,

    d[r, i] = mean + seed[r] + image[i] + rest[r, i],        Var(mean of the table) = Vs/R + Vi/I + Ve/(R I),

and the three variances follow from the mean squares of the table by the method of moments (Searle, Casella and
McCulloch 1992, ch. 4): Ve = MSe, Vs = (MSs - MSe)/I, Vi = (MSi - MSe)/R, where a negative one is set to 0.

Var(mean) is MSs / (R I), which is the variance over seeds with the rest in it, plus (MSi - MSe) / (R I) for the images;
the second counts only where an F test at 10 % finds the images, for else its noise alone would widen the interval. How
the two make an interval: `gitbench.judge.statistics`. Coverage over shares, shapes and sizes: `docs/tools/coverage.py`.

BLEU, METEOR and the loss per token are no means over images but functions of sums of sufficient statistics
(`gitbench.metrics.aggregate`), so all scores are re-aggregated: the delete-one jackknife gives pseudo-values of each
replicate's score, one an image, whose mean is the score itself. Several requests about one image (VQA, column `image`)
are one cluster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from gitbench.errors import GitbenchError
from gitbench.judge.statistics import Interval, half_width, t_interval
from gitbench.judge.verdict import ImageError
from gitbench.metrics.aggregate import scores_from_totals, statistics

Tables = Callable[[str], pd.DataFrame]  # run key -> per-image scores and sufficient statistics of a finished run
IMAGES_COUNT = 0.10  # level of the F test that lets the images' variance into the interval


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """A mean over replicates and images, and its 95 % interval for both drawn anew, in the metric's unit."""

    mean: float
    low: float
    high: float
    image_share: float  # of the variance of the mean that is due to the choice of images; 0 where nothing varies
    replicates: int
    images: int


def crossed_interval(values: pd.DataFrame | np.ndarray) -> Crossed:
    """Return mean and interval over future seeds and images of a table of paired differences, replicate x image.

    A replicate's mean of its row must be its score: where images weigh differently (several questions an image, tokens),
    pass the linearised values of `image_values`. Errors: ValueError unless 2 x 2 at least and finite.
    """
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise ValueError("a crossed interval needs a whole table of at least 2 replicates x 2 images")
    covariance, count = image_covariance([table])
    replicates, mean, images = len(table), float(table.mean()), float(covariance[0, 0])
    seeds = float(table.mean(axis=1).var(ddof=1)) / replicates
    half = half_width(math.sqrt(seeds), replicates, math.sqrt(images), count)
    share = images / (seeds + images) if seeds + images else 0.0
    return Crossed(mean=mean, low=mean - half, high=mean + half, image_share=share, replicates=replicates, images=count)


# ---- from what runs stored per image to the table ---------------------------------------------------------------------


Rows = Sequence[Mapping[str, float]]  # two weighted sums: arm -> weight


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """The scores of runs by image: arm -> replicate -> values whose mean is the run's score; all of the same images."""

    values: Mapping[str, Mapping[int, np.ndarray]]

    def error(self, name: str, rows: Rows, replicates: Sequence[int]) -> ImageError:
        """Return what the choice of images adds to the sums of `rows` over these replicates."""
        parts = [
            np.sum(
                [weight * np.stack([self.values[arm][each] for each in replicates]) for arm, weight in row.items()], 0
            )
            for row in rows
        ]
        covariance, count = image_covariance(parts)
        (a, b), (c, d) = covariance.tolist()
        return ImageError(count=count, covariance=((a, b), (c, d)))


@dataclass(frozen=True, kw_only=True)
class KnownErrors:
    """What was computed before, by the name of an effect: of a report without the scores by image themselves."""

    errors: Mapping[str, ImageError]

    def error(self, name: str, rows: Rows, replicates: Sequence[int]) -> ImageError | None:
        """Return the error of the effect of this name; None where it is not known."""
        return self.errors.get(name)


def image_scores(frame: pd.DataFrame, metric: str, arms: Sequence[str], tables: Tables) -> ImageScores | None:
    """Return the scores of some arms by image, of the rows of a tidy frame that count.

    None where a run has nothing of this metric by image, or there are fewer than 2 images. Errors: GitbenchError for runs
    that were tested on different images.
    """
    rows = frame[(frame["metric"] == metric) & frame["arm"].isin(arms) & ~frame["overridden"]]
    found: dict[str, dict[int, np.ndarray]] = {}
    first: pd.Index | None = None
    for arm, replicate, key in zip(rows["arm"], rows["replicate"], rows["run_key"], strict=True):
        parts = image_statistics(tables(str(key)), metric)
        if parts is None or len(parts) < 2:
            return None
        first = parts.index if first is None else first
        if not parts.index.equals(first):
            raise GitbenchError(f"the runs of arm '{arm}' were tested on other images: delete their folders, run again")
        found.setdefault(str(arm), {})[int(replicate)] = image_values(parts.to_numpy()[None], metric)[0]
    return ImageScores(values=found) if found else None


def image_covariance(tables: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Return the covariance (k, k) of the means of k tables (replicates, images) due to the choice of images, and their number.

    It is 0 where an F test at 10 % on the first table does not find the images. Seeds that are more alike than their own
    images allow (a smaller mean square than the rest's) are so by luck: what they lack is added here.
    """
    data = np.stack(tables)
    _, replicates, count = data.shape
    by_image = data.mean(axis=1)
    rest = data - data.mean(axis=2, keepdims=True) - by_image[:, None] + data.mean(axis=(1, 2), keepdims=True)
    flat = rest.reshape(len(data), -1)
    noise = flat @ flat.T / ((replicates - 1) * (count - 1))
    images, seeds = (
        size * np.cov(data.mean(axis=at)).reshape(noise.shape) for size, at in ((replicates, 1), (count, 2))
    )
    beyond = np.zeros_like(noise)
    if images[0, 0] > noise[0, 0] * stats.f.isf(IMAGES_COUNT, count - 1, (replicates - 1) * (count - 1)):
        beyond += _positive(images - noise)
    if seeds[0, 0] < noise[0, 0]:  # by luck: the mean squares of seeds hold those of the rest
        beyond += _positive(noise - seeds)
    return beyond / (replicates * count), count


def _positive(matrix: np.ndarray) -> np.ndarray:
    """Return the nearest matrix to a symmetric one that is a covariance."""
    sizes, axes = np.linalg.eigh(matrix)
    return np.asarray((axes * np.maximum(sizes, 0.0)) @ axes.T)


def image_statistics(table: pd.DataFrame, metric: str) -> pd.DataFrame | None:
    """Return a run's additive statistics by image; None where it was scored without what this metric needs."""
    try:
        parts = pd.DataFrame(statistics(table, metric))
    except GitbenchError:
        return None
    name = "image" if "image" in table.columns else "image_id"
    return parts.groupby(table[name].astype(str).to_numpy(), sort=False).sum()


def image_interval(table: pd.DataFrame, metric: str) -> Interval | None:
    """Return the 95 % interval of a score over images, of its per-image table; None where it has none."""
    parts = image_statistics(table, metric)
    if parts is None or len(parts) < 2:
        return None
    values = image_values(parts.to_numpy()[None], metric)[0]
    return t_interval(values) if np.isfinite(values).all() else None


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
