"""Which runs may be trained together in one process, and how a list of runs is cut into such groups. No torch.

Runs of a group are replicates of one arm: the same spec but for the replicate, which gives all seeds. What has not been
tested equal to a run alone is not grouped: see `why_alone`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gitbench.files import load_json, write_json
from gitbench.runs.plan import PlannedRun
from gitbench.spec import RunSpec

GROUP_FILE = "group.json"  # in a run's folder, once it has a checkpoint from a group

# `--cfg-options` below these change what a group does itself, in a way that it may not know
OWN_PARTS = ("optim_wrapper", "param_scheduler", "train_cfg", "default_hooks", "custom_hooks", "launcher", "env_cfg")
KNOWN_OPTIONS = ("train_cfg.max_iters", "train_cfg.val_interval", "default_hooks.checkpoint.interval")


def why_alone(spec: RunSpec) -> str | None:
    """Return why runs of a spec are trained one by one, None where they may be grouped."""
    if spec.encoder_training.frozen:
        return "a frozen encoder reuses its features"
    if spec.encoder_init.source != "random":
        return "its encoder does not start from random values"
    if spec.decoder_init.source != "random":
        return "its decoder does not start from random values"
    for option in spec.cfg_options:
        if option.startswith(OWN_PARTS) and option not in KNOWN_OPTIONS:
            return f"--cfg-options {option} changes the training itself"
    return None


def arm_key(spec: RunSpec) -> RunSpec:
    """Return what replicates of one arm have in common."""
    return dataclasses.replace(spec, replicate=0)


def grouped(runs: Sequence[PlannedRun], size: int) -> list[list[PlannedRun]]:
    """Cut runs into groups of up to `size` replicates of one arm, each in the place of its first run.

    A remainder becomes a smaller group; what is to be trained alone is a group of one.
    """
    groups: list[list[PlannedRun]] = []
    open_groups: list[tuple[RunSpec, list[PlannedRun]]] = []
    for run in runs:
        key = arm_key(run.spec)
        if size > 1 and why_alone(run.spec) is None:
            place = next((group for other, group in open_groups if other == key and len(group) < size), None)
            if place is not None:
                place.append(run)
                continue
        groups.append([run])
        if size > 1 and why_alone(run.spec) is None:
            open_groups.append((key, groups[-1]))
    return groups


def reasons(runs: Sequence[PlannedRun]) -> dict[str, str]:
    """Return why the runs of an arm are trained one by one, by the name of the arm; an arm that is grouped is left out."""
    found = {run.arm.name: why_alone(run.spec) for run in runs}
    return {arm: why for arm, why in found.items() if why is not None}


def trained_with(folder: Path) -> list[str]:
    """Return the keys of the runs that a run was trained with, [] where it was trained alone."""
    note = load_json(folder / GROUP_FILE)
    return list(note["trained_with"]) if isinstance(note, dict) else []


def add_group_costs(folder: Path) -> None:
    """Put into `trained.json` what the group measured and the process that made the captions could not know.

    Its images a second, and of its memory the run's share. `train_seconds` is the whole group's time, as it went by.
    """
    note, trained = load_json(folder / GROUP_FILE), load_json(folder / "trained.json")
    if not isinstance(note, dict) or not isinstance(trained, dict):
        return
    cost: dict[str, Any] = trained["cost"]
    cost["train_images_per_second"] = cost["train_images_per_second"] or note["train_images_per_second"]
    cost["peak_memory_bytes"] = max(cost["peak_memory_bytes"], note["peak_memory_bytes"])
    write_json(folder / "trained.json", trained)
