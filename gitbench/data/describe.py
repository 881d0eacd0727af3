"""What a data set is taken for, and what is in it: for `gitbench data`, before anything is trained on it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gitbench.data import SPLITS, open_source
from gitbench.data.address import parse
from gitbench.data.photos import PhotoSource, shared_images
from gitbench.data.readers import Nothing
from gitbench.data.sheet import draw_sheet
from gitbench.errors import GitbenchError
from gitbench.formats import plural
from gitbench.tasks import TASKS

SAMPLES = 16
SEEN = 200  # images of a split that are decoded for their sizes, and that are fetched from the hub


def splits_by_task(data: str, task: str | None = None) -> dict[str, dict[str, PhotoSource]]:
    """Return the splits of a data set for the tasks that it suits, or for the one that is asked for.

    Errors: what is wrong with it for that task; where it suits none, for the first one for which there is anything in it.
    """
    limit = SEEN if parse(data).on_hub else None  # all of it may be hundreds of gigabytes
    if task is not None:
        return {task: splits_of(data, task, limit)}
    found, errors = {}, []
    for each in TASKS:
        try:
            found[each] = splits_of(data, each, limit)
        except GitbenchError as error:
            errors.append(error)
    if not found:
        told = [error for error in errors if not isinstance(error, Nothing)]
        raise told[0] if told else errors[0]
    return found


def splits_of(data: str, task: str, limit: int | None = None) -> dict[str, PhotoSource]:
    """Return the splits that a data set has for a task, checked. Errors: a set that suits another task, or has none.

    limit: as many images of each split at most.
    """
    source: Any = open_source(data, SPLITS[0], limit, task)
    if not isinstance(source, PhotoSource):
        fix = "pass a folder, or draw scenes with `gitbench scenes`"
        raise GitbenchError(f"{data} is computed, or read by a plugin that alone knows what is in it: {fix}")
    collection = source.collection  # of all splits: nothing is read twice
    found = {split: PhotoSource(collection, split, limit) for split in SPLITS if split in collection.division.takes}
    for source in found.values():
        source.check()
    if not found:
        raise GitbenchError(f"{data} holds nothing for --task {task}")
    return found


def described(data: str, splits: Mapping[str, PhotoSource]) -> str:
    """Return lines that say what a data set is taken for, with counts, lengths, sizes, and what is shared by splits."""
    first = next(iter(splits.values()))
    task = "video" if first.moving else first.task
    lines = [f"{data}: taken for {first.collection.takes_for}, task {task}"]
    lines += [f"  {split:<5} {_counts(source)}" for split, source in splits.items()]
    missing = [split for split in SPLITS if split not in splits]
    if missing:
        lines.append(f"  no {' and no '.join(missing)}")
    notes = [note for source in splits.values() for note in source.notes]
    rows = [question for source in splits.values() for row in source.rows for question in row.questions]
    if several := sum(row.answers_are == "alternatives" and len(set(row.answers)) > 1 for row in rows):
        notes.append(
            f"{several:,} questions have several different answers: any of them counts as right; where they are votes of "
            'annotators, mark the questions `"answers_are": "votes"`, where they are parts of one answer, "set"'
        )
    lines += [f"  mind: {note}" for note in dict.fromkeys([*notes, *shared_images(list(splits.values()))])]
    return "\n".join(lines)


def _counts(source: PhotoSource) -> str:
    """Return how many images and texts a split has, how long these are, and how large the images."""
    examples = [source.example(index) for index in range(len(source))]
    asked = [question for example in examples for question in example.questions]
    texts = [question.answer for question in asked] or [text for example in examples for text in example.captions]
    kind = "a film" if source.moving else "an image"
    said = plural(len(examples), kind.split()[1])
    if source.task == "vqa":
        answers = [len(question.answers) for question in asked]
        said += f", {plural(len(asked), 'question')} with {_span(answers)} answers"
    elif source.task == "caption":
        said += f", {plural(len(texts), 'caption')} ({_span([len(example.captions) for example in examples])} {kind})"
    else:
        said += f", {len(set(texts)):,} different labels"
    seen = [source.image(index).shape for index in range(0, len(source), max(1, len(source) // SEEN))]
    widths, heights = [shape[1] for shape in seen], [shape[0] for shape in seen]
    return f"{said}; {_span([len(text.split()) for text in texts])} words a text; {_span(widths)} x {_span(heights)} pixels"


def _span(numbers: Sequence[int]) -> str:
    """Return "1 to 9 (median 4)", or the one number that all are."""
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,} (median {statistics.median(numbers):g})"


def draw_samples(splits: Mapping[str, PhotoSource], out: Path) -> None:
    """Draw sixteen images of a data set, spread over its splits, with their texts."""
    counts = dict.fromkeys(splits, 0)
    while sum(counts.values()) < min(SAMPLES, sum(map(len, splits.values()))):
        fewest = min((split for split in splits if counts[split] < len(splits[split])), key=counts.__getitem__)
        counts[fewest] += 1
    shown: list[tuple[np.ndarray, Sequence[str]]] = []
    for split, source in splits.items():
        for place in range(counts[split]):
            index = place * len(source) // counts[split]
            example = source.example(index)
            texts = [f"{question.text} {question.answer}" for question in example.questions] or example.captions
            shown.append((source.image(index), [f"{split}: {text}" for text in texts]))
    draw_sheet(shown, out)
