"""Tasks: what of a data set is given to the model, what it is to say, and against what that is scored.

Everything is text generation (GIT, p. 4 and 6): an item becomes `Text`s to learn and `Request`s to generate and score.

| task | data | a text of an item | a request of an item |
|---|---|---|---|
| caption | all | each caption | one: all captions are references |
| video | scenes-motion, folders of films with captions | as caption, the image is a film | as caption |
| vqa | scenes, folders with questions | each question (prefix) with its answer | each question |
| read | scenes with one sign, Parquet with `text` | the word | one |
| classify | the same scenes (24 classes), Parquet with `label` | the class | one |

Of scenes, "read" and "classify" take the first with exactly one sign: 8,000 images are 8,000 with a sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gitbench.data import CAPTIONS, limit_of, open_source
from gitbench.data.base import SPLITS, AnswersAre, Example, Question, Source, Text, content_hash
from gitbench.data.image_processor import ImageProcessor, square_processor
from gitbench.data.scenes.words import WORDS
from gitbench.data.scenes.world import SIZE, Scenes, scenes_with_a_sign, word_of
from gitbench.data.wordpiece import CaptionTokenizer
from gitbench.errors import GitbenchError
from gitbench.spec import DataSpec, TaskSpec
from gitbench.tasks import get_task

TASKS_VERSION = 1  # raise when the same data would give other texts
_PROBES = 12  # items whose texts enter the fingerprint; the source's own covers what is read from files


@dataclass(frozen=True, kw_only=True)
class Request:
    """One output to be generated and scored."""

    request_id: str
    prefix: str
    references: tuple[str, ...]
    answers_are: AnswersAre = "alternatives"  # the references of a question


class TaskSource:
    """A split seen through a task: a `Source` that also has texts and requests.

    source: the data set; task: with its frames; numbers: the source's items that have a text for the task, in order
    (None: all); data: what was opened, for the labels of the other splits.
    """

    drawn = False  # whether `pixels` draws with Python alone, so that threads do not help

    def __init__(self, source: Source, task: TaskSpec, data: str, numbers: Sequence[int] | None = None):
        self.source, self.task, self.data = source, task, data
        self.name, self.split = source.name, source.split
        self.closed = get_task(task.name).closed
        self._numbers = numbers  # a range(len(source)) would read the data before they are needed

    def __len__(self) -> int:
        return len(self.source) if self._numbers is None else len(self._numbers)

    def number(self, index: int) -> int:
        """Return which item of the data set an item is."""
        return index if self._numbers is None else self._numbers[index]

    def image_id(self, index: int) -> str:
        return self.source.image_id(self.number(index))

    def example(self, index: int) -> Example:
        return self.source.example(self.number(index))

    def image(self, index: int) -> np.ndarray:
        """Return an image at its original size: uint8 (H, W, 3), a film as equally spaced frames (F, H, W, 3)."""
        source: Any = self.source
        number, count = self.number(index), self.task.frames
        return source.frames(number, count) if count else source.image(number)

    def resized(self, index: int, rule: ImageProcessor) -> np.ndarray:
        """Return an image as a rule resizes and crops it, before it is normalised: uint8 (H, W, 3), a film (F, H, W, 3)."""
        source: Any = self.source
        stored = not rule.upright and not self.task.frames and hasattr(source, "stored_image")
        image = source.stored_image(self.number(index)) if stored else self.image(index)
        return np.stack([rule.resized(frame) for frame in image]) if image.ndim == 4 else rule.resized(image)

    def pixels(self, index: int, size: int) -> np.ndarray:
        """Return an image as a square: uint8 (size, size, 3), resized (short side, bicubic) and centre-cropped.

        Of a film every frame: (F, size, size, 3).
        """
        return self.resized(index, square_processor(size))

    def texts(self, index: int) -> tuple[Text, ...]:
        """Return what is learned of an item: at least one text."""
        if self.task.name == "vqa":
            return tuple(Text(prefix=asked.text, target=asked.answer) for asked in self._questions(index))
        said = (self.label(index),) if self.closed else self.example(index).captions
        return tuple(Text(prefix="", target=text) for text in said)

    def requests(self, index: int) -> tuple[Request, ...]:
        """Return what is generated and scored of an item: one request, in "vqa" one a question."""
        if self.task.name == "vqa":
            return tuple(
                Request(
                    request_id=asked.question_id,
                    prefix=asked.text,
                    references=asked.answers,
                    answers_are=asked.answers_are,
                )
                for asked in self._questions(index)
            )
        references = tuple(text.target for text in self.texts(index))
        return (Request(request_id=self.image_id(index), prefix="", references=references),)

    def label(self, index: int) -> str:
        return self.example(index).captions[0]

    def vocabulary(self) -> tuple[str, ...]:
        """Return the closed vocabulary of "classify" and "read": the labels of all splits whole, sorted."""
        return self._labels

    @cached_property
    def _labels(self) -> tuple[str, ...]:
        sources: list[Any] = [open_source(self.data, split, task=self.task.name) for split in SPLITS]
        return tuple(sorted({label for source in sources for label in source.labels()}))

    def _questions(self, index: int) -> tuple[Question, ...]:
        example = self.example(index)
        if not example.questions:
            raise GitbenchError(f"{self.name}: {example.image_id} has no questions, which --task vqa needs: add some")
        return example.questions

    def image_fingerprint(self) -> str:
        """Hash what decides the images alone: tasks over the same images share their cache."""
        if self._numbers is None:
            return self.source.fingerprint()
        return content_hash([self.source.fingerprint(), *map(str, self._numbers)])

    def fingerprint(self) -> str:
        """Hash the content as the task uses it; captions have the data set's own fingerprint."""
        if self.task.name == "caption":
            return self.source.fingerprint()
        parts = ["task", str(TASKS_VERSION), self.task.name, str(self.task.frames), self.source.fingerprint()]
        parts.append(str(len(self)))
        if self.closed:  # made of all splits whole, whatever the limit
            parts += self.vocabulary()
        for index in range(min(_PROBES, len(self))):
            parts += [part for text in self.texts(index) for part in (text.prefix, text.target)]
            parts += [part for request in self.requests(index) for part in (request.request_id, *request.references)]
        return content_hash(parts)

    def check(self) -> None:
        """Raise what is wrong with the data set, as far as that shows without decoding an image."""
        self.source.check()


class SceneTaskSource(TaskSource):
    """A task over scenes, which are drawn at any size."""

    drawn = True
    source: Scenes
    _labels = tuple(sorted(WORDS))

    def label(self, index: int) -> str:
        return str(word_of(self.source.scene(self.number(index)).graph))  # only scenes with one sign are items

    def image(self, index: int) -> np.ndarray:
        """Return an image at 64 px: uint8 (64, 64, 3), of a film (F, 64, 64, 3)."""
        return self.pixels(index, SIZE)

    def pixels(self, index: int, size: int) -> np.ndarray:
        """Draw an image at any size: uint8 (size, size, 3), a film as equally spaced moments (F, size, size, 3)."""
        number, count = self.number(index), self.task.frames
        return self.source.frames(number, count, size) if count else self.source.render(number, size)

    def resized(self, index: int, rule: ImageProcessor) -> np.ndarray:
        """Draw an image at the size that a rule resizes it to, then crop: uint8 (H, W, 3), a film (F, H, W, 3)."""
        image = self.pixels(index, max(rule.target(SIZE, SIZE)))
        return np.stack([rule.resized(frame) for frame in image]) if image.ndim == 4 else rule.resized(image)

    def ceiling_caption(self, index: int) -> str:
        return self.source.ceiling_caption(self.number(index))


def open_task(data: str, split: str, limit: int | None, task: TaskSpec) -> TaskSource:
    """Open a split of a data set for a task; a limit counts items that the task can use.

    Raises GitbenchError, in one line, where the data set lacks what the task needs.
    """
    closed, films = get_task(task.name).closed, task.name == "video"
    if films and task.frames < 1:
        raise GitbenchError(f"a film of {task.frames} frames shows nothing: give --task video at least 1 frame")
    if task.frames and not films:
        raise GitbenchError(f"--task {task.name} has still images and takes no frames: leave them out or use video")
    source: Any = open_source(data, split, limit, task.name)
    if films and not getattr(source, "moving", False):
        fix = "pass --data scenes-motion, or a folder of films (mp4, avi, ...) with captions"
        raise GitbenchError(f"--task video needs films and {data} holds still images: {fix}")
    if not isinstance(source, Scenes):
        if closed and not hasattr(source, "labels"):
            raise GitbenchError(f"{data} has no labels, which --task {task.name} needs: give its source `labels()`")
        return TaskSource(source, task, data)
    if not closed:
        return SceneTaskSource(source, task, data)
    numbers = scenes_with_a_sign(data, split, len(source))
    return SceneTaskSource(Scenes(data, split, numbers[-1] + 1), task, data, numbers)


def study_fingerprint(data: str, spec: DataSpec, task: TaskSpec = CAPTIONS, splits: Sequence[str] = SPLITS) -> str:
    """Hash the content of the splits as used. Enters every run key; image size and crops are in the spec."""
    return content_hash([open_task(data, split, limit_of(spec, split), task).fingerprint() for split in splits])


def data_notes(sources: Sequence[TaskSource]) -> tuple[str, ...]:
    """Return what was done to a study's data that its reader should know, and which images its splits share.

    Errors: as `photos.shared_images`.
    """
    photographs: list[Any] = [each.source for each in sources if hasattr(each.source, "notes")]
    if not photographs:
        return ()
    from gitbench.data.photos import shared_images

    notes = [note for source in photographs for note in source.notes]
    return tuple(dict.fromkeys([*notes, *shared_images(photographs)]))


def check_labels(source: TaskSource, tokenizer: CaptionTokenizer, max_tokens: int, room: int, option: str) -> None:
    """Refuse labels longer than a text of `room` ids, [CLS] and [SEP] included; `option` is what makes room for them."""
    if not source.closed:
        return
    labels = source.vocabulary()
    lengths = [len(ids) for ids in tokenizer.encode_all(list(labels), max_tokens)]
    longest = max(lengths)
    if longest + 2 > room:
        raise GitbenchError(
            f"the label '{labels[lengths.index(longest)]}' has {longest} tokens and a text at most {room - 2}: pass "
            f"--cfg-options {option}={longest + 2}"
        )
