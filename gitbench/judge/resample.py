"""From stored per-image statistics to intervals over seeds and images, for every metric a run records.

BLEU, METEOR and the loss per token are no means over images but functions of sums of sufficient statistics
(`gitbench.metrics.aggregate`), so all scores are re-aggregated: the delete-one jackknife gives pseudo-values of each
replicate's score, one an image. Their mean is the replicate's score itself, and a table of their paired differences
goes into `gitbench.judge.crossed`. Several requests about one image (VQA, column `image`) are one cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from gitbench.errors import GitbenchError
from gitbench.judge.crossed import Crossed, crossed_interval
from gitbench.judge.sample import slopes
from gitbench.metrics.aggregate import scores_from_totals, statistics
from gitbench.spec import Claim

Tables = Callable[[str], pd.DataFrame]  # run key -> per-image scores and sufficient statistics of a finished run


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
