"""Measure the noise floor: train one arm in many replicates (A/A), and write what is to be seen in it.

`gitbench noise-floor [--profile P] [--data D] [--seeds N]`: the profile's own model, the base arm of most ablations,
in 2 N replicates (N: the profile's number of seeds, at least 3), so that they split into two pseudo-arms as large as
a study's. Base runs that a study of the same work directory has finished are found by their keys and not run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from gitbench.commands.publish import default_out
from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.judge.aa import measure
from gitbench.judge.compare import paired_difference
from gitbench.judge.noise import NOISE_ABLATION, NoiseFloor, PairSpread, minimum_detectable, write_noise_floor
from gitbench.report.noise import write_noise_report
from gitbench.scores import COSTS, ordered
from gitbench.spec import Ablation, Arm, Profile
from gitbench.study.plan import BLIND, Plan, make_plan, with_seeds
from gitbench.study.records import Study, build_frame, load_studies, load_study, load_yardstick
from gitbench.study.store import study_file

FEWEST = 3  # seeds of a pseudo-arm: what a verdict needs
FLOOR_RUNS = 2  # of the blind arm: the judge wants a floor, and the proof of the arms compares two replicates
BASE = "base"


def noise_ablation(profile: Profile) -> Ablation:
    """Return the ablation of one arm that the A/A runs are planned as: the profile's own model."""
    return Ablation(
        name=NOISE_ABLATION,
        title="Noise floor",
        question="How far apart are replicates of one and the same arm?",
        axis="decoder",
        arms={profile.name: (Arm(name=BASE, variants={"decoder": profile.decoder}),)},
        base=BASE,
    )


def noise_plan(
    profile: Profile,
    data: str,
    work_dir: Path,
    seeds: int | None = None,
    *,
    tokenizer_path: str | None = None,
    task_name: str = "caption",
) -> tuple[Plan, int]:
    """Return the plan of the A/A runs and the seeds of a pseudo-arm. Errors: GitbenchError for fewer than 3 seeds."""
    if seeds is not None and seeds < FEWEST:
        raise GitbenchError(f"--seeds {seeds}: a pseudo-arm needs at least the {FEWEST} seeds that a verdict does")
    each = max(FEWEST, profile.replicates) if seeds is None else seeds
    plan = make_plan(
        noise_ablation(profile),
        profile,
        data,
        work_dir,
        replicates=2 * each,
        tokenizer_path=tokenizer_path,
        task_name=task_name,
    )
    return with_seeds(plan, {BASE: 2 * each, BLIND.name: FLOOR_RUNS}), each


def measure_plan(plan: Plan, seeds: int) -> dict[str, NoiseFloor]:
    """Measure every score of the finished base runs of a plan and write the noise file; returns metric -> floor.

    Errors: GitbenchError where fewer than 2 x `seeds` runs are finished.
    """
    study = load_study(plan.work_dir, plan.ablation.name, plan.profile.name, plan.label)
    frame = build_frame(plan.work_dir, [study])
    kind = (load_yardstick(plan.work_dir, study) or {}).get("kind")
    base = frame[(frame["arm"] == BASE) & ~frame["metric"].isin(list(COSTS))]
    pairs = pair_spreads(plan.work_dir, study, seeds)
    floors: dict[str, NoiseFloor] = {}
    for metric in ordered(base["metric"]):
        own = base[base["metric"] == metric].sort_values("replicate")
        values = own["value"].to_numpy(dtype=float)
        if len(values) < 2 * seeds:
            raise GitbenchError(
                f"{len(values)} of {2 * seeds} runs have a {metric}: run `gitbench noise-floor` again, or with fewer --seeds"
            )
        if not np.isfinite(values).all() or own["signature"].nunique(dropna=False) > 1:
            continue  # undefined on this data, or scored in two ways: no floor rather than a wrong one
        floors[metric] = measure(
            metric,
            values.tolist(),
            seeds,
            frame[(frame["metric"] == metric) & frame["role"].isin(["floor", "ceiling"])],
            kind=kind,
            signature=own["signature"].iloc[0],
            pairs=pairs.get(metric, ()),
        )
    about = {
        "profile": plan.profile.name,
        "data": plan.label,
        "data_fingerprint": study.data_fingerprint,
        "command": study.command,
        "machine": sorted(set(base["machine"].dropna())),
        "seeds": seeds,
        "runs": sorted(set(base["run_key"].dropna())),
    }
    write_noise_floor(plan.work_dir, plan.profile.name, plan.label, floors, about)
    return floors


def pair_spreads(work_dir: Path, noise: Study, seeds: int) -> Mapping[str, list[PairSpread]]:
    """Return metric -> the spread of paired differences from the base, for every arm of the studies beside it."""
    found: dict[str, list[PairSpread]] = {}
    done: set[tuple[str, ...]] = set()
    for study in load_studies(work_dir):
        same = (study.profile, study.data, study.data_fingerprint) == (
            noise.profile,
            noise.data,
            noise.data_fingerprint,
        )
        if not same or study.ablation == NOISE_ABLATION:
            continue
        frame = build_frame(work_dir, [study])
        frame = frame[~frame["overridden"] & (frame["role"] == "arm")]
        for arm in (each.name for each in study.arms if each.name != study.base and each.role == "arm"):
            keys = tuple(sorted(set(frame.loc[frame["arm"].isin([arm, study.base]), "run_key"].dropna())))
            if keys not in done:  # two ablations may hold the same two arms
                for metric, spread in _spreads(study, frame, arm, seeds):
                    found.setdefault(metric, []).append(spread)
            done.add(keys)
    return found


def _spreads(study: Study, frame: pd.DataFrame, arm: str, seeds: int) -> Iterator[tuple[str, PairSpread]]:
    """Yield (metric, spread of arm minus base) for every score with 3 pairs or more."""
    for metric in ordered(frame.loc[frame["arm"] == arm, "metric"]):
        own = frame[(frame["metric"] == metric) & np.isfinite(frame["value"])]
        first, second = (
            own[own["arm"] == name].set_index("replicate")["value"].astype(float) for name in (arm, study.base)
        )
        pair = None if metric in COSTS else paired_difference(first, second)
        if pair is None or pair.interval.n < FEWEST or pair.interval.sd is None:
            continue
        sd = pair.interval.sd
        yield (
            metric,
            PairSpread(
                study=study.ablation,
                treatment=arm,
                reference=study.base,
                sd=sd,
                n=pair.interval.n,
                mde=minimum_detectable(sd, seeds),
            ),
        )


def publish_noise_floor(plan: Plan, floors: Mapping[str, NoiseFloor], out: Path | None = None) -> Path:
    """Write the report of a noise floor and return its folder."""
    folder = out or default_out(plan.work_dir, read_json(study_file(plan.work_dir, plan.study)))
    write_noise_report(folder, floors, profile=plan.profile.name, data=plan.label)
    return folder
