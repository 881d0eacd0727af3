"""Do the scores of a record follow from what its run stored per image? Each is put together again before a report is made.

A record says one number a metric; `per_image.parquet` says what it is made of (`gitbench.metrics.aggregate`). A score that
was edited, or taken from another run, disagrees with its images and stops the report. What no table of a report can show
is that the images' own values were made up: for that there is `gitbench replicate`.
"""

from __future__ import annotations

import math
from pathlib import Path

from gitbench.errors import GitbenchError
from gitbench.metrics.aggregate import aggregate
from gitbench.study.records import Study, load_per_image, load_record

CLOSE = 1e-6  # of a score, relative above 1: the same sums in another order differ by 1e-12


def check_records(work_dir: str | Path, study: Study) -> int:
    """Put every score of the finished runs of a study together again; return how many were.

    A score that its run keeps nothing of per image is left out. Errors: GitbenchError that names the first record that
    says something else than its images, or a damaged or missing table.
    """
    checked = 0
    for key in dict.fromkeys(run.run_key for run in study.runs):
        record = load_record(work_dir, key)
        if record is None:
            continue
        table = load_per_image(work_dir, key)
        for metric, entry in record["metrics"].items():
            try:
                again = aggregate(table, metric)
            except GitbenchError:  # nothing is stored per image for it
                continue
            said = float(entry["value"])
            if math.isnan(again) != math.isnan(said) or abs(again - said) > CLOSE * max(1.0, abs(said)):
                path = Path(work_dir) / "runs" / key
                raise GitbenchError(
                    f"{path / 'record.json'} says {metric} {said:.6g} but its per_image.parquet gives {again:.6g}: "
                    f"delete the folder {path} and run again"
                )
            checked += 1
    return checked
