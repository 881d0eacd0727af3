"""How long a plan will take: the mean of finished runs of the same arm, else of any arm, else the profile's first guess.

Contrastive pre-training is added once for each that no finished run has started from, guessed by the images it sees.
"""

from __future__ import annotations

from typing import Any

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
    total = sum(seconds[run.arm] for run in todo) + _pretraining_seconds(study)
    return total / max(1, min(at_once, len(todo))), len(todo) < len(study.unique_runs)


def _pretraining_seconds(study: Study) -> float:
    """Guess the seconds of all pre-training that no finished run has started from."""
    finished: set[tuple[Any, ...]] = set()
    to_make: dict[tuple[Any, ...], RunSpec] = {}
    for run in study.unique_runs:
        if run.spec is not None and (recipe := run.spec.variants["encoder_init"].recipe) is not None:
            encoder = (run.spec.variants["encoder"], recipe, run.spec.data.train_images, run.spec.replicate)
            if study.done(run):
                finished.add(encoder)
            else:
                to_make[encoder] = run.spec
    images = sum(
        each[1].iterations * each[1].batch_images / (spec.train.iterations * spec.train.batch_images)
        for each, spec in to_make.items()
        if each not in finished
    )
    return study.plan.run_seconds * images * IMAGE_SHARE
