"""Plans, claims and frames for tests of the judge: values made up in memory, no file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gitbench.judge import Verdict, judge_study
from gitbench.judge.aa import noise_floor
from gitbench.judge.noise import NoiseFloor
from gitbench.plan import Plan, PlannedArm, PlannedRun, Vocabulary
from gitbench.spec import Claim
from gitbench.study.frame import COLUMNS

FLOOR, CEILING = 20.0, 180.0
NOISE = np.array([-1.0, 0.4, 0.9, -0.5, 0.2])  # mean 0, median 0.2, sd 0.74; its 95 % interval is -1.03 to 1.03


def claim_of(kind: str, **changes: Any) -> Claim:
    """Return a claim about the arms d (treatment) and a (reference), in points of CIDEr."""
    values = {"name": kind, "kind": kind, "metric": "CIDEr", "treatment": "d", "reference": "a", "margin": 0.0}
    values |= {"margin_unit": "metric", "margin_reason": "why", "says": "It is so.", "quote": "so", "where": "p. 1"}
    return Claim(**{**values, "confidence": "SQ", **changes})


CLAIMS = {
    "better": claim_of("better"),
    "not_better": claim_of("not_better", margin=2.0),
    "equivalent": claim_of("equivalent", margin=4.0),
    "interaction": claim_of("interaction", treatment_from="c", reference="b", reference_from="a"),
    "trend": claim_of("trend", along=("a", "b", "d")),
}


def plan_of(*claims: Claim, arms: str = "abcd", runs: tuple[tuple[str, int], ...] = ()) -> Plan:
    """Return a plan of arms with names of one letter, and of the blind arm; `runs` are (arm, replicate)."""
    listed = [PlannedArm(name=name, role="arm", variants={}, label=f"arm {name}") for name in arms]
    listed.append(PlannedArm(name="blind", role="floor", variants={}, label="blind"))
    texts = dict.fromkeys(("profile", "data", "data_fingerprint", "command", "title", "question", "axis"), "x")
    return Plan(
        ablation="ab",
        base="a",
        claims=claims,
        arms=tuple(listed),
        runs=tuple(PlannedRun(arm=arm, replicate=each, run_key=f"{arm}{each}") for arm, each in runs),
        vocabulary=Vocabulary(size=9, pad_id=0, bos_id=1, eos_id=2),
        yardstick_key=None,
        **texts,
    )


def frame_of(
    scores: pd.DataFrame,
    *,
    floor: float | None = FLOOR,
    ceiling: float | None = CEILING,
    metric: str = "CIDEr",
    seconds: float = 30.0,
    machine: str = "cpu2",
) -> pd.DataFrame:
    """Return the frame of a study with its costs: `scores` is replicate x arm."""
    shared = dict.fromkeys(COLUMNS) | {"overridden": False, "signature": "s", "machine": machine, "metric": metric}
    rows = [
        shared | {"arm": arm, "role": "arm", "replicate": replicate, "value": value, "run_key": f"{arm}{replicate}"}
        for arm in scores.columns
        for replicate, value in scores[arm].dropna().items()
    ]
    for at in range(len(scores)) if floor is not None else ():
        rows.append(
            shared | {"arm": "blind", "role": "floor", "replicate": at, "value": floor, "run_key": f"blind{at}"}
        )
    rows += [{**row, "metric": "seconds", "value": seconds, "signature": None} for row in rows]
    if ceiling is not None:
        rows.append(shared | {"arm": "ceiling", "role": "ceiling", "value": ceiling, "machine": None})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"replicate": "Int64", "value": "float64", "overridden": "bool"})


def steps(slope: float, noise: np.ndarray = NOISE, start: float = 110.0) -> pd.DataFrame:
    """Arms on a line over their places: a at 0, b at 1, c at 2, d at 3; the slope varies by replicate as `noise`."""
    base = start + np.linspace(-3, 3, len(noise))  # what the arms of one replicate have in common
    return pd.DataFrame({arm: base + place * (slope + noise) for place, arm in enumerate("abcd")})


def pair(lead: float, noise: np.ndarray = NOISE, base: float = 110.0) -> pd.DataFrame:
    """Return the scores of a and d, which leads by `lead` and this noise."""
    shared = base + np.linspace(-3, 3, len(noise))
    return pd.DataFrame({"a": shared, "d": shared + lead + noise})


def judged(
    *claims: Claim, scores: pd.DataFrame, looks: int = 0, kind: str = "grammar", **options: Any
) -> list[Verdict]:
    """Judge claims on the frame of `scores`; `options` are those of `frame_of`."""
    return judge_study(plan_of(*claims), frame_of(scores, **options), kind, looks=looks)


def measured_noise(
    metric: str, values: list[float], floor: float | None = None, judged: int = 3, **options: Any
) -> NoiseFloor:
    """Measure values in two pseudo-arms of 3 seeds, below a ceiling of 120 and above this blind floor."""
    return noise_floor(plan_of(), metric, values, 3, yardsticks(metric, floor, 120.0), judged=judged, **options)


def noise_of_sd(sd: float, metric: str = "CIDEr", **options: Any) -> dict[str, NoiseFloor]:
    """Return the noise floor of six replicates with this spread."""
    values = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    return {metric: measured_noise(metric, (50 + sd * values / values.std(ddof=1)).tolist(), **options)}


def yardsticks(metric: str, floor: float | None, ceiling: float) -> pd.DataFrame:
    """Return the rows of a frame that hold the blind floor and the ceiling; none without a floor."""
    rows = [{"arm": role, "role": role, "value": value} for role, value in (("floor", floor), ("ceiling", ceiling))]
    found = pd.DataFrame(rows if floor is not None else [], columns=list(COLUMNS))
    return found.assign(replicate=0, metric=metric, overridden=False, signature="s", machine="m")
