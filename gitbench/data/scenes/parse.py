"""Understand a caption about a scene: text in, scene graph out.

Exact for every caption of the grammar in `scenes.language`. Any other text gives what could be recognised, down to an
empty graph; no exception is raised.

The parser is one pass from left to right over the longest phrases of the lexicon. It keeps the modifiers seen since
the last noun, the last object named (the subject of a relation, the owner of a place), and a relation that waits for
its other side.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from gitbench.data.scenes.graph import Relation, SceneGraph, SceneObject
from gitbench.data.scenes.words import MOTIONS, NUMBERS, PLACES, SAYS, SIGN, WORLDS, Words

Lexicon = dict[tuple[str, ...], tuple[Any, ...]]
_TOKEN = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")
_MODIFIERS = ("size", "colour", "texture", "count")


@lru_cache(maxsize=1)
def lexicon() -> tuple[Lexicon, int]:
    """Return all phrases of all worlds with their meaning, and the length of the longest in words."""
    table: dict[str, tuple[Any, ...]] = {"a": ("count", 1), "an": ("count", 1), "a pair of": ("count", 2)}
    table |= {"the": ("the",), "some": ("skip",), "several": ("skip",), "a group of": ("skip",), "many": ("skip",)}
    table |= {"it": ("pronoun",), "them": ("pronoun",), "with": ("with",)}
    table |= {number: ("count", count) for count, number in NUMBERS.items()}
    table |= {word: ("noun", "sign") for pair in SIGN for word in pair}
    for kind, entries in (("place", PLACES), ("motion", MOTIONS)):
        table |= {phrase: ("after", kind, name) for name, wordings in entries.items() for phrase in wordings}
    table |= {"moves to the left": ("after", "motion", "left"), "moves to the right": ("after", "motion", "right")}
    table |= {phrase.replace("that moves", "that move").replace("that does", "that do"): ("after", "motion", name)
              for name, wordings in MOTIONS.items() for phrase in wordings}  # fmt: skip
    table |= {phrase: ("says",) for phrase in SAYS}
    for words in WORLDS:
        table |= phrases_of(words)
    split = {tuple(phrase.split()): meaning for phrase, meaning in table.items()}
    return split, max(map(len, split))


def phrases_of(words: Words) -> dict[str, tuple[Any, ...]]:
    """Return the phrases of one world with their meaning."""
    table: dict[str, tuple[Any, ...]] = {}
    for name, pairs in words.shapes.items():
        table |= {word: ("noun", name) for pair in pairs for word in pair}
    for kind, entries in (("size", words.sizes), ("colour", words.colours), ("texture", words.textures)):
        table |= {word: (kind, name) for name, wordings in entries.items() for word in wordings}
    table |= {phrase: ("after", "texture", name) for name, phrase in words.with_texture.items()}
    table |= {phrase: ("ground", name) for name, wordings in words.backgrounds.items() for phrase in wordings}
    for name, (straight, turned) in words.relations.items():
        table |= {phrase: ("relation", name, False) for phrase in straight}
        table |= {phrase: ("relation", name, True) for phrase in turned}
    return table


def parse_caption(text: str) -> SceneGraph:
    """Return what a caption says; what is not understood is passed over."""
    reader = _Reader()
    tokens = _TOKEN.findall(text.lower())
    phrases, longest = lexicon()
    at = 0
    while at < len(tokens):
        if reader.expects_word:
            reader.printed(tokens[at])
            at += 1
            continue
        for length in range(min(longest, len(tokens) - at), 0, -1):
            meaning = phrases.get(tuple(tokens[at : at + length]))
            if meaning:
                break
        reader.take(meaning or ("other",))
        at += length
    return reader.graph()


class _Reader:
    """The state of one pass."""

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.links: list[tuple[int, str, int]] = []
        self.background: str | None = None
        self.pending: dict[str, Any] = {}  # modifiers that wait for their noun
        self.early: dict[str, str] = {}  # a place said before its object
        self.definite = False
        self.expects_word = False
        self.focus: int | None = None  # the last object named
        self.host: int | None = None  # what "with ..." hangs on; "it" means this one
        self.open: tuple[str, bool, int | None] | None = None  # relation, inverse?, subject: waits for its object
        self.lead: tuple[str, bool, int] | None = None  # relation said first, with its object: waits for its subject

    def take(self, meaning: tuple[Any, ...]) -> None:
        kind = meaning[0]
        if kind in _MODIFIERS:
            self.pending[kind] = meaning[1]
        elif kind == "the":
            self.pending, self.definite = {}, True
        elif kind == "skip":
            self.pending = {}
        elif kind == "noun":
            self.noun(meaning[1])
        else:
            self.pending, self.definite = {}, False
            if kind == "after":
                self.attach(meaning[1], meaning[2])
            elif kind == "ground":
                self.background = self.background or meaning[1]
            elif kind == "says":
                self.expects_word = True
            elif kind == "relation":
                self.open = (meaning[1], meaning[2], self.focus)
            elif kind == "with":
                self.host = self.focus
            elif kind == "pronoun" and self.open and self.host is not None:
                self.link(self.open[2], self.open[0], self.open[1], self.host)
                self.open = None

    def noun(self, shape: str) -> None:
        place = self.known(shape) if self.definite else None
        if place is None:
            self.objects.append({"shape": shape, **self.pending, **self.early})
            self.early = {}
            place = len(self.objects) - 1
        self.pending, self.definite = {}, False
        if self.open:
            name, inverse, subject = self.open
            self.open = None
            if subject is None:
                self.lead = (name, inverse, place)
            else:
                self.link(subject, name, inverse, place)
        elif self.lead:
            name, inverse, other = self.lead
            self.lead = None
            self.link(place, name, inverse, other)
        self.focus = place

    def known(self, shape: str) -> int | None:
        """Find the last object that "the ..." can mean."""
        for place in range(len(self.objects) - 1, -1, -1):
            item = self.objects[place]
            if item["shape"] == shape and all(item.get(name, value) == value for name, value in self.pending.items()):
                return place
        return None

    def link(self, subject: int | None, name: str, inverse: bool, other: int) -> None:
        if subject is None or subject == other:
            return
        link = (other, name, subject) if inverse else (subject, name, other)
        if link not in self.links:
            self.links.append(link)

    def attach(self, name: str, value: str) -> None:
        if self.focus is None:
            self.early[name] = value
        else:
            self.objects[self.focus].setdefault(name, value)

    def printed(self, token: str) -> None:
        self.expects_word = not token.isalnum()  # a quotation mark may come first
        if token.isalnum() and self.focus is not None:
            self.objects[self.focus].setdefault("word", token)

    def graph(self) -> SceneGraph:
        return SceneGraph(
            objects=tuple(SceneObject(**item) for item in self.objects),
            relations=tuple(Relation(subject=s, predicate=p, object=o) for s, p, o in self.links),
            background=self.background,
        )
