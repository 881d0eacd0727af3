"""The truth about a scene, and what a caption says about it, in one form.

In the graph of a scene every attribute is filled; in the graph of a caption None means "not said". So a caption is true
if its graph is contained in the scene's, and the semantic F1 compares the facts of both: the exact form of what SPICE
(Anderson et al. 2016) estimates with a parser on natural images.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def facts(self) -> dict[str, set[tuple[str, ...]]]:
        """Return the statements of the graph as sets of tuples, by kind.

        objects {("circle",)}; attributes {("circle", "colour", "red")}, with counts and the background;
        relations {("circle", "left of", "star")}. Plain texture, medium size and no motion are defaults that no
        caption says: they are left out.
        """
        attributes: set[tuple[str, ...]] = {
            (item.shape, name, str(value))
            for item in self.objects
            for name in ATTRIBUTES
            if (value := getattr(item, name)) not in (None, "plain", "medium")
        }
        if self.background is not None:
            attributes.add(("scene", "background", self.background))
        relations: set[tuple[str, ...]] = {
            (self.objects[link.subject].shape, link.predicate, self.objects[link.object].shape)
            for link in self.relations
        }
        return {"objects": {(item.shape,) for item in self.objects}, "attributes": attributes, "relations": relations}
