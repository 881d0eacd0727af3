"""From the scores of a claim's arms to one number a replicate, whose mean the claim is about.

A replicate number gives all arms the same data order and the same initial values of what they share, so whatever a claim
compares is computed within each replicate first: a difference of two arms, a difference of two gains, a slope over
several arms, the distance of an arm from a level. The test is then always that of one sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gitbench.judge.compare import PairedDifference, paired_difference
from gitbench.judge.intervals import one_sided_bounds, t_interval
from gitbench.spec import Claim


def sample(
    claim: Claim, values: Mapping[str, pd.Series], floor: pd.Series, ceiling: float | None
) -> PairedDifference | None:
    """Return the claim's numbers by replicate in the metric's own sign; None where no replicate has all it needs.

    `values` holds each arm's scores by replicate, `floor` those of the blind arm. `treatment` and `reference` are the
    two sides: of a trend its last and first arm (the differences are slopes), of a threshold the arm and the level.
    """
    if claim.kind == "trend":
        return _trend(claim, values)
    if claim.kind == "threshold":
        return paired_difference(values[claim.treatment], _level(claim, values[claim.treatment], floor, ceiling))
    return paired_difference(
        _side(values, claim.treatment, claim.treatment_from), _side(values, claim.reference, claim.reference_from)
    )


def slopes(scores: np.ndarray, places: Sequence[float]) -> np.ndarray:
    """Return the least-squares slope over `places` (k,) of every row of scores (..., k): metric units for each 1 of x."""
    centred = np.asarray(places, dtype=float) - np.mean(places)
    return np.asarray(scores, dtype=float) @ centred / (centred @ centred)


def _trend(claim: Claim, values: Mapping[str, pd.Series]) -> PairedDifference | None:
    arms, places = zip(*claim.along, strict=True)
    table = pd.concat([values[arm] for arm in arms], axis=1, join="inner", keys=arms).dropna().sort_index()
    if table.empty:
        return None
    found = slopes(table.to_numpy(dtype=float), places)
    return PairedDifference(
        replicates=tuple(int(each) for each in table.index),
        treatment=tuple(table[claim.treatment].tolist()),
        reference=tuple(table[claim.reference].tolist()),
        differences=tuple(found.tolist()),
        interval=t_interval(found),
        bounds=one_sided_bounds(found),
    )


def _level(claim: Claim, values: pd.Series, floor: pd.Series, ceiling: float | None) -> pd.Series:
    """Return the level by replicate. A share of the range is measured from the floor of the same replicate.

    So the floor's own spread enters the test; with the floor's mean, as if it were known, it would be wrong too often.
    """
    assert claim.level is not None
    if claim.level_unit == "metric":
        return pd.Series(claim.level, index=values.index)
    return (floor + claim.level * ((np.nan if ceiling is None else ceiling) - floor)).dropna()


def _side(values: Mapping[str, pd.Series], arm: str, start: str | None) -> pd.Series:
    """Return one side of a claim by replicate: an arm's values, or its gain over `start` where both have a value."""
    return values[arm] if start is None else (values[arm] - values[start]).dropna()
