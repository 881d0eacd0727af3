"""The embedded world: a data set without a file. Each scene is a pure function of (version, split, index).

Splits are different streams of the same distribution; from "pretrain" come the images of encoders that are made once
(`training.pretrain`). "scenes" are still images, "scenes-motion" short films in which
the captions tell what moves where, "scenes-shifted" still images of which a captioner of scenes knows about half the words
and looks (`words.SHIFTED`). On 500 scenes a caption that ignores the picture scores CIDEr 25 (the mean over
captions drawn from the training split; the best of 120: 40), naming colour and shape of two objects without their
relation 209, a sixth caption of the grammar 296. Raise VERSION when a change alters scenes, drawings or captions.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path

import numpy as np

from gitbench.data.base import Example, Question, content_hash
from gitbench.data.cache import cached
from gitbench.data.random_stream import Stream
from gitbench.data.scenes.draw import render
from gitbench.data.scenes.graph import SceneGraph
from gitbench.data.scenes.language import ask, caption
from gitbench.data.scenes.layout import Scene, at_time, sample_scene
from gitbench.data.scenes.words import SCENES, SHIFTED
from gitbench.files import cache_dir

VERSION = 1
SIGNS_VERSION = 1
DEFAULT_IMAGES = {"pretrain": 10_000, "train": 10_000, "val": 1_000, "test": 1_000}
CAPTIONS = 5
SIZE = 64  # pixels; the size of `image`, any other through `render`
_PROBES = 12  # scenes whose pixels and captions enter the fingerprint
_ENDLESS = 2**62


class Scenes:
    """One split of the embedded world."""

    def __init__(self, name: str, split: str, limit: int | None = None):
        self.name, self.split = name, split
        self.length = DEFAULT_IMAGES[split] if limit is None else limit
        self.moving = name == "scenes-motion"
        self.words = SHIFTED if name == "scenes-shifted" else SCENES

    def __len__(self) -> int:
        return self.length

    def image_id(self, index: int) -> str:
        return f"{self.name}-{self.split}-{self._checked(index)}"

    def scene(self, index: int) -> Scene:
        key = (self.name, VERSION, self.split, self._checked(index))
        return sample_scene(*key, moving=self.moving, words=self.words)

    def example(self, index: int) -> Example:
        """Return five captions, questions with answers, and the exact graph."""
        graph = self.scene(index).graph
        captions = tuple(self._caption(graph, index, number) for number in range(CAPTIONS))
        name, asked = (
            self.image_id(index),
            ask(graph, self.words, Stream("questions", self.name, VERSION, self.split, index)),
        )
        questions = tuple(
            Question(question_id=f"{name}#{place}", text=text, answers=(answer,), answer=answer)
            for place, (text, answer) in enumerate(asked)
        )
        return Example(image_id=name, captions=captions, questions=questions, graph=graph)

    def ceiling_caption(self, index: int) -> str:
        """Return a sixth caption of the same grammar: its score against the five is the most one can expect."""
        return self._caption(self.scene(index).graph, index, CAPTIONS)

    def image(self, index: int) -> np.ndarray:
        """Return the picture at 64 px: uint8 (64, 64, 3)."""
        return self.render(index, SIZE)

    def render(self, index: int, size: int) -> np.ndarray:
        """Draw the picture: uint8 (size, size, 3). A moving scene is drawn in mid-motion."""
        return render(self.scene(index), size)

    def frames(self, index: int, count: int, size: int = SIZE) -> np.ndarray:
        """Draw equally spaced moments of a moving scene: uint8 (count, size, size, 3)."""
        scene = self.scene(index)
        times = [0.5] if count == 1 else [step / (count - 1) for step in range(count)]
        return np.stack([render(at_time(scene, time), size) for time in times])

    def fingerprint(self) -> str:
        """Hash the version, the split, its length, and the pixels and captions of its first scenes."""
        parts: list[str | bytes] = [self.name, str(VERSION), self.split, str(self.length)]
        for index in range(min(_PROBES, self.length)):
            parts += [self.image(index).tobytes(), *self.example(index).captions]
        return content_hash(parts)

    def check(self) -> None:
        """Nothing can be wrong with a world that is computed."""

    def _caption(self, graph: SceneGraph, index: int, number: int) -> str:
        return caption(graph, self.words, Stream("caption", self.name, VERSION, self.split, index, number))

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.length:
            raise IndexError(f"{self.name} {self.split} has {self.length} images, there is no number {index}")
        return index


def word_of(graph: SceneGraph) -> str | None:
    """Return the word to be read in a scene: that of its only sign."""
    found = [item.word for item in graph.objects if item.word]
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=16)
def scenes_with_a_sign(name: str, split: str, count: int) -> tuple[int, ...]:
    """Return the numbers of the first `count` scenes of a split that have exactly one sign, ascending.

    About one in thirteen has. Looking takes the graph of every scene before them (5 seconds for the first 8,000), so
    the numbers are kept in the cache under the content of the split.
    """
    key = content_hash([Scenes(name, split, _PROBES).fingerprint(), str(SIGNS_VERSION)])[:20]
    path = cache_dir() / "signs" / f"{name}-{split}-{key}.npy"

    def load(path: Path) -> list[int]:
        found = np.load(path).tolist()
        if len(found) < count:
            raise ValueError("not as many")
        return found

    def save(temporary: Path) -> None:
        scenes = Scenes(name, split, _ENDLESS)
        signs = (number for number in itertools.count() if word_of(scenes.scene(number).graph) is not None)
        with open(temporary, "wb") as file:
            np.save(file, np.array(list(itertools.islice(signs, count)), dtype=np.int64))

    return tuple(cached(path, save, load)[:count])
