"""What would decide a claim that stays open: how many further seeds, and how long they take on the machine of the study.

As if the mean and the spread of the differences were as seen. Power by the noncentral t (`compare.power_one_sided`), for
equivalence by integration (`compare.power_tost`), at the level that Holm leaves to the claim.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from gitbench.judge.compare import MOST_SEEDS, power_one_sided, power_tost, smallest_n, smallest_n_sign_flip
from gitbench.judge.rules import ALPHA, Method
from gitbench.judge.sequential import nominal_level

POWER = 0.8


def heads_to_support(kind: str, mean: float, margin: float) -> bool:
    """Say which word further seeds would bring, if the turned mean is as seen: SUPPORTED (or else REFUTED)."""
    if kind == "equivalent":
        return abs(mean) < margin
    return mean < margin if kind == "not_better" else mean > margin


def further_seeds(
    kind: str, mean: float, margin: float, sd: float, n: int, method: Method = "t", claims: int = 1
) -> int | None:
    """Return how many replicates beyond n would decide with 80 % power; None: over 1000.

    `mean` and `sd` are those of the turned differences; `claims` is the number of open ones in the family.
    """
    alpha = ALPHA / claims

    def level(size: int) -> float:
        return nominal_level(size, alpha) if method == "sequential" else alpha

    if kind == "equivalent" and abs(mean) < margin:
        needed = smallest_n(lambda size: power_tost(mean, margin, sd, size, level(size)), POWER)
    else:
        distance = abs(mean) - margin if kind == "equivalent" else abs(mean - margin)
        needed = smallest_n(lambda size: power_one_sided(distance, sd, size, level(size)), POWER)
    if needed is not None and method == "sign_flip":
        needed = max(needed, smallest_n_sign_flip(alpha, "one-sided"))
    return None if needed is None or needed - n > MOST_SEEDS else max(1, needed - n)


def seconds_per_seed(frame: pd.DataFrame, arms: Sequence[str], at_once: int | None = None) -> float | None:
    """Return the seconds that one more replicate of `arms` takes: their runs' mean times, `at_once` of them at a time.

    None where an arm has no finished run. `at_once` defaults to what the runs' machine does: "cpu4" runs four at a time.
    """
    own = frame[(frame["metric"] == "seconds") & frame["arm"].isin(arms) & ~frame["overridden"]]
    if set(own["arm"]) < set(arms):
        return None
    if at_once is None:
        found = [re.fullmatch(r"cpu(\d+)", str(machine)) for machine in own["machine"].unique()]
        at_once = max((int(each[1]) for each in found if each), default=1)
    return float(own.groupby("arm")["value"].mean().sum()) / max(1, at_once)
