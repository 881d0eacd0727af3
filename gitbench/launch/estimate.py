"""How long a plan will take: the mean of finished runs of the same arm, else of any arm, else the profile's first guess.

Contrastive pre-training that runs share and that is still to be made is added once: what an earlier one of its recipe
took, else a first guess by the number of images it sees. It counts as made where a finished run started from it, or
where the cache holds it with a note (`data.pretrained`).
"""

from __future__ import annotations

from typing import Any

from gitbench.data import pretrained as pretraining
from gitbench.data.tasks import open_task
from gitbench.seeding import derive_seed
from gitbench.spec import RunSpec
from gitbench.study.store import Study

# An image of pre-training costs this share of one in a run, with its decoder, captions and test: 50 s for 16,000 images
# against 75 s for 8,000 in the cpu profile.
IMAGE_SHARE = 1 / 3


def mean_seconds(study: Study) -> dict[str, float]:
    """Return the mean seconds of a run of each arm: of its finished ones, else of all, else the profile's first guess."""
    known: dict[str, list[float]] = {run.arm: [] for run in study.plan.runs}
    for run in study.plan.runs:
        record = study.folder(run.run_key).completed_record()
        if record is not None:
            known[run.arm].append(record["cost"]["seconds"])
    everything = [seconds for arm in known.values() for seconds in arm]
    fallback = sum(everything) / len(everything) if everything else study.plan.run_seconds
    return {arm: sum(seconds) / len(seconds) if seconds else fallback for arm, seconds in known.items()}


def estimate_seconds(study: Study, at_once: int) -> tuple[float, bool]:
    """Return (seconds with `at_once` slots, whether the runs' share of it rests on finished runs)."""
    seconds = mean_seconds(study)
    todo = [run for run in study.unique_runs if not study.done(run)]
    total = sum(seconds[run.arm] for run in todo) + sum(each for _, each in pretraining_to_do(study))
    return total / max(1, min(at_once, len(todo))), len(todo) < len(study.unique_runs)


def pretraining_to_do(study: Study) -> list[tuple[dict[str, Any], float]]:
    """Return what is to be pre-trained for the unfinished runs of a study: (its description, estimated seconds) each."""
    wanted: list[tuple[RunSpec, dict[str, Any]]] = []
    made = list(pretraining.kept())
    finished: list[dict[str, Any]] = []
    for run in study.unique_runs:
        if run.spec is None or run.spec.variants["encoder_init"].recipe is None:
            continue
        of = _description(run.spec)
        record = study.folder(run.run_key).completed_record()
        if record is None:
            wanted.append((run.spec, of))
            continue
        finished.append(of)
        if record["cost"].get("pretrain_seconds") is not None:
            made.append((of, record["cost"]["pretrain_seconds"]))
    there = [*finished, *(of for of, _ in made)]
    todo: list[tuple[dict[str, Any], float]] = []
    for spec, of in wanted:
        if of not in there:
            there.append(of)
            todo.append((of, _seconds(study.plan.run_seconds, spec, of, made)))
    return todo


def _description(spec: RunSpec) -> dict[str, Any]:
    return pretraining.description(
        spec.variants["encoder"],
        spec.variants["encoder_init"].recipe,
        spec.data,
        spec.text,
        data=open_task(spec.data_name, "train", spec.data.train_images, spec.task).fingerprint(),
        seed=derive_seed("contrastive", spec.replicate),
    )


def _seconds(run_seconds: float, spec: RunSpec, of: dict[str, Any], made: list[tuple[dict[str, Any], float]]) -> float:
    """Estimate one pre-training: the mean of those of its encoder and recipe, else a first guess by the images."""
    known = [seconds for other, seconds in made if all(other[part] == of[part] for part in ("encoder", "recipe"))]
    if known:
        return sum(known) / len(known)
    recipe = spec.variants["encoder_init"].recipe
    share = recipe.iterations * recipe.batch_images / (spec.train.iterations * spec.train.batch_images)
    return run_seconds * share * IMAGE_SHARE
