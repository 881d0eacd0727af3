"""Which column of a table holds what: the image, its id, captions, questions and answers, a label, the split.

Columns are known by the names that data sets give them. Two that fit one role are an error that names both, unless they
are told apart by what they hold; `columns` in a data set's name (`--columns image=jpg,captions=txt`) decides otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gitbench.errors import GitbenchError, unknown_name

ROLES = ("image", "image_id", "captions", "question", "question_id", "answers", "label", "text", "split")
# role -> names, as published data sets have them
NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "images", "img", "picture", "photo", "pixel_values", "jpg", "jpeg", "png", "webp"),
    "path": (
        "file_name",
        "filename",
        "image_path",
        "filepath",
        "file_path",
        "file",
        "path",
        "image_name",
        "image_file",
    ),
    "image_id": ("image_id", "imgid", "img_id", "cocoid", "image_open_images_id"),
    "captions": (
        *("captions", "caption", "sentences", "sentence", "caption_str", "annotations_captions"),
        *("raw", "comment", "description", "reference_strs", "txt", "text", "texts"),
    ),
    "question": ("question", "questions"),
    "question_id": ("question_id", "qid", "questionId"),
    "answers": ("answers", "answer"),
    "label": ("label", "labels", "class", "cls"),
    "text": ("text", "word", "words", "txt"),
    "split": ("split", "set_name"),
}
NEEDED = {
    "caption": "captions",
    "vqa": "question",
    "classify": "label",
    "read": "text",
}  # task -> role beside the image
# Where several names of a role are there, those of the first group that has any.
_RANKS = {
    # TextCaps repeats its captions as references; a text may be anything
    "captions": (NAMES["captions"][:-4], ("reference_strs",), ("txt", "text", "texts")),
    # Karpathy counts COCO's images anew; nocaps keeps the ids of Open Images
    "image_id": (("image_id",), ("cocoid",), ("imgid", "img_id"), ("image_open_images_id",)),
}
# Layouts whose names mislead: the columns by which one is known, and task -> role -> columns.
_KNOWN: tuple[tuple[frozenset[str], Mapping[str, Mapping[str, tuple[str, ...]]]], ...] = (
    # lmms-lab/COCO-Caption: `question` is one prompt for all images, `answer` its captions
    (
        frozenset(("question_id", "image", "question", "answer", "id", "file_name", "height", "width")),
        {"caption": {"captions": ("answer",), "image_id": ("id",)}},
    ),
)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table by role; several for captions alone."""

    image: str
    image_id: str | None = None
    captions: tuple[str, ...] = ()
    question: str | None = None
    question_id: str | None = None
    answers: str | None = None
    label: str | None = None
    text: str | None = None
    split: str | None = None


def columns_of(
    names: Sequence[str], task: str, asked: Mapping[str, Sequence[str]], where: str, pixels: Sequence[str] = ()
) -> Columns:
    """Choose the columns that a task needs.

    names: the table's columns; asked: role -> columns that the user named; pixels: the columns that hold images themselves,
    not names of files. Errors: GitbenchError for a role that no column fits, or two, and for a wish that cannot be met.
    """
    for role, wanted in asked.items():
        if role not in ROLES:
            raise unknown_name("column role", role, ROLES)
        for name in wanted:
            if name not in names:
                raise GitbenchError(f"{where}: there is no column '{name}' for {role}: found: {', '.join(names)}")
        if len(set(wanted)) < len(wanted):
            raise GitbenchError(f"{where}: {role} names a column twice: {', '.join(wanted)}: name it once")
        if len(wanted) > 1 and role != "captions":
            raise GitbenchError(f"{where}: {role} takes one column, not {', '.join(wanted)}: name one")
    need = NEEDED[task]
    found: dict[str, tuple[str, ...]] = {role: tuple(asked[role]) for role in asked}
    if need not in asked:
        found = {**_known(names, task, where), **found}
    for role in ("image", "image_id", "split", need, *(("question_id", "answers") if task == "vqa" else ())):
        if role not in found:
            found[role] = _fitting(role, names, pixels)
        if len(found[role]) > 1 and role not in asked and not (role == "captions" and _numbered(found[role])):
            raise GitbenchError(
                f"{where}: the columns {' and '.join(found[role])} may both be the {role}: say which with --columns "
                f"{role}={found[role][0]}"
            )
    if missing := [role for role in ("image", need, *(["answers"] if task == "vqa" else [])) if not found[role]]:
        others = [each for each, role in NEEDED.items() if each != task and _fitting(role, names, pixels)]
        hint = f" (or --task {' or '.join(others)})" if others and found["image"] else ""
        raise GitbenchError(
            f"{where}: --task {task} needs a column for the {missing[0]}, found: {', '.join(names)}: name it with "
            f"--columns {missing[0]}=NAME{hint}"
        )
    single = {role: value[0] for role, value in found.items() if value and role != "captions"}
    return Columns(captions=found.get("captions", ()), **single)


def _known(names: Sequence[str], task: str, where: str) -> Mapping[str, tuple[str, ...]]:
    """Return the columns of a layout whose names mislead, by role; none for others. Errors: a task that it is not for."""
    for known, of_task in _KNOWN:
        if known <= set(names):
            if task not in of_task:
                raise GitbenchError(f"{where} is for --task {' or '.join(of_task)}, not {task}: pass that")
            return of_task[task]
    return {}


def _fitting(role: str, names: Sequence[str], pixels: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that fit a role by name."""
    if role == "image":
        if found := tuple(pixels) or _named("image", names):
            return found
        return _named("path", names)
    numbered = re.compile(r"(?i)(caption|sentence|comment)[ _-]?\d+")
    if role == "captions" and (found := tuple(name for name in names if numbered.fullmatch(name))):
        return found
    return next(filter(None, (_named_of(rank, names) for rank in _RANKS.get(role, (NAMES[role],)))), ())


def _named(role: str, names: Sequence[str]) -> tuple[str, ...]:
    return _named_of(NAMES[role], names)


def _named_of(known: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    plain = {name.strip().casefold() for name in known}
    return tuple(name for name in names if name.strip().casefold() in plain)


def _numbered(names: Sequence[str]) -> bool:
    return all(re.search(r"\d$", name) for name in names)
