"""Does a study say what its runs stored? Its scores, its run keys and its proof, each put together again.

A record says one number a metric; `per_image.parquet` says what it is made of (`gitbench.metrics.aggregate`). A score that
was edited, or taken from another run, disagrees with its images and stops a report. What none of this can show is that
the images' own values were made up: for that there is `gitbench replicate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from gitbench.errors import GitbenchError
from gitbench.metrics.aggregate import aggregate
from gitbench.run_key import run_key
from gitbench.spec import RunSpec
from gitbench.study.store import Study
from gitbench.variants import run_spec_from_json

CLOSE = 1e-6  # of a score, relative above 1: the same sums in another order differ by 1e-12


def check_records(study: Study) -> None:
    """Raise GitbenchError for the first score that says something else than its images, or for a damaged file."""
    for run in study.unique_runs:
        for finding in _wrong_scores(study, run.run_key):
            raise GitbenchError(finding)


def findings(study: Study) -> Iterator[str]:
    """Yield one line for all that is wrong with a study: scores, damaged files, run keys, the proof."""
    specs: dict[str, RunSpec] = {}
    for run in study.unique_runs:
        try:
            yield from _wrong_scores(study, run.run_key)
            if (record := study.record(run.run_key)) is not None:
                study.predictions(run.run_key)
                study.curve(run.run_key)
                specs[run.run_key] = run_spec_from_json(record["spec"])
        except GitbenchError as error:
            yield str(error)
    sizes = [spec.data.vocabulary_images or spec.data.train_images for spec in specs.values()]
    whole = None if None in sizes else max(filter(None, sizes), default=None)
    for key, spec in specs.items():  # the keys of arms with a part of the data cannot be made without the data itself
        if spec.data.train_images == whole and run_key(spec, study.plan.data_fingerprint) != key:
            yield (
                f"{study.folder(key).record}: the spec and the study's data do not give the run key {key}: it was "
                "changed, or another version of gitbench made it"
            )
    try:
        proof = study.proof
    except GitbenchError as error:
        yield str(error)
        return
    if not study.proven:
        yield (
            f"{study.proof_path} is {'missing' if proof is None else 'the proof of other runs'}: run "
            f"`{study.plan.command}` to prove that the arms differ in their axis alone"
        )


def _wrong_scores(study: Study, key: str) -> Iterator[str]:
    """Yield a line for every score of a run that its images do not give; what keeps nothing of per image is left out."""
    record = study.record(key)
    if record is None:
        return
    table, folder = study.per_image(key), study.folder(key)
    for metric, entry in record["metrics"].items():
        try:
            again = aggregate(table, metric)
        except GitbenchError:  # nothing is stored per image for it
            continue
        said = float(entry["value"])
        if math.isnan(again) != math.isnan(said) or abs(again - said) > CLOSE * max(1.0, abs(said)):
            yield (
                f"{folder.record} says {metric} {said:.6g} but its {folder.per_image.name} gives {again:.6g}: delete the "
                f"folder {folder.path} and run again"
            )
