"""What is said about a scene: reference captions, as five people might write them, and questions with answers.

Captions differ in what is mentioned, in which order, with which words: all name shapes and colours, about half a size,
most a texture, a third the background. `scenes.parse` understands every caption that this grammar can produce.
"""

from __future__ import annotations

from gitbench.data.random_stream import Stream
from gitbench.data.scenes.graph import Relation, SceneGraph, SceneObject
from gitbench.data.scenes.words import MOTIONS, NUMBERS, PLACES, SAYS, SIGN, Words

Question = tuple[str, str]  # with its answer
LENGTHS = range(6, 19)  # words; people rarely write longer ones
TURNED = 0.25  # how often a relation is told from its other side


def caption(graph: SceneGraph, words: Words, stream: Stream) -> str:
    """Say something true about a scene, nearly always in 6 to 18 words, lower case, without a full stop."""
    for _ in range(4):
        said = _say(graph, words, stream)
        if said.count(" ") + 1 in LENGTHS:
            break
    return said


def _say(graph: SceneGraph, words: Words, stream: Stream) -> str:
    if any(item.motion for item in graph.objects):
        return _say_motion(graph, words, stream)
    if len(graph.objects) == 1:
        return _say_one(graph, words, stream)
    if len(graph.objects) == 3 and stream.chance(0.5):
        return _say_three(graph, words, stream)
    if graph.relations and stream.chance(0.85):
        return _say_pair(graph, stream.choice(graph.relations), words, stream)
    return _say_list(graph, words, stream)


# ---- noun phrases -----------------------------------------------------------------------------------------------


def _pick(stream: Stream, wordings: tuple[str, ...], usual: float = 0.72) -> str:
    """Return the usual wording most of the time, else one of the others."""
    return wordings[0] if len(wordings) == 1 or stream.chance(usual) else stream.choice(wordings[1:])


def _noun(item: SceneObject, words: Words, stream: Stream) -> str:
    wordings = SIGN if item.shape == "sign" else words.shapes[item.shape]
    pair = wordings[0] if len(wordings) == 1 or stream.chance(0.85) else stream.choice(wordings[1:])
    return pair[0] if item.count == 1 else pair[1]


def _phrase(item: SceneObject, words: Words, stream: Stream) -> str:
    """Say an object: determiner or count, adjectives, noun, and what follows the noun."""
    adjectives, after = [], ""
    if item.size in ("small", "large") and stream.chance(0.5):
        adjectives.append(_pick(stream, words.sizes[item.size]))
    colour = _pick(stream, words.colours[item.colour or ""], 0.8) if stream.chance(0.95) else None
    texture = None
    if item.texture not in (None, "plain") and stream.chance(0.7):
        if stream.chance(0.25):
            after = " " + words.with_texture[item.texture]
        else:
            texture = _pick(stream, words.textures[item.texture], 0.75)
    pair = [colour, texture] if stream.chance(0.5) else [texture, colour]
    adjectives += [word for word in pair if word]
    if item.word and stream.chance(0.85):
        after = f" {_pick(stream, SAYS, 0.5)} {item.word}"
    rest = " ".join([*adjectives, _noun(item, words, stream)]) + after
    return f"{_determiner(item.count or 1, rest, stream)} {rest}"


def _determiner(count: int, rest: str, stream: Stream) -> str:
    if count == 1:
        return "an" if rest[0] in "aeiou" else "a"
    if count == 2:
        return "two" if stream.chance(0.75) else "a pair of"
    number = NUMBERS[count]
    draw = stream.random()
    return number if draw < 0.8 else f"a group of {number}" if draw < 0.92 else "some"


def _be(item: SceneObject) -> str:
    return "is" if item.count == 1 else "are"


# ---- sentences --------------------------------------------------------------------------------------------------


def _ground(graph: SceneGraph, words: Words, stream: Stream, probability: float) -> str:
    """Say where the scene is, sometimes; with a leading space."""
    if graph.background is None or not stream.chance(probability):
        return ""
    return " " + _pick(stream, words.backgrounds[graph.background])


def _place(item: SceneObject, stream: Stream) -> str:
    return _pick(stream, PLACES[item.place or "middle"])


def _say_one(graph: SceneGraph, words: Words, stream: Stream) -> str:
    item = graph.objects[0]
    said, place = _phrase(item, words, stream), _place(item, stream)
    form = stream.integer(6)
    if form == 0:
        return f"{said} {place}{_ground(graph, words, stream, 0.4)}"
    if form == 1:
        return f"{said}{_ground(graph, words, stream, 1)}"
    if form == 2:
        return f"there {_be(item)} {said} {place}{_ground(graph, words, stream, 0.3)}"
    if form == 3:
        return f"{place} there {_be(item)} {said}"
    if form == 4:
        return f"{stream.choice(words.openings)} {said}{_ground(graph, words, stream, 0.8)}"
    return f"there {_be(item)} {said}{_ground(graph, words, stream, 1)}"


def _sides(
    graph: SceneGraph, link: Relation, words: Words, stream: Stream
) -> tuple[SceneObject, SceneObject, tuple[str, ...]]:
    """Choose the side a relation is told from: subject, object, and the wordings that fit."""
    straight, turned = words.relations[link.predicate]
    first, second = graph.objects[link.subject], graph.objects[link.object]
    return (second, first, turned) if stream.chance(TURNED) else (first, second, straight)


def _say_pair(graph: SceneGraph, link: Relation, words: Words, stream: Stream) -> str:
    """Say how two things lie to each other, from either side."""
    first, second, wordings = _sides(graph, link, words, stream)
    how = _pick(stream, wordings)
    a, b = _phrase(first, words, stream), _phrase(second, words, stream)
    form = stream.weighted({"plain": 0.52, "verb": 0.12, "there": 0.12, "with": 0.14, "lead": 0.1})
    ground = _ground(graph, words, stream, 0.25)
    if form == "plain":
        return f"{a} {how} {b}{ground}"
    if form == "verb":
        return f"{a} {_be(first)} {how} {b}{ground}"
    if form == "there":
        return f"there {_be(first)} {a} {how} {b}{ground}"
    if form == "with":
        return f"{b} with {a} {how} {'it' if second.count == 1 else 'them'}"
    return f"{how} {b} there {_be(first)} {a}"


def _say_list(graph: SceneGraph, words: Words, stream: Stream) -> str:
    items = stream.shuffled(graph.objects)
    if len(items) == 2 and stream.chance(0.35):
        return " and ".join(f"{_phrase(item, words, stream)} {_place(item, stream)}" for item in items)
    said = [_phrase(item, words, stream) for item in items]
    opening = f"there {_be(items[0])} " if stream.chance(0.2) else ""
    return f"{opening}{', '.join(said[:-1])} and {said[-1]}{_ground(graph, words, stream, 0.5)}"


def _say_three(graph: SceneGraph, words: Words, stream: Stream) -> str:
    """List three things, or tell how two lie and where the third is."""
    if not graph.relations or stream.chance(0.4):
        return _say_list(graph, words, stream)
    link = stream.choice(graph.relations)
    third = next(place for place in range(3) if place not in (link.subject, link.object))
    first, second, wordings = _sides(graph, link, words, stream)
    pair = f"{_phrase(first, words, stream)} {_pick(stream, wordings)} {_phrase(second, words, stream)}"
    last = graph.objects[third]
    tail = _anchored(graph, third, words, stream) if stream.chance(0.6) else ""
    return f"{pair} and {_phrase(last, words, stream)} {tail or _place(last, stream)}"


def _anchored(graph: SceneGraph, third: int, words: Words, stream: Stream) -> str:
    """Say how the third thing lies to one already named ("above the square"); empty if that would be ambiguous."""
    for link in stream.shuffled(graph.relations):
        if third not in (link.subject, link.object):
            continue
        other = graph.objects[link.object if link.subject == third else link.subject]
        if sum(item.shape == other.shape for item in graph.objects) > 1:
            continue
        straight, turned = words.relations[link.predicate]
        how = _pick(stream, straight if link.subject == third else turned)
        return f"{how} the {_noun(other, words, stream)}"
    return ""


def _say_motion(graph: SceneGraph, words: Words, stream: Stream) -> str:
    items = stream.shuffled(graph.objects)
    said = [f"{_phrase(item, words, stream)} {_pick(stream, MOTIONS[item.motion or 'still'])}" for item in items]
    said = [text.replace("that moves", "that move").replace("that does", "that do") if item.count != 1 else text
            for text, item in zip(said, items, strict=True)]  # fmt: skip
    opening = f"there {_be(items[0])} " if stream.chance(0.2) else ""
    return f"{opening}{' and '.join(said)}{_ground(graph, words, stream, 0.4)}"


# ---- questions ---------------------------------------------------------------------------------------------------


def ask(graph: SceneGraph, words: Words, stream: Stream) -> tuple[Question, ...]:
    """Return up to seven questions, each with the one right answer; one is asked only where its answer is unique."""
    kinds = (_ask_count, _ask_colour, _ask_shape, _ask_place, _ask_yes_no, _ask_relation, _ask_reading)
    return tuple(found for kind in kinds if (found := kind(graph, words, stream)))


def _plural(shape: str, words: Words) -> str:
    return SIGN[0][1] if shape == "sign" else words.shapes[shape][0][1]


def _name(item: SceneObject, words: Words) -> str:
    return f"{item.colour} {item.shape if item.count == 1 else _plural(item.shape, words)}"


def _unique(graph: SceneGraph, attribute: str) -> list[SceneObject]:
    """Return the objects whose shape (or colour) no other object shares."""
    values = [getattr(item, attribute) for item in graph.objects]
    return [item for item in graph.objects if values.count(getattr(item, attribute)) == 1]


def _ask_count(graph: SceneGraph, words: Words, stream: Stream) -> Question:
    shape = stream.choice(graph.objects).shape
    total = sum(item.count or 1 for item in graph.objects if item.shape == shape)
    return f"how many {_plural(shape, words)} are there?", str(total)


def _ask_colour(graph: SceneGraph, words: Words, stream: Stream) -> Question | None:
    if not (options := _unique(graph, "shape")):
        return None
    item = stream.choice(options)
    said = f"is the {item.shape}" if item.count == 1 else f"are the {_plural(item.shape, words)}"
    return f"what color {said}?", item.colour or ""


def _ask_shape(graph: SceneGraph, words: Words, stream: Stream) -> Question | None:
    if not (options := _unique(graph, "colour")):
        return None
    item = stream.choice(options)
    return f"what shape is {item.colour}?", item.shape


def _ask_place(graph: SceneGraph, words: Words, stream: Stream) -> Question | None:
    options = [item for item in graph.objects if item.place]
    if not options:
        return None
    item = stream.choice(options)
    if sum((other.shape, other.colour) == (item.shape, item.colour) for other in graph.objects) > 1:
        return None
    return f"where {_be(item)} the {_name(item, words)}?", item.place or ""


def _ask_yes_no(graph: SceneGraph, words: Words, stream: Stream) -> Question:
    """Ask for a thing that is there, or for one of the same shape in a colour that is not."""
    item = stream.choice(graph.objects)
    colour, answer = str(item.colour), "yes"
    if not stream.chance(0.5):
        present = {other.colour for other in graph.objects if other.shape == item.shape}
        colour, answer = stream.choice([name for name in words.colours if name not in present]), "no"
    return f"is there {'an' if colour[0] in 'aeiou' else 'a'} {colour} {item.shape}?", answer


def _ask_relation(graph: SceneGraph, words: Words, stream: Stream) -> Question | None:
    if not graph.relations:
        return None
    link = stream.choice(graph.relations)
    first, second = graph.objects[link.subject], graph.objects[link.object]
    if (first.shape, first.colour) == (second.shape, second.colour):
        return None
    straight, turned = words.relations[link.predicate]
    true = stream.chance(0.5)
    how = straight[0] if true else turned[0]
    return (
        f"{_be(first)} the {_name(first, words)} {how} the {_name(second, words)}?",
        "yes" if true else "no",
    )


def _ask_reading(graph: SceneGraph, words: Words, stream: Stream) -> Question | None:
    found = [item for item in graph.objects if item.word]
    return ("what does the sign say?", found[0].word or "") if len(found) == 1 else None
