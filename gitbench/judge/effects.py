"""What a claim is about, as numbers with errors: weighted sums of its arms' scores, over seeds and test images.

An `Effect` is a difference d of arms and, beside it, what the base arm learned, L (its score less the blind floor's), both
turned so that more is what the claim calls better. The margin of a claim is a share of L, so the question whether d
exceeds it is whether d - share L exceeds 0: one weighted sum of arms, whose noise includes that of base and floor. The
interval of the ratio d / L that belongs to these tests is Fieller's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gitbench.judge.crossed import ImageScores, KnownErrors
from gitbench.judge.moderation import moderated, prior
from gitbench.judge.statistics import by_replicate, half_width, median_factor, p_above
from gitbench.judge.verdict import ImageError
from gitbench.metric_info import COSTS, quality_sign
from gitbench.plan import Plan
from gitbench.spec import Claim

Weights = Mapping[str, float]  # arm -> its weight in a sum


@dataclass(frozen=True, kw_only=True)
class Tail:
    """The p-values that a quantity is above 0: of its mean over seeds, and of its typical seed (median). Both must be small."""

    mean: np.ndarray
    typical: np.ndarray

    @property
    def p(self) -> np.ndarray:
        """The larger of the two."""
        return np.maximum(self.mean, self.typical)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A difference d and what was learned L, by replicate, with the covariances of their means.

    Of one study, or of many at once (leading dimensions; without images).
    """

    values: np.ndarray  # (..., 2, replicates): d and L, turned
    name: str = ""  # metric and weights
    seeds: np.ndarray  # (..., 2, 2), due to the choice of seeds; moderated
    images: np.ndarray  # (2, 2), due to the choice of test images; 0 where it is not known
    count: int | None  # test images; None: not known, and the numbers hold for these alone
    sequential: bool = False

    @property
    def n(self) -> int:
        """Replicates."""
        return int(self.values.shape[-1])

    @property
    def mean(self) -> float:
        """d, turned."""
        return float(self.values[0].mean())

    @property
    def learned(self) -> float:
        """L: what the base arm scored beyond the blind floor, more is better."""
        return float(self.values[1].mean())

    @property
    def raised(self) -> float:
        """The standard deviation over seeds that is used, over the one that was found."""
        own = float(self.values[0].var(ddof=1)) / self.n
        return math.sqrt(float(self.seeds[0, 0]) / own) if own > 0 else 1.0

    @property
    def image_share(self) -> float | None:
        """The share of the variance of d's mean that is due to the choice of images."""
        total = float(self.seeds[0, 0] + self.images[0, 0])
        return None if self.count is None or total == 0 else float(self.images[0, 0]) / total

    @property
    def image_errors(self) -> dict[str, ImageError]:
        """What the choice of images adds, by name; nothing where it is not known."""
        if self.count is None:
            return {}
        (a, b), (c, d) = self.images.tolist()
        return {self.name: ImageError(count=self.count, covariance=((a, b), (c, d)))}

    def contrast(self, share: float = 0.0, points: float = 0.0) -> np.ndarray:
        """Return d - share L - points by replicate."""
        return np.asarray(self.values[..., 0, :] - share * self.values[..., 1, :] - points)

    def above(self, share: float = 0.0, points: float = 0.0, sign: int = 1) -> Tail:
        """Test d > share L + points, or with `sign` = -1 d < share L + points."""
        found, weights = sign * self.contrast(share, points), np.array([1.0, -share])
        seeds = np.sqrt(np.maximum(0.0, weights @ (self.seeds @ weights)[..., None])[..., 0])
        images = math.sqrt(max(0.0, float(weights @ self.images @ weights)))
        mean, typical = (
            p_above(estimate, error, self.n, images, self.count, sequential=self.sequential)
            for estimate, error in (
                (found.mean(-1), seeds),
                (np.median(found, axis=-1), seeds * median_factor(self.n)),
            )
        )
        return Tail(mean=mean, typical=typical)

    def interval(self, *, typical: bool = False) -> tuple[float, float] | None:
        """Return the 95 % interval of d, for other seeds and (where known) images; None where there are too few seeds.

        Of its mean over seeds, or of the `typical` seed, their median.
        """
        seeds, images = (math.sqrt(float(part[0, 0])) for part in (self.seeds, self.images))
        centre, factor = (float(np.median(self.values[0])), median_factor(self.n)) if typical else (self.mean, 1.0)
        half = half_width(factor * seeds, self.n, images, self.count, sequential=self.sequential)
        return None if math.isinf(half) else (centre - half, centre + half)

    def share_interval(self) -> tuple[float, float] | None:
        """Return Fieller's 95 % interval of d / L; None where L itself may be 0."""
        factor, other = (
            half_width(*errors, sequential=self.sequential)
            for errors in ((1.0, self.n), (0.0, self.n, 1.0, self.count))
        )
        if math.isinf(factor):
            return None
        spread = factor**2 * self.seeds + other**2 * self.images
        a = self.learned**2 - spread[1, 1]
        b = self.mean * self.learned - spread[0, 1]
        c = self.mean**2 - spread[0, 0]
        if a <= 0 or (root := b * b - a * c) < 0:
            return None
        return float((b - math.sqrt(root)) / a), float((b + math.sqrt(root)) / a)


def effect_of(
    scores: np.ndarray, rows: Sequence[Sequence[float]], usual: np.ndarray, *, sequential: bool = False
) -> Effect:
    """Return the effect of two weighted sums, `rows` (2, arms), of scores (..., arms, n >= 2), of these images alone.

    `usual` (..., arms', n') are the scores of the arms that tell which spread is usual.
    """
    n = scores.shape[-1]
    values = np.asarray(rows) @ scores
    rest = values - values.mean(-1, keepdims=True)
    own = rest @ np.swapaxes(rest, -1, -2) / (n - 1)
    size = float(np.square(rows[0]).sum())
    seeds = moderated(own, size, *prior(usual), n) / n
    return Effect(values=values, seeds=seeds, images=np.zeros((2, 2)), count=None, sequential=sequential)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of one metric in a study: replicate x arm, and by image where that is to be allowed for.

    `arms` are those that tell which spread is usual; `learned` weighs base arm and blind floor ({}: no floor was run).
    """

    metric: str
    table: pd.DataFrame
    arms: tuple[str, ...]
    learned: Weights
    sequential: bool
    by_image: ImageScores | KnownErrors | None = None

    def replicates(self, arms: Iterable[str]) -> list[int]:
        """Return the replicates that all these arms have."""
        needed = list(arms)
        known = set(needed) <= set(self.table.columns)
        return [int(each) for each in self.table[needed].dropna().index] if known else []

    def effect(self, weights: Weights, sign: int) -> Effect:
        """Return `sign` x the weighted sum of arms, beside what was learned (more is better)."""
        arms = tuple(dict.fromkeys((*weights, *self.learned)))
        turn = quality_sign(self.metric)
        used = self.replicates(arms)
        rows = [[sign * weights.get(arm, 0.0) for arm in arms], [turn * self.learned.get(arm, 0.0) for arm in arms]]
        own = self.table.loc[used, list(arms)].to_numpy(dtype=float).T
        if len(used) < 2:
            nothing = np.full((2, 2), np.nan)
            return Effect(values=np.array(rows) @ own, seeds=nothing, images=nothing, count=None)
        usual = self.table[list(self.arms)].dropna().to_numpy(dtype=float).T
        effect = effect_of(own, rows, usual, sequential=self.sequential)
        if self.by_image is None:
            return effect
        name = f"{self.metric}: {' '.join(f'{sign * weight:+g} {arm}' for arm, weight in weights.items())}"
        error = self.by_image.error(name, [dict(zip(arms, row, strict=True)) for row in rows], used)
        if error is None:
            return effect
        return dataclasses.replace(effect, name=name, images=np.array(error.covariance), count=error.count)


def scores_of(plan: Plan, counted: pd.DataFrame, sequential: bool) -> dict[str, Scores]:
    """Return metric -> scores of the rows of a frame that count."""
    rows = counted[counted["role"].isin(["arm", "floor"]) & ~counted["metric"].isin(list(COSTS))]
    floors = [arm.name for arm in plan.arms if arm.role == "floor"]
    found = {}
    for metric, own in rows.groupby("metric", sort=False):
        table = pd.DataFrame({arm: by_replicate(each) for arm, each in own.groupby("arm", sort=False)})
        ends = {plan.base: 1.0, **dict.fromkeys(floors[:1], -1.0)}
        found[str(metric)] = Scores(
            metric=str(metric),
            table=table,
            arms=tuple(arm.name for arm in plan.arms if arm.role == "arm" and arm.name in table.columns),
            learned=ends if floors and set(ends) <= set(table.columns) else {},
            sequential=sequential,
        )
    return found


def claim_weights(claim: Claim) -> dict[str, float]:
    """Return arm -> weight: what a claim of any kind is about is the weighted sum of its arms' scores.

    Of a trend it is the difference of its last and its first arm.
    """
    found: dict[str, float] = {}
    named = ((1.0, claim.treatment), (-1.0, claim.reference), (-1.0, claim.treatment_from), (1.0, claim.reference_from))
    for weight, arm in named:
        if arm is not None:  # two gains may start from one arm, which then has no part in their difference
            found[arm] = found.get(arm, 0.0) + weight
    return {arm: weight for arm, weight in found.items() if weight}
