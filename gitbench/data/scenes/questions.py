"""Questions about a scene with the one right answer, each read off the exact graph.

Six kinds: count, colour, shape, place, yes or no (half each), and reading a sign. A question is asked only where its
answer is unique.
"""

from __future__ import annotations

from gitbench.data.random_stream import Stream
from gitbench.data.scenes import words
from gitbench.data.scenes.graph import SceneGraph, SceneObject

Question = tuple[str, str]


def ask(graph: SceneGraph, stream: Stream) -> tuple[Question, ...]:
    """Return up to six questions with their answers."""
    kinds = (_count, _colour, _shape, _place, _yes_no, _relation, _reading)
    return tuple(found for kind in kinds if (found := kind(graph, stream)))


def _plural(shape: str) -> str:
    return words.SIGN[0][1] if shape == "sign" else words.SHAPES[shape][0][1]


def _name(item: SceneObject) -> str:
    return f"{item.colour} {item.shape if item.count == 1 else _plural(item.shape)}"


def _unique(graph: SceneGraph, attribute: str) -> list[SceneObject]:
    """Return the objects whose shape (or colour) no other object shares."""
    values = [getattr(item, attribute) for item in graph.objects]
    return [item for item in graph.objects if values.count(getattr(item, attribute)) == 1]


def _count(graph: SceneGraph, stream: Stream) -> Question:
    shape = stream.choice(graph.objects).shape
    total = sum(item.count or 1 for item in graph.objects if item.shape == shape)
    return f"how many {_plural(shape)} are there?", str(total)


def _colour(graph: SceneGraph, stream: Stream) -> Question | None:
    if not (options := _unique(graph, "shape")):
        return None
    item = stream.choice(options)
    said = f"is the {item.shape}" if item.count == 1 else f"are the {_plural(item.shape)}"
    return f"what color {said}?", item.colour or ""


def _shape(graph: SceneGraph, stream: Stream) -> Question | None:
    if not (options := _unique(graph, "colour")):
        return None
    item = stream.choice(options)
    return f"what shape is {item.colour}?", item.shape


def _place(graph: SceneGraph, stream: Stream) -> Question | None:
    options = [item for item in graph.objects if item.place]
    if not options:
        return None
    item = stream.choice(options)
    if sum((other.shape, other.colour) == (item.shape, item.colour) for other in graph.objects) > 1:
        return None
    return f"where {'is' if item.count == 1 else 'are'} the {_name(item)}?", item.place or ""


def _yes_no(graph: SceneGraph, stream: Stream) -> Question:
    """Ask for a thing that is there, or for one of the same shape in a colour that is not."""
    item = stream.choice(graph.objects)
    colour, answer = str(item.colour), "yes"
    if not stream.chance(0.5):
        present = {other.colour for other in graph.objects if other.shape == item.shape}
        colour, answer = stream.choice([name for name in words.COLOURS if name not in present]), "no"
    return f"is there {'an' if colour[0] in 'aeiou' else 'a'} {colour} {item.shape}?", answer


def _relation(graph: SceneGraph, stream: Stream) -> Question | None:
    if not graph.relations:
        return None
    link = stream.choice(graph.relations)
    first, second = graph.objects[link.subject], graph.objects[link.object]
    if (first.shape, first.colour) == (second.shape, second.colour):
        return None
    straight, turned = words.RELATIONS[link.predicate]
    true = stream.chance(0.5)
    how = straight[0] if true else turned[0]
    return (
        f"{'is' if first.count == 1 else 'are'} the {_name(first)} {how} the {_name(second)}?",
        "yes" if true else "no",
    )


def _reading(graph: SceneGraph, stream: Stream) -> Question | None:
    found = [item for item in graph.objects if item.word]
    return ("what does the sign say?", found[0].word or "") if len(found) == 1 else None
