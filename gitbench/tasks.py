"""The tasks: what a run is asked for with `--task`, and what that changes in a profile and in the claims. No torch.

Every task is text generation with the same model, loss and loop (paper, p. 4): "caption", "vqa" (the question is given
as a prefix, loss on the answer and [SEP] only), "video" (frames through one encoder), "classify" and "read" (the label,
or the text in the image, is generated; also restricted to the closed vocabulary of all labels).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args, get_type_hints

from gitbench.errors import lookup
from gitbench.metric_info import lower_is_better
from gitbench.spec import Claim, Profile, TaskSpec

QUESTION_TOKENS = 40  # official `max_text_len`: a question with its answer


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task's main score, and the embedded data that it uses where none is named."""

    doc: str
    metric: str
    data: str = "scenes"
    closed: bool = False  # also generated within the closed vocabulary of all labels


TASKS = {
    "caption": Task(doc="describe the image", metric="CIDEr"),
    "vqa": Task(doc="answer a question about the image, given as a prefix", metric="VQA"),
    "video": Task(doc="describe a film, from a few of its frames", metric="CIDEr", data="scenes-motion"),
    "classify": Task(doc="name the class of the image", metric="accuracy", closed=True),
    "read": Task(doc="read the text in the image", metric="accuracy", closed=True),
}
assert set(TASKS) == set(get_args(get_type_hints(TaskSpec)["name"]))


def get_task(name: str) -> Task:
    """Return a task by name; an unknown name raises an error that offers the nearest one."""
    return lookup("task", name, TASKS)


def task_spec(name: str, profile: Profile) -> TaskSpec:
    """Return the values of a task at the size of a profile."""
    get_task(name)
    return TaskSpec(name=name, frames=profile.frames if name == "video" else 0)  # type: ignore[arg-type]


def for_task(profile: Profile, task: TaskSpec) -> Profile:
    """Return the profile as the task's texts need it: room for a question before its answer; a label is one text."""
    if TASKS[task.name].closed:
        return dataclasses.replace(profile, train=dataclasses.replace(profile.train, captions_per_image=1))
    if task.name != "vqa":
        return profile
    tokens = max(profile.text.max_tokens, QUESTION_TOKENS)
    return dataclasses.replace(
        profile,
        text=dataclasses.replace(profile.text, max_tokens=tokens),
        evaluate=dataclasses.replace(profile.evaluate, max_length=max(profile.evaluate.max_length, tokens + 2)),
    )


def claims_for(claims: Sequence[Claim], task: TaskSpec) -> tuple[Claim, ...]:
    """Return the claims as they stand under a task: judged by its main score.

    A margin in points of another score means nothing there, so only margins of 0 and shares of what was learned go over; a
    trend does only to a score that is better in the same direction.
    """
    metric = TASKS[task.name].metric
    if metric == TASKS["caption"].metric:
        return tuple(claims)
    kept = (claim for claim in claims if claim.margin_unit == "learned" or claim.margin == 0)
    kept = (
        claim for claim in kept if claim.kind != "trend" or lower_is_better(claim.metric) == lower_is_better(metric)
    )
    return tuple(dataclasses.replace(claim, metric=metric) for claim in kept)


def task_label(data: str, task: str) -> str:
    """Return the label of a data set in a study's name; the task of captions goes without saying."""
    return data if task == "caption" else f"{data}-{task}"
