"""What a work directory holds: the one study that is meant by a name and what else was said of it, or all as a frame."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from gitbench.data import data_label, data_names
from gitbench.errors import GitbenchError
from gitbench.files import load_json
from gitbench.study.frame import build_frame
from gitbench.study.plan_file import check_schema
from gitbench.study.store import NoStudy, Study, existing, open_studies, study_names
from gitbench.tasks import get_task, task_label


def find_study(
    work_dir: str | Path, ablation: str, profile: str | None = None, data: str | None = None, task: str | None = None
) -> Study:
    """Open the one study that was asked for. What is not said (None) may be anything, as long as one study alone is meant.

    `ablation` is a name or the path of an ablation's file; `data` is a name, a folder or a study's own data label.
    Folders carry six digits of their content in the study's name, and overridden options, another tokenizer or BERT,
    another number of seeds or another device a mark ("scenes+cfg-0a1b2c", "scenes+sequential"): they need not be given.
    Errors: none or several match; what is there is listed.
    """
    if task is not None:
        get_task(task)
    listed, wanted = study_names(existing(work_dir)), Path(ablation).stem
    named = [name for name in listed if name.split(".")[0] == wanted and profile in (None, name.split(".")[1])]
    studies = [study for study in (Study.open(work_dir, name) for name in named) if _is_of(study, data, task)]
    if data is not None and (exact := [study for study in studies if study.plan.label == data]):
        studies = exact  # a label as a study has it, with all its marks
    studies = [study for study in studies if "+" not in study.plan.label] or studies  # plain ones first
    if len(studies) == 1:
        return studies[0]
    if studies:
        names = ", ".join(study.name for study in studies)
        raise GitbenchError(f"several studies match: pass --profile, --task and --data for one of {names}")
    asked = ".".join([wanted, profile or "*", data or "*"]) + (f" of the task {task}" if task else "")
    there = ", ".join(listed) or "(none)"
    raise NoStudy(
        f"no study {asked} in {work_dir}: run it first, or pass --profile, --data and --task of one "
        f"that is there; found: {there}"
    )


def _is_of(study: Study, data: str | None, task: str | None) -> bool:
    """Tell whether a study is of this data and task; a whole label says the task too."""
    label, own = study.plan.label, study.plan.task
    if label == data:
        return True
    if data is None or task not in (None, own):
        return task in (None, own)
    asked = task_label(data if data in data_names() else data_label(data), own)
    return re.fullmatch(re.escape(asked) + r"(-[0-9a-f]{6})?(\+[\w+-]+)?", label) is not None


def load_frame(work_dir: str | Path) -> pd.DataFrame:
    """Return every finished result of a work directory as one tidy frame, one row a value (see `frame.COLUMNS`).

    Scores and cost columns are rows alike; `replicate` and `run_key` are missing on ceiling rows. Runs that are
    planned but not finished have no rows. Raises GitbenchError for a missing directory or a damaged record.
    """
    studies = open_studies(work_dir)
    if not studies:
        raise GitbenchError(f"{work_dir} holds no study: run `gitbench run ABLATION` first or pass its --work-dir")
    return build_frame(studies)


def check_version(work_dir: str | Path) -> None:
    """Refuse to write into a work directory that another version of gitbench wrote (GitbenchError)."""
    for name in study_names(work_dir):
        path = Path(work_dir) / "studies" / f"{name}.json"
        if isinstance(values := load_json(path), dict):
            check_schema(path, values)
