"""The scores of captions that were made where there is no Java: added to the results of that proof, and to its page."""

from __future__ import annotations

from pathlib import Path

from gitbench.data.tasks import open_task
from gitbench.errors import GitbenchError
from gitbench.files import write_text
from gitbench.gpu_check.page import RESULTS, write_page
from gitbench.gpu_check.results import Report, Result, append, read
from gitbench.metrics import CaptionScorer
from gitbench.run_folder import RunFolder
from gitbench.spec import TaskSpec
from gitbench.study.scoring import TaskScorer
from gitbench.study.store import read_predictions

CHECK = "scores"
RUN = ("runs", "quiet")  # of the check `resume`


def score(folder: Path) -> list[Result]:
    """Score the captions in the folder of a proof and make its page again; returns all its results.

    Errors: GitbenchError where there are none, or not those of the embedded world's test images.
    """
    results, path = folder / RESULTS, RunFolder(folder.joinpath(*RUN)).predictions
    read(results)
    try:
        rows = read_predictions(path)
    except (OSError, ValueError):
        raise GitbenchError(
            f"{path} holds no captions: bring the whole folder, with a check `resume` that passed"
        ) from None
    source = open_task("scenes", "test", len(rows), TaskSpec())
    with CaptionScorer() as scorer:
        task = TaskScorer.of(source, scorer)
        if [row["image_id"] for row in rows] != list(task.references):
            raise GitbenchError(f"{path} has captions of other images than the first {len(rows)}: run the proof again")
        scores = task.scores(rows)
    lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
    write_text(results, "".join(line for line in lines if f'"check": "{CHECK}"' not in line))
    report = Report(CHECK, results)
    for name, found in scores.values.items():
        report.figure(name, round(found.value, 2), said=f"{len(rows)} images")
    for name, why in scores.absent.items():
        report.not_run(name, why)
    append(results, {"kind": "end", "check": CHECK, "ended": "done", "seconds": 0.0, "said": ""})
    write_page(folder)
    return read(results)[1]
