"""What a data set is to the rest of gitbench: a `Source`, one split, whose items are images with all their captions.

A source never decodes an image to answer a question about text, and never imports torch. Its fingerprint is taken
from content (never from a name or a path), because it enters the run key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from gitbench.errors import GitbenchError

if TYPE_CHECKING:  # importing numpy takes a fifth of the time of `gitbench list`
    import numpy as np

    from gitbench.data.scenes.graph import SceneGraph

SPLITS = ("train", "val", "test")
# What the answers of a question are: any one is right; each is one annotator's; the only one has parts in any order.
AnswersAre = Literal["alternatives", "votes", "set"]
PRETRAIN = "pretrain"  # the split of pre-training, which scenes alone have apart from "train"
# Everything that str.splitlines or a Java reader takes for the end of a line, and tabs: one such character inside a
# caption would shift every later caption of a line-based scorer to the wrong image.
_SEPARATORS = re.compile("[\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029\x00]+")
HALVES = re.compile("[\ud800-\udfff]")  # of characters: what no file in UTF-8 can hold


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about an image: the answers that count as right, and the one that is learned."""

    question_id: str
    text: str
    answers: tuple[str, ...]  # of all annotators, repeated as often as they were given
    answer: str
    answers_are: AnswersAre = "alternatives"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image's text: id, all reference captions, and where the data set has them questions and a scene graph."""

    image_id: str
    captions: tuple[str, ...]
    questions: tuple[Question, ...] = ()
    graph: SceneGraph | None = None


@dataclass(frozen=True, kw_only=True)
class Text:
    """One text to learn: the given part, "" for none, and the said part."""

    prefix: str
    target: str


class Source(Protocol):
    """One split of one data set.

    A source may also have `labels() -> set[str]`, for the tasks "read" and "classify": an item's label is its first
    caption; and, for "video", `moving = True` and `frames(index, count)`, equally spaced: uint8 (count, H, W, 3), RGB.
    """

    name: str
    split: str

    def __len__(self) -> int: ...

    def image_id(self, index: int) -> str:
        """The id of an item, unique in its split."""

    def example(self, index: int) -> Example:
        """Return the text of an item; no image is decoded."""

    def image(self, index: int) -> np.ndarray:
        """Return an image at its original size: uint8 (H, W, 3), RGB."""

    def fingerprint(self) -> str:
        """Return a hexadecimal hash of the content of the split as used (after the limit)."""

    def check(self) -> None:
        """Raise what is wrong with captions or files, as far as that shows without decoding an image."""


def texts_of(source: Source, index: int) -> tuple[Text, ...]:
    """Return what is learned of an item: the texts of its task, of a data set without a task its captions."""
    if texts := getattr(source, "texts", None):
        return texts(index)
    return tuple(Text(prefix="", target=caption) for caption in source.example(index).captions)


def graph_of(source: Source, index: int) -> SceneGraph:
    """Return the scene graph of an item. Errors: a data set without."""
    graph = source.example(index).graph
    if graph is None:
        raise GitbenchError(
            f"{source.name} has no scene graphs, whose facts supervised pre-training names: use scenes, or run a copy of "
            "the ablation's file, under another name, without the arms that start so and the claims about them"
        )
    return graph


def clean_caption(text: object, where: str, what: str = "caption") -> str:
    """Fold line separators and tabs to one space and strip; an empty caption, or half a character, names its place.

    `what` is the noun shown to the user, for texts that are no captions.
    """
    if not isinstance(text, str):
        raise GitbenchError(f"{where}: {what} must be text, not {type(text).__name__}: correct or remove it")
    folded = re.sub(" {2,}", " ", _SEPARATORS.sub(" ", text)).strip()
    if not folded:
        raise GitbenchError(f"{where}: empty {what}: write one or remove it from the data")
    if not folded.isascii() and HALVES.search(folded):
        raise GitbenchError(f"{where}: half a character (a lone surrogate) in the {what}: write it as UTF-8")
    return folded


def content_hash(parts: Iterable[str | bytes]) -> str:
    """Hash a sequence of texts and byte strings; lengths are hashed too, so that boundaries count. 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
