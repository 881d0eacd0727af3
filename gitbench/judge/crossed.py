"""Seeds and images at once: the interval of a mean difference over future replicates *and* future test images.

A t interval over replicates holds the test images fixed. Here a paired difference measured on R replicates x I images
is a two-way table with both ways random,

    d[r, i] = mean + seed[r] + image[i] + rest[r, i],        Var(mean of the table) = Vs/R + Vi/I + Ve/(R I),

and the three variances follow from the mean squares of the table by the method of moments (Searle, Casella and
McCulloch 1992, ch. 4): Ve = MSe, Vs = (MSs - MSe)/I, Vi = (MSi - MSe)/R, where a negative one is set to 0.

The interval is mean +- t(df) sqrt((MSs + [MSi - MSe]) / (R I)): MSs carries the seeds and the rest, the bracket adds
the images and counts only where an F test at 10 % finds them, for else its noise alone would widen the interval.
Degrees of freedom are Satterthwaite's, with the share of MSs enlarged by 1 + 2/(R - 1) and never below R - 1: with 3 or
4 seeds a luckily small MSs shortens the interval and raises the plain df at once, which covers 92 % instead of 95 %.
Coverage is 94.1 to 96.1 % over 3 to 16 seeds, 30 to 5,000 images and all shares: `python docs/tools/coverage.py`.

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
from gitbench.judge.statistics import slopes
from gitbench.metrics.aggregate import scores_from_totals, statistics
from gitbench.spec import Claim

Tables = Callable[[str], pd.DataFrame]  # run key -> per-image scores and sufficient statistics of a finished run
IMAGES_COUNT = 0.10  # level of the F test that lets the images' variance into the interval


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """A mean over replicates and images, its 95 % interval for both drawn anew, and where its variance comes from.

    In the metric's unit. Shares are those of the estimated variance of the mean and sum to 1 (all 0 where nothing varies).
    """

    mean: float
    low: float
    high: float
    seed_share: float
    image_share: float
    rest_share: float
    df: float
    replicates: int
    images: int


def crossed_interval(values: pd.DataFrame | np.ndarray) -> Crossed:
    """Return mean and interval over future seeds and images of a table of paired differences, replicate x image.

    A replicate's mean of its row must be its score: where images weigh differently (several questions an image, tokens),
    pass the linearised values of `paired_values`. Errors: ValueError unless 2 x 2 at least and finite.
    """
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise ValueError("a crossed interval needs a whole table of at least 2 replicates x 2 images")
    replicates, count = table.shape
    by_seed, by_image, mean = table.mean(axis=1), table.mean(axis=0), float(table.mean())
    residual = table - by_seed[:, None] - by_image + table.mean()
    seeds, images = float(count * by_seed.var(ddof=1)), float(replicates * by_image.var(ddof=1))
    rest = float((residual**2).sum() / ((replicates - 1) * (count - 1)))
    variance, df = spread([np.array(each) for each in (seeds, images, rest)], replicates, count)
    half = float(stats.t.ppf(0.975, df)) * math.sqrt(float(variance))
    parts = [max(0.0, part) for part in (seeds - rest, images - rest, rest)]
    shares = [part / sum(parts) if sum(parts) else 0.0 for part in parts]
    return Crossed(
        mean=mean,
        low=mean - half,
        high=mean + half,
        seed_share=shares[0],
        image_share=shares[1],
        rest_share=shares[2],
        df=float(df),
        replicates=replicates,
        images=count,
    )


def spread(squares: Sequence[np.ndarray], replicates: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (variance of the mean, degrees of freedom) from mean squares of seeds, images, rest: arrays, one entry a table."""
    seeds, images, rest = squares
    few, many = replicates - 1, count - 1
    both = few * many
    found = images > rest * stats.f.isf(IMAGES_COUNT, many, both)
    total = seeds + np.where(found, images - rest, 0.0)
    below = (seeds**2 / few) * (1 + 2 / few) + np.where(found, images**2 / many + rest**2 / both, 0.0)
    df = np.divide(total**2, below, out=np.full_like(total, float(few)), where=below > 0)
    return total / (replicates * count), np.clip(df, few, None)


# ---- from what runs stored per image to the table ---------------------------------------------------------------------


def crossed_claim(claim: Claim, frame: pd.DataFrame, tables: Tables) -> Crossed | None:
    """Return the interval of what a claim is about over future seeds and images, in the metric's own sign.

    `frame` is the tidy frame of the study. None and errors: see `paired_values`.
    """
    table = paired_values(frame, claim.metric, claim_weights(claim), tables)
    return None if table is None else crossed_interval(table)


def claim_weights(claim: Claim) -> dict[str, float]:
    """Return arm -> weight: what a claim of any kind is about is the weighted sum of its arms' scores."""
    if claim.kind == "trend":
        arms, places = zip(*claim.along, strict=True)
        return dict(zip(arms, slopes(np.eye(len(arms)), places).tolist(), strict=True))
    found: dict[str, float] = {}
    named = ((1.0, claim.treatment), (-1.0, claim.reference), (-1.0, claim.treatment_from), (1.0, claim.reference_from))
    for weight, arm in named:
        if arm is not None:  # two gains may start from one arm, which then has no part in their difference
            found[arm] = found.get(arm, 0.0) + weight
    return {arm: weight for arm, weight in found.items() if weight}


def image_statistics(table: pd.DataFrame, metric: str) -> pd.DataFrame | None:
    """Return a run's additive statistics by image; None where it was scored without what this metric needs."""
    try:
        parts = pd.DataFrame(statistics(table, metric))
    except GitbenchError:
        return None
    name = "image" if "image" in table.columns else "image_id"
    return parts.groupby(table[name].astype(str).to_numpy(), sort=False).sum()


def paired_values(
    frame: pd.DataFrame, metric: str, weights: Mapping[str, float], tables: Tables
) -> pd.DataFrame | None:
    """Return the weighted sums of arms (name -> weight) by replicate x image; a row's mean is that of the scores.

    None: fewer than 2 replicates finished in all arms and not overridden, a metric that a run lacks, fewer than 2 images.
    Errors: GitbenchError for runs that were tested on different images.
    """
    counted = frame[(frame["metric"] == metric) & ~frame["overridden"]]
    found: dict[str, dict[int, pd.DataFrame]] = {arm: {} for arm in weights}
    for arm, own in found.items():
        rows = counted[counted["arm"] == arm]
        for replicate, key in zip(rows["replicate"], rows["run_key"], strict=True):
            if (values := image_statistics(tables(str(key)), metric)) is not None:
                own[int(replicate)] = values
    shared = sorted(set.intersection(*(set(own) for own in found.values())))
    if len(shared) < 2:
        return None
    images = next(iter(found.values()))[shared[0]].index
    for arm, own in found.items():
        if any(not own[replicate].index.equals(images) for replicate in shared):
            raise GitbenchError(f"the runs of arm '{arm}' were tested on other images: delete their folders, run again")
    if len(images) < 2:
        return None
    sides = [
        weight * image_values(np.stack([found[arm][each].to_numpy() for each in shared]), metric)
        for arm, weight in weights.items()
    ]
    return pd.DataFrame(np.sum(sides, axis=0), index=shared, columns=images)


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
