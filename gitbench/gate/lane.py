"""A process of short trainings: it trains and scores what FOLDER/asked.json names and no other such process has begun.

    python -m gitbench.gate.lane FOLDER

A training goes through the code of every run: plan, config, run folder, `gitbench.training.run.execute`, scorer. What was seen of
it is its `observed.json`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from gitbench import plugins
from gitbench.data.tasks import TaskSource, open_task
from gitbench.errors import in_short
from gitbench.files import read_json, write_json, write_text
from gitbench.gate.saved import said_by_saved
from gitbench.gate.trainings import ASKED, OBSERVED, Asked, Training, planned
from gitbench.gate.watch import STEPS, digest
from gitbench.machine import cpu_name
from gitbench.metrics import CaptionScorer
from gitbench.processes import end_with_parent, leave
from gitbench.run_folder import RunFolder
from gitbench.run_key import from_json
from gitbench.spec import TaskSpec
from gitbench.study.config import config_text, make_config
from gitbench.study.scoring import TaskScorer
from gitbench.training.hooks import read_curve
from gitbench.training.run import execute

ONCE = 3  # steps of a training in which it may come to hold something for good
RUN, RESUMED = "run", "resumed"  # folders of a training


def write_runs(folder: Path, training: Training, asked: Asked) -> None:
    """Write the folder of a training's run, and of the one that begins again in its middle."""
    plan, run = planned(training, asked.device)
    config = make_config(run.resolved, plan.vocabulary, run.run_key)
    config.custom_hooks.append(dict(type="StepWatchHook"))
    if asked.disturbance.nudge is not None:
        config.custom_hooks.append(dict(type="NudgeHook", seed=asked.disturbance.nudge))
    if training.resumed:
        write_text(RunFolder(folder / RESUMED).config, config_text(config))
        config.custom_hooks.append(dict(type="ForkHook", at=training.middle, folder=str(folder / RESUMED)))
    write_text(RunFolder(folder / RUN).config, config_text(config))


def observe(folder: Path, training: Training, asked: Asked, scorer: CaptionScorer) -> None:
    """Train in a folder, and write what was seen of it."""
    write_runs(folder, training, asked)
    found: dict[str, Any] = {}
    for name in (RUN, RESUMED) if training.resumed else (RUN,):
        execute(folder / name)
        found[name] = seen(RunFolder(folder / name), scorer, asked.said.get(training.name))
    if asked.device == "cpu":
        run = RunFolder(folder / RUN)
        found["saved"] = said_by_saved(run, test_source(run))
    here = {"cpu": cpu_name(), "capability": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}
    write_json(folder / OBSERVED, {**found, "computed": here})
    for name in (RUN, RESUMED):
        shutil.rmtree(folder / name, ignore_errors=True)


def seen(run: RunFolder, scorer: CaptionScorer, said: dict[str, Any] | None) -> dict[str, Any]:
    """Return what a finished run left: `exact` values and `numbers`, each a list by step or by test image.

    `said`: the captions that are scored, None for the run's own.
    """
    trained, steps = read_json(run.trained), read_json(run.path / STEPS)
    rows = [json.loads(line) for line in run.predictions.read_text(encoding="utf-8").splitlines()]
    weights = torch.load(run.weights, map_location="cpu", weights_only=True)["state_dict"]
    words = {name: [row[name] for row in rows if name in row] for name in ("image_id", "caption", "closed", "tokens")}
    return {
        "exact": {
            **steps["exact"],
            **words,
            "references": [digest(row["references"]) for row in rows],
            "parameters": [trained["cost"]["parameters"]],
        },
        "numbers": {
            **steps["numbers"],
            "val_nll": [loss for _, split, loss, _ in read_curve(run.curve) if split == "val"],
            "train_nll": [trained["train_nll"]],
            "test_nll": [trained["test_nll"]],
            "score": [row["score"] for row in rows],
            "nll": [row["nll"] for row in rows],
        },
        "bytes_a_step": left_behind(steps["bytes"]),
        "metrics": scored(test_source(run), scorer, words if said is None else said),
        "weights": digest(*(part for name in sorted(weights) for part in (name, weights[name].numpy().tobytes()))),
    }


def test_source(run: RunFolder) -> TaskSource:
    """Return the test split of a run."""
    dataset = run.read_config().test_dataloader.dataset
    return open_task(dataset.data, "test", dataset.data_spec.test_images, TaskSpec(**dataset.task))


def left_behind(alive: list[int]) -> float:
    """Return how many bytes more a step finds alive than the one before, on average after the first quarter.

    The largest changes are left out: what is made once, at the first validation or when a cache is filled, is no leak.
    """
    changes = [later - earlier for earlier, later in pairwise(alive[len(alive) // 4 :])]
    kept = sorted(changes)[: len(changes) - ONCE]
    return sum(kept) / max(1, len(kept))


def scored(source: TaskSource, scorer: CaptionScorer, words: dict[str, Any]) -> dict[str, float]:
    """Return metric -> score of captions; none where they are of other images."""
    names = ["image_id", "caption", *(["closed"] if words["closed"] else [])]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*(words[name] for name in names), strict=True)]
    scorer_of_task = TaskScorer.of(source, scorer)
    if [row["image_id"] for row in rows] != list(scorer_of_task.references):
        return {}
    return {name: score.value for name, score in scorer_of_task.scores(rows).values.items()}


def main(folder: Path) -> int:
    """Do what a folder's `asked.json` names, as far as no other process has begun it; returns the exit status."""
    end_with_parent(os.getppid())
    name = "the trainings"
    try:
        plugins.load()
        asked = from_json(Asked, read_json(folder / ASKED))
        with CaptionScorer(meteor=False, spice=False) as scorer:
            for training in asked.trainings:
                own = folder / training.name
                try:
                    own.mkdir()
                except FileExistsError:
                    continue
                name = training.name
                observe(own, training, asked, scorer)
        return 0
    except Exception as error:
        traceback.print_exc()
        print(f"{name}: {in_short(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    leave(main(Path(sys.argv[1])))
