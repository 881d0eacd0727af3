"""The truth about a scene, and what a caption says about it, in one form.

A graph is a tuple of objects (groups of identical things count as one object with a count) and the relations between
them. In the graph of a scene every attribute is filled; in the graph of a caption None means "not said". So a caption
is true if its graph is contained in the scene's, and the semantic F1 compares the facts of both: the exact form of
what SPICE (Anderson et al. 2016) estimates with a parser on natural images.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from itertools import permutations
from typing import Any

ATTRIBUTES = ("count", "size", "colour", "texture", "place", "word", "motion")


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """A thing, or a group of `count` identical things."""

    shape: str  # "circle", ..., "sign"
    count: int | None = None
    size: str | None = None  # small, medium, large
    colour: str | None = None
    texture: str | None = None  # plain, striped, dotted, checkered
    place: str | None = None  # one of nine cells: "top left", "top", ..., "middle", ..., "bottom right"
    word: str | None = None  # printed on a sign
    motion: str | None = None  # left, right, up, down, still; only in moving scenes

    def agrees(self, truth: SceneObject) -> bool:
        """Tell whether everything said here holds for `truth`."""
        return self.shape == truth.shape and all(
            getattr(self, name) is None or getattr(self, name) == getattr(truth, name) for name in ATTRIBUTES
        )


@dataclass(frozen=True, kw_only=True)
class Relation:
    """`objects[subject]` is `predicate` `objects[object]`. Inverse wordings (right of, below, around) are turned."""

    subject: int
    predicate: str  # "left of", "above", "inside"
    object: int


@dataclass(frozen=True, kw_only=True)
class SceneGraph:
    """Objects, relations between them, and the background (None: not said)."""

    objects: tuple[SceneObject, ...] = ()
    relations: tuple[Relation, ...] = ()
    background: str | None = None

    def to_json(self) -> str:
        """Return one line of JSON; what is None is left out."""
        values = {
            "objects": [_said(item) for item in self.objects],
            "relations": [[link.subject, link.predicate, link.object] for link in self.relations],
            "background": self.background,
        }
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> SceneGraph:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        return cls(
            objects=tuple(SceneObject(**item) for item in values["objects"]),
            relations=tuple(Relation(subject=s, predicate=p, object=o) for s, p, o in values["relations"]),
            background=values.get("background"),
        )

    def contains(self, said: SceneGraph) -> bool:
        """Tell whether a caption's graph is true here: some assignment of its objects to different objects fits."""
        if said.background not in (None, self.background) or len(said.objects) > len(self.objects):
            return False
        links = {(link.subject, link.predicate, link.object) for link in self.relations}
        for order in permutations(range(len(self.objects)), len(said.objects)):
            if all(item.agrees(self.objects[place]) for item, place in zip(said.objects, order, strict=True)) and all(
                (order[link.subject], link.predicate, order[link.object]) in links for link in said.relations
            ):
                return True
        return False

    def facts(self) -> dict[str, set[tuple[str, ...]]]:
        """Return the statements of the graph as sets of tuples, by kind.

        objects {("circle",)}; attributes {("circle", "colour", "red")}, with counts and the background;
        relations {("circle", "left of", "star")}. Plain texture, medium size and no motion are defaults that no
        caption says: they are left out.
        """
        attributes: set[tuple[str, ...]] = {
            (item.shape, name, str(value))
            for item in self.objects
            for name, value in _said(item).items()
            if name != "shape" and value not in ("plain", "medium")
        }
        if self.background is not None:
            attributes.add(("scene", "background", self.background))
        relations: set[tuple[str, ...]] = {
            (self.objects[link.subject].shape, link.predicate, self.objects[link.object].shape)
            for link in self.relations
        }
        return {"objects": {(item.shape,) for item in self.objects}, "attributes": attributes, "relations": relations}


def _said(item: SceneObject) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(item).items() if value is not None}
