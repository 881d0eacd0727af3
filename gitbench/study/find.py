"""Which study of a work directory is meant by an ablation's name and what else was said of it."""

from __future__ import annotations

import re
from pathlib import Path

from gitbench.data import data_label, data_names
from gitbench.errors import GitbenchError
from gitbench.study.store import Study, existing, study_names
from gitbench.tasks import get_task, task_label


def find_study(
    work_dir: str | Path, ablation: str, profile: str | None = None, data: str | None = None, task: str = "caption"
) -> Study:
    """Open the one study that was asked for; what is not said may be anything, as long as one study alone can be meant.

    `data` is a name, a folder or a study's own data label. Folders carry six digits of their content in the study's
    name, and overridden options or another BERT a mark ("scenes+cfg-0a1b2c"): they need not be given.
    Errors: none or several match; what is there is listed.
    """
    get_task(task)
    listed = study_names(existing(work_dir))
    named = [name for name in listed if name.split(".")[0] == Path(ablation).stem]
    found = [name for name in named if profile in (None, name.split(".")[1]) and _is_of(_label(name), data, task)]
    if data is not None and (exact := [name for name in found if _label(name) == data]):
        found = exact  # a label as a study has it, with all its marks
    found = [name for name in found if "+" not in _label(name)] or found  # plain ones first
    if len(found) == 1:
        return Study.open(work_dir, found[0])
    if found:
        raise GitbenchError(f"several studies match: pass --profile and --data for one of {', '.join(found)}")
    asked = ".".join([ablation, profile or "*", data or "*"])
    there = ", ".join(listed) or "(none)"
    raise GitbenchError(f"no study {asked} in {work_dir}: run it first, or pass --profile and --data; found: {there}")


def _label(name: str) -> str:
    return name.split(".", 2)[2]


def _is_of(label: str, data: str | None, task: str) -> bool:
    """Tell whether a study's data label is of this data and task."""
    if data is None:
        base = label.split("+")[0]
        tasks = [
            each for each in ("vqa", "video", "classify", "read") if re.search(rf"-{each}(-[0-9a-f]{{6}})?$", base)
        ]
        return tasks == ([] if task == "caption" else [task])
    wanted = task_label(data if data in data_names() else data_label(data), task)
    return label == data or re.fullmatch(re.escape(wanted) + r"(-[0-9a-f]{6})?(\+[\w+-]+)?", label) is not None
