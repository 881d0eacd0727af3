"""From the scores of a claim's arms to one number a replicate, whose mean the claim is about.

A replicate number gives all arms the same data order and the same initial values of what they share, so whatever a claim
compares is computed within each replicate first: a difference of two arms, a difference of two gains, or a slope over
several arms. The test is then always that of one sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gitbench.judge.statistics import PairedDifference, paired_difference
from gitbench.spec import Claim


def sample(claim: Claim, values: Mapping[str, pd.Series]) -> PairedDifference | None:
    """Return the claim's numbers by replicate in the metric's own sign; None where no replicate has all it needs.

    `values` holds each arm's scores by replicate. `treatment` and `reference` of the result are the two sides; of a
    trend its last and first arm, and the differences are slopes.
    """
    if claim.kind != "trend":
        return paired_difference(
            _side(values, claim.treatment, claim.treatment_from), _side(values, claim.reference, claim.reference_from)
        )
    arms, places = zip(*claim.along, strict=True)
    table = pd.concat([values[arm] for arm in arms], axis=1, join="inner", keys=arms).dropna().sort_index()
    if table.empty:
        return None
    return PairedDifference(
        replicates=tuple(int(each) for each in table.index),
        treatment=tuple(table[claim.treatment].tolist()),
        reference=tuple(table[claim.reference].tolist()),
        differences=tuple(slopes(table.to_numpy(dtype=float), places).tolist()),
    )


def by_replicate(rows: pd.DataFrame) -> pd.Series:
    """Return the values of rows of the tidy frame, indexed by their replicates."""
    return pd.Series(rows["value"].to_numpy(dtype=float), index=[int(each) for each in rows["replicate"]])


def slopes(scores: np.ndarray, places: Sequence[float]) -> np.ndarray:
    """Return the least-squares slope over `places` (k,) of every row of scores (..., k): metric units for each 1 of x."""
    centred = np.asarray(places, dtype=float) - np.mean(places)
    return np.asarray(scores, dtype=float) @ centred / (centred @ centred)


def _side(values: Mapping[str, pd.Series], arm: str, start: str | None) -> pd.Series:
    """Return one side of a claim by replicate: an arm's values, or its gain over `start` where both have a value."""
    return values[arm] if start is None else (values[arm] - values[start]).dropna()
