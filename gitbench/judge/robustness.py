"""What one seed can do to a verdict: collapsed seeds, arms in two groups; and metrics that disagree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from gitbench.formats import digits
from gitbench.judge.effects import Scores
from gitbench.judge.moderation import residual_variances, residuals
from gitbench.judge.statistics import MIN_REPLICATES, t_interval
from gitbench.judge.verdict import Collapse
from gitbench.metric_info import SCORES, display_name, quality_sign, unit
from gitbench.metrics.aggregate import LOSS
from gitbench.spec import Claim

NOTHING = 0.1  # of what the best arm learned: an arm whose typical seed learned less learned nothing
COLLAPSED = 0.5  # a seed that learned less than this share of what its arm's typical seed learned
MIN_GROUPS, MIN_ARMS = 5, 3
APART = 7.0  # usual sd between neighbouring seeds of an arm that make it two groups; 1 % of normal studies show it


def collapses(values: Mapping[str, pd.Series], floor: float, metric: str) -> tuple[Collapse, ...]:
    """Return for each arm (name -> scores by replicate) which seeds collapsed, and the exact bounds of their rate.

    A seed collapses where it learned less than half of what the typical seed of its arm learned; where that is next to
    nothing, of what the typical seed of the best of these arms learned. The bounds are a 95 % interval; where none
    collapsed, the upper one alone: 0 of 5 leaves a rate of up to 45 %.
    """
    sign, found = quality_sign(metric), []
    learned = {arm: sign * (series - floor) for arm, series in values.items()}
    best = max((float(series.median()) for series in learned.values()), default=0.0)
    for arm, series in learned.items():
        typical = float(series.median())
        usual = typical if typical > NOTHING * best else best
        seeds = series.index[series < COLLAPSED * usual] if best > 0 else series.index[:0]
        rate = stats.binomtest(len(seeds), len(series)).proportion_ci(0.95 if len(seeds) else 0.9, method="exact")
        bounds = {"low": float(rate.low), "high": float(rate.high)}
        found.append(Collapse(arm=arm, seeds=tuple(int(each) for each in seeds), n=len(series), **bounds))
    return tuple(found)


def two_groups(scores: Scores, arms: Iterable[str]) -> Iterator[str]:
    """Yield a note for every one of these arms whose seeds fall into two groups, by the spread that is usual in the study.

    What the arms of a replicate share is taken out first (`gitbench.judge.moderation`).
    """
    table = scores.table[list(scores.arms)].dropna()
    if len(table) < MIN_GROUPS or len(scores.arms) < MIN_ARMS:
        return
    values = table.to_numpy(dtype=float).T
    usual = float(np.sqrt(np.median(residual_variances(values))))
    own = dict(zip(scores.arms, residuals(values), strict=True))
    for arm in (each for each in dict.fromkeys(arms) if each in own):
        ordered = np.sort(own[arm])
        steps = np.diff(ordered)
        below = int(steps.argmax()) + 1
        if usual > 0 and steps.max() > APART * usual:
            yield (
                f"the seeds of arm {arm} fall into two groups, {below} below and {len(ordered) - below} above a gap of "
                f"{steps.max():.3g}: its mean describes neither"
            )


def disagreement(claim: Claim, weights: Mapping[str, float], others: Mapping[str, Scores]) -> Iterator[str]:
    """Yield a note for every metric (name -> scores) whose 95 % t interval says the opposite of the claim's own mean.

    Not for the test likelihood, which has a word of its own.
    """
    found: dict[str, np.ndarray] = {}
    for metric, scores in ((name, each) for name, each in others.items() if name in SCORES):
        used = scores.replicates(list(weights))
        if len(used) >= MIN_REPLICATES:
            values = scores.table.loc[used, list(weights)].to_numpy(dtype=float) @ np.array(list(weights.values()))
            found[metric] = quality_sign(metric) * values
    if claim.metric not in found:
        return
    own = found[claim.metric].mean()
    for metric, values in ((name, each) for name, each in found.items() if name not in (claim.metric, LOSS)):
        interval = t_interval(values)
        if max(np.sign(own) * end for end in interval.ends or ()) < 0:
            better = "better" if interval.mean > 0 else "worse"
            size = f"{abs(interval.mean):.{digits((interval.mean,))}f} {unit(metric)}"
            yield f"{display_name(metric)} says the opposite: {better} by {size}, and its 95 % interval excludes zero"


def ahead(differences: Sequence[float] | np.ndarray) -> tuple[int, tuple[float, float]]:
    """Return in how many seeds the (turned) difference is above 0, and the exact 95 % interval of that probability."""
    count = int((np.asarray(differences) > 0).sum())
    ends = stats.binomtest(count, len(differences)).proportion_ci(0.95, method="exact")
    return count, (float(ends.low), float(ends.high))
