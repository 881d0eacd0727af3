"""How long a plan will take: the mean of finished runs of the same arm, else of any arm, else the profile's first guess.

Contrastive pre-training that runs share and that is still to be made is added once: what an earlier one of its recipe
took, else a first guess by the number of images it sees. It counts as made where a finished run started from it, or
where the cache holds it with a note (`data.pretrained`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from gitbench.data import pretrained as pretraining
from gitbench.data.tasks import open_task
from gitbench.seeding import derive_seed
from gitbench.spec import Profile, RunSpec
from gitbench.study.plan import Plan
from gitbench.study.store import completed_record

# An image of pre-training costs this share of one in a run, with its decoder, captions and test: 50 s for 16,000 images
# against 75 s for 8,000 in the cpu profile.
IMAGE_SHARE = 1 / 3


def estimate_seconds(plan: Plan, at_once: int) -> tuple[float, bool]:
    """Return (seconds with `at_once` slots, whether the runs' share of it rests on finished runs)."""
    known: dict[str, list[float]] = defaultdict(list)
    todo = []
    for run in {run.key: run for run in plan.runs}.values():
        record = completed_record(run.folder)
        if record is None:
            todo.append(run.arm.name)
        else:
            known[run.arm.name].append(record["cost"]["seconds"])
    everything = [seconds for arm in known.values() for seconds in arm]
    fallback = sum(everything) / len(everything) if everything else plan.profile.run_seconds
    total = sum(sum(known[arm]) / len(known[arm]) if arm in known else fallback for arm in todo)
    total += sum(seconds for _, seconds in pretraining_to_do(plan))
    return total / max(1, min(at_once, len(todo))), bool(everything)


def pretraining_to_do(plan: Plan) -> list[tuple[dict[str, Any], float]]:
    """Return what is to be pre-trained for the unfinished runs of a plan: (its description, estimated seconds) each."""
    wanted: list[tuple[RunSpec, dict[str, Any]]] = []
    made = list(pretraining.kept())
    finished: list[dict[str, Any]] = []
    for run in {run.key: run for run in plan.runs}.values():
        if run.spec.encoder_init.recipe is None:
            continue
        of = _description(plan, run.spec)
        record = completed_record(run.folder)
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
            todo.append((of, _seconds(plan.profile, spec, of, made)))
    return todo


def _description(plan: Plan, spec: RunSpec) -> dict[str, Any]:
    assert spec.encoder_init.recipe is not None
    return pretraining.description(
        spec.encoder,
        spec.encoder_init.recipe,
        spec.data,
        spec.text,
        data=open_task(plan.data, "train", spec.data.train_images, spec.task).fingerprint(),
        seed=derive_seed("contrastive", spec.replicate),
    )


def _seconds(profile: Profile, spec: RunSpec, of: dict[str, Any], made: list[tuple[dict[str, Any], float]]) -> float:
    """Estimate one pre-training: the mean of those of its encoder and recipe, else a first guess by the images."""
    known = [seconds for other, seconds in made if all(other[part] == of[part] for part in ("encoder", "recipe"))]
    if known:
        return sum(known) / len(known)
    recipe = spec.encoder_init.recipe
    assert recipe is not None
    share = recipe.iterations * recipe.batch_images / (spec.train.iterations * spec.train.batch_images)
    return profile.run_seconds * share * IMAGE_SHARE
