"""Where a study's report goes, and which of its pictures may be shown in it. Rests on the work directory alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from gitbench.commands.interim_report import note_report
from gitbench.data import data_label, data_names
from gitbench.data.tasks import open_task
from gitbench.errors import GitbenchError
from gitbench.files import read_json, results_folder
from gitbench.machine import machine_label
from gitbench.profiles import get_profile
from gitbench.report import write_report
from gitbench.study.records import load_study, study_files
from gitbench.study.store import completed_record, run_folder, study_file
from gitbench.study.verify import check_records
from gitbench.tasks import get_task, task_label, task_spec


def find_study(work_dir: Path, ablation: str, profile: str, data: str, task: str = "caption") -> str:
    """Return the name of the one study that was asked for; `data` is a name, a folder or a study's own data label.

    Folders carry six digits of their content in the study's name, and overridden options or another BERT a mark
    ("scenes+cfg-0a1b2c"): they need not be given where one study alone can be meant.
    Errors: none or several match; what is there is listed.
    """
    get_task(task)
    listed = [path.stem for path in study_files(work_dir / "studies")]
    if (exact := f"{ablation}.{profile}.{data}") in listed:  # a label as a study has it, with all its marks
        return exact
    label = task_label(data if data in data_names() else data_label(data), task)
    name = f"{ablation}.{profile}.{label}"
    if name in listed:
        return name
    marks = re.compile(re.escape(name) + r"(-[0-9a-f]{6})?(\+[\w+-]+)?")
    found = [each for each in listed if marks.fullmatch(each)]
    found = [each for each in found if "+" not in each] or found  # plain ones first
    if len(found) == 1:
        return found[0]
    there = ", ".join(listed) or "(none)"
    if found:
        labels = ", ".join(study.split(".", 2)[2] for study in found)
        raise GitbenchError(f"several studies match {name}: pass --data with one of {labels}")
    raise GitbenchError(f"no study {name} in {work_dir}: run it first, or pass --profile and --data; found: {there}")


def publish(work_dir: Path, study: str, out: Path | None = None) -> Path:
    """Write the report of a study and return its folder. Only scenes, this project's own, appear as pictures.

    Every score is first put together again from what its run stored per image, and the report is kept as a look at the
    study. Errors: GitbenchError for a record that says something else than its images (`gitbench.study.verify`).
    """
    described = read_json(study_file(work_dir, study))
    judged = load_study(work_dir, *study.split(".", 2))
    check_records(work_dir, judged)
    note_report(work_dir, judged)
    images = None
    task = described.get("task", "caption")
    data = described["data"].split("+")[0].removesuffix(f"-{task}")
    if data in data_names():
        if "test_images" not in described:
            raise GitbenchError(f"{study_file(work_dir, study)} is damaged: delete it and run the ablation again")
        profile = get_profile(described["profile"])
        source = open_task(data, "test", described["test_images"], task_spec(task, profile))
        images = {source.image_id(index): _picture(source.image(index)) for index in range(len(source))}
    ablation, profile_name, label = study.split(".", 2)
    return write_report(work_dir, ablation, profile_name, label, out or default_out(work_dir, described), images=images)


def _picture(image: np.ndarray) -> np.ndarray:
    """Return an image as it is, a film as its frames side by side."""
    return image if image.ndim == 3 else np.concatenate(list(image), axis=1)


def default_out(work_dir: Path, described: dict[str, Any]) -> Path:
    """Return `reports/results/<ablation>/<profile>-<data>-<machine>` of the clone, or of the current folder."""
    name = f"{described['profile']}-{described['data']}-{_machine(work_dir, described)}"
    return results_folder() / described["ablation"] / name


def _machine(work_dir: Path, described: dict[str, Any]) -> str:
    """Return the kind of machine that the runs were made on, as their records say."""
    for run in described["runs"]:
        record = completed_record(run_folder(work_dir, run["run_key"]))
        if record is not None:
            return record["cost"].get("machine", machine_label())
    return machine_label()
