"""A/A comparisons: split the replicates of one arm into two pseudo-arms, and see what the judge says of them.

The two differ in nothing, so every SUPPORTED is a false one. The tests of `gitbench.judge.statistics` go over all splits at
once, the judge itself over some. Splits share replicates, so this checks the rules on noise of this shape and not their
last percent.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from gitbench.errors import GitbenchError
from gitbench.judge.claims import judge_study
from gitbench.judge.noise import NoiseFloor, PairSpread, minimum_detectable, sd_interval
from gitbench.judge.statistics import MIN_REPLICATES, SIDE, by_replicate, median_factor, p_above, paired_difference
from gitbench.judge.verdict import NOT_TESTABLE, SUPPORTED
from gitbench.metric_info import COSTS, ordered, quality_sign
from gitbench.plan import Plan, PlannedArm
from gitbench.spec import METRICS, Claim

MOST_SPLITS = 40_000  # all splits up to here, that many random ones beyond
JUDGED = 100  # splits a metric that go through the judge itself, 30 ms each


def pseudo_arms(count: int, seeds: int, most: int = MOST_SPLITS) -> np.ndarray:
    """Return ways to split `count` replicates into two pseudo-arms of `seeds` pairs: (splits, seeds, 2) indices.

    All of them where there are at most `most` (a pair matches one replicate of each arm; the order of pairs does not
    count, which of the two arms gets which does), else `most` random ones. Errors: ValueError where count < 2 seeds.
    """
    if count < 2 * seeds or seeds < 1:
        raise ValueError(f"{count} replicates cannot be split into two arms of {seeds}")
    total = math.comb(count, 2 * seeds) * math.factorial(2 * seeds) // math.factorial(seeds)
    if total > most:
        rng = np.random.default_rng(0)
        order = np.argsort(rng.random((most, count)), axis=1)[:, : 2 * seeds]
        return order.reshape(most, seeds, 2)
    matched = np.array(
        [pairs for chosen in itertools.combinations(range(count), 2 * seeds) for pairs in _match(chosen)]
    )
    turned = np.array(list(itertools.product((False, True), repeat=seeds)))
    both = np.where(turned[None, :, :, None], matched[:, None, :, ::-1], matched[:, None])
    return both.reshape(-1, seeds, 2)


def _match(items: tuple[int, ...]) -> Iterator[list[tuple[int, int]]]:
    """Yield every way to pair items off."""
    if not items:
        yield []
        return
    for place in range(1, len(items)):
        for rest in _match(items[1:place] + items[place + 1 :]):
            yield [(items[0], items[place]), *rest]


def rejection_rates(differences: np.ndarray, sign: int = 1) -> tuple[float, float]:
    """Return the shares of (splits, seeds) differences that the judge's tests find "better", and different from 0.

    By mean and median; no other arm is there to tell which spread is usual.
    """
    n = differences.shape[1]
    error = differences.std(axis=1, ddof=1) / math.sqrt(n)
    centres = ((differences.mean(axis=1), error), (np.median(differences, axis=1), error * median_factor(n)))
    up, down = (
        np.logical_and.reduce([p_above(side * centre, own, n) < SIDE for centre, own in centres])
        for side in (sign, -sign)
    )
    return float(up.mean()), float((up | down).mean())


def judged_rate(
    plan: Plan, metric: str, values: np.ndarray, chosen: np.ndarray, yardsticks: pd.DataFrame, kind: str | None
) -> tuple[float, str | None]:
    """Judge pseudo-arms by `judge_study`; returns the rate of SUPPORTED, and why the judge refused, where it did.

    `plan` is that of the A/A runs, `chosen` is (splits, seeds, 2); `yardsticks` holds the frame's rows of the metric with
    role floor and ceiling.
    """
    texts: dict[str, Any] = dict.fromkeys(("margin_reason", "says", "quote", "where", "confidence"), "")
    claim = Claim(
        name="a-a",
        kind="better",
        metric=metric,
        treatment="first",
        reference="second",
        margin=0.0,
        margin_unit="metric",
        **texts,
    )
    roles = {"first": "arm", "second": "arm", "blind": "floor"}
    arms = tuple(PlannedArm(name=name, role=role, variants={}, label=name) for name, role in roles.items())
    pseudo = dataclasses.replace(plan, claims=(claim,), base="first", arms=arms, runs=())
    seeds = chosen.shape[1]
    own = pd.DataFrame({"arm": ["first"] * seeds + ["second"] * seeds, "replicate": [*range(seeds)] * 2})
    own = own.assign(metric=metric, role="arm", overridden=False, signature="a-a", machine="a-a", value=0.0)
    ceiling, floor = (yardsticks[yardsticks["role"] == role] for role in ("ceiling", "floor"))
    ends = [own, ceiling[[*own.columns]]]
    if len(floor):  # its mean stands for every seed, since the A/A runs need not be as many as the blind ones
        row = own.iloc[:seeds].assign(arm="blind", role="floor", value=float(floor["value"].mean()))
        ends.append(row)
    frame = pd.concat([each for each in ends if len(each)], ignore_index=True)
    supported, refused = 0, None
    for pairs in chosen:
        frame.loc[: 2 * seeds - 1, "value"] = values[pairs.T.reshape(-1)]
        (verdict,) = judge_study(pseudo, frame, kind)
        supported += verdict.word == SUPPORTED
        refused = verdict.reason if verdict.word == NOT_TESTABLE else refused
    return supported / len(chosen), refused


def noise_floor(
    plan: Plan,
    metric: str,
    values: ArrayLike,
    seeds: int,
    yardsticks: pd.DataFrame,
    *,
    kind: str | None = None,
    signature: str | None = None,
    pairs: Sequence[PairSpread] = (),
    judged: int = JUDGED,
) -> NoiseFloor:
    """Measure one metric's noise floor from the base arm's replicate values (at least 2 x `seeds` of them).

    `plan`, `yardsticks` and `kind` as in `judged_rate`, which goes over at most `judged` random splits.
    """
    data = np.asarray(values, dtype=float)
    chosen = pseudo_arms(len(data), seeds)
    sd, low, high = sd_interval(data)
    sign = quality_sign(metric)
    better, different = rejection_rates(data[chosen[:, :, 0]] - data[chosen[:, :, 1]], sign)
    few = chosen[np.random.default_rng(0).permutation(len(chosen))[: judged * (metric in METRICS)]]
    rate, refused = judged_rate(plan, metric, data, few, yardsticks, kind) if len(few) else (None, None)
    return NoiseFloor(
        metric=metric,
        sd=sd,
        sd_low=low,
        sd_high=high,
        n=len(data),
        seeds=seeds,
        mde=minimum_detectable(math.sqrt(2) * sd, seeds),
        false_positive_rate=rate,
        judged=len(few),
        better_rate=better,
        different_rate=different,
        splits=len(chosen),
        mean=float(data.mean()),
        values=tuple(data.tolist()),
        signature=signature,
        pairs=tuple(pairs),
        note=refused,
    )


def noise_floors(
    plan: Plan,
    frame: pd.DataFrame,
    base: str,
    seeds: int,
    kind: str | None,
    pairs: Mapping[str, Sequence[PairSpread]],
) -> dict[str, NoiseFloor]:
    """Measure every score of the runs of arm `base`; returns metric -> noise floor.

    Errors: GitbenchError where fewer than 2 x `seeds` runs are finished.
    """
    rows = frame[(frame["arm"] == base) & ~frame["metric"].isin(list(COSTS))]
    found: dict[str, NoiseFloor] = {}
    for metric in ordered(rows["metric"]):
        own = rows[rows["metric"] == metric].sort_values("replicate")
        values = own["value"].to_numpy(dtype=float)
        if len(values) < 2 * seeds:
            raise GitbenchError(
                f"{len(values)} of {2 * seeds} runs have a {metric}: run `gitbench noise-floor` again, or with fewer --seeds"
            )
        if not np.isfinite(values).all() or own["signature"].nunique(dropna=False) > 1:
            continue  # undefined on this data, or scored in two ways: no floor rather than a wrong one
        ends = frame[(frame["metric"] == metric) & frame["role"].isin(["floor", "ceiling"])]
        signature, spreads = own["signature"].iloc[0], pairs.get(metric, ())
        found[metric] = noise_floor(plan, metric, values, seeds, ends, kind=kind, signature=signature, pairs=spreads)
    return found


def pair_spreads(studies: Iterable[tuple[Plan, pd.DataFrame]], seeds: int) -> dict[str, list[PairSpread]]:
    """Return metric -> spread of paired differences from the base, for every arm of studies, each with its frame.

    Scores with fewer than 3 pairs are left out; two ablations that hold the same two arms count once.
    """
    found: dict[str, list[PairSpread]] = {}
    done: set[tuple[str, ...]] = set()
    for plan, frame in studies:
        counted = frame[~frame["overridden"] & (frame["role"] == "arm") & np.isfinite(frame["value"])]
        for arm in (each.name for each in plan.arms if each.name != plan.base and each.role == "arm"):
            own = counted[counted["arm"].isin([arm, plan.base])]
            keys = tuple(sorted(set(own["run_key"].dropna())))
            for metric in ordered(set(own["metric"]) - set(COSTS)) if keys not in done else ():
                rows = own[own["metric"] == metric]
                pair = paired_difference(*(by_replicate(rows[rows["arm"] == name]) for name in (arm, plan.base)))
                if pair is None or pair.interval.n < MIN_REPLICATES or pair.interval.sd is None:
                    continue
                sd, n = pair.interval.sd, pair.interval.n
                named = {"study": plan.ablation, "treatment": arm, "reference": plan.base}
                found.setdefault(metric, []).append(PairSpread(**named, sd=sd, n=n, mde=minimum_detectable(sd, seeds)))
            done.add(keys)
    return found
