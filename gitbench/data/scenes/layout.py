"""Where things are: a scene as a vector description, sampled from a stream, with the graph that is true of it.

Coordinates run from 0 to 1, x to the right, y down. Scenes hold one to three objects or groups, laid out in regions that
do not overlap; relations are read off the geometry afterwards, so the graph is exact whatever the sampler does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from gitbench.data.random_stream import Stream
from gitbench.data.scenes.graph import Relation, SceneGraph, SceneObject
from gitbench.data.scenes.words import SCENES, WORDS, Words

Box = tuple[float, float, float, float]  # left, top, right, bottom

RADIUS = {"small": 0.1, "medium": 0.155, "large": 0.215}
CONTAINER_RADIUS = 0.28
SIGN_SIZE = (0.45, 0.21)
GAP = 0.025  # between the members of a group
# Centres stand on a grid of eighths, so at 8-pixel patches a shape looks alike wherever it stands. Measured with a
# small captioner after 700 steps, one seed each: shapes named right 29 % -> 38 %, CIDEr 106 -> 115 (ceiling 296).
GRID = 0.125
DOMINANT = 1.3  # one axis must exceed the other by this factor before "left of" or "above" is true
# Colours that would not show on a background.
HIDDEN = {
    "gray": (), "paper": ("white",), "grass": ("green", "jade"), "sand": ("yellow", "white"), "sky": ("white",),
    "night": ("black", "blue", "purple"), "brick": ("ruby", "brown"), "snow": ("white",), "wood": ("brown",),
    "water": ("blue", "teal"),
}  # fmt: skip
LAYOUTS = {"one": 0.42, "row": 0.2, "column": 0.15, "inside": 0.07, "inside_and": 0.04, "three": 0.12}
COUNTS = {1: 0.68, 2: 0.13, 3: 0.1, 4: 0.05, 5: 0.04}
SIZES = {"small": 0.16, "medium": 0.4, "large": 0.44}
TEXTURES = {"plain": 0.79, "striped": 0.08, "dotted": 0.07, "checkered": 0.06, "flecked": 0.07, "wavy": 0.06}
CONTAINERS = {"ring": 0.5, "loop": 0.5, "square": 0.25, "circle": 0.25, "orb": 0.25}
HOLLOW = ("ring", "loop")
STEPS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0), "still": (0.0, 0.0)}
TRAVEL = 0.3  # how far a moving object goes from the first frame to the last


@dataclass(frozen=True, kw_only=True)
class Placed:
    """An object with its geometry: centres of its members, their radius, one rotation in radians for all."""

    item: SceneObject
    centres: tuple[tuple[float, float], ...]
    radius: float
    angle: float
    box: Box


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A drawable scene. `key` seeds what is decoration only: tones, blades of grass, clouds."""

    placed: tuple[Placed, ...]
    graph: SceneGraph
    key: tuple[object, ...]


def sample_scene(*key: object, moving: bool = False, words: Words = SCENES) -> Scene:
    """Return the scene of a key such as (version, split, index): a pure function. It holds what `words` can say."""
    stream = Stream("layout", *key)
    background = stream.choice(tuple(words.backgrounds))
    layout = stream.weighted(LAYOUTS if not moving else {"one": 0.6, "row": 0.2, "column": 0.2})
    palette = [colour for colour in words.colours if colour not in HIDDEN[background]]
    placed: list[Placed] = []
    if layout.startswith("inside"):
        placed, regions = _container(stream, words, palette, layout == "inside_and")
    else:
        regions = _regions(stream, layout)
    for region in regions:
        colours = [colour for colour in palette if all(colour != other.item.colour for other in placed)]
        sign_allowed = all(other.item.shape != "sign" for other in placed)
        placed.append(_entity(stream, words, region, colours, sign_allowed))
    placed = stream.shuffled(placed)
    relations: tuple[Relation, ...] = ()
    if moving:  # places and relations change on the way, so a moving scene states neither
        placed = [replace(one, item=replace(one.item, motion=stream.choice(tuple(STEPS)))) for one in placed]
    else:
        placed = [replace(one, item=replace(one.item, place=place_of(one.box))) for one in placed]
        relations = _relations(placed)
    graph = SceneGraph(objects=tuple(one.item for one in placed), relations=relations, background=background)
    return Scene(placed=tuple(placed), graph=graph, key=key)


def _regions(stream: Stream, layout: str) -> list[Box]:
    """Cut the picture into one, two or three regions."""
    low, high = 0.03, 0.97
    cut = stream.uniform(0.47, 0.53)
    if layout == "one":
        return [(low, low, high, high)]
    if layout == "row":
        return [(low, 0.14, cut, 0.86), (cut, 0.14, high, 0.86)]
    if layout == "column":
        return [(0.14, low, 0.86, cut), (0.14, cut, 0.86, high)]
    other = stream.uniform(0.47, 0.53)
    wide = stream.choice(("left", "right", "top", "bottom"))
    near, far = ((low, cut), (cut, high)) if wide in ("left", "top") else ((cut, high), (low, cut))
    if wide in ("left", "right"):
        return [(near[0], 0.2, near[1], 0.8), (far[0], low, far[1], other), (far[0], other, far[1], high)]
    return [(0.2, near[0], 0.8, near[1]), (low, far[0], other, far[1]), (other, far[0], high, far[1])]


def _known(weights: Mapping[str, float], names: Container[str]) -> dict[str, float]:
    """Return the weights of what a world has."""
    return {name: weight for name, weight in weights.items() if name in names}


def _container(stream: Stream, words: Words, palette: list[str], with_third: bool) -> tuple[list[Placed], list[Box]]:
    """Return a large hollow-looking object with a smaller one in it, and the regions that are left."""
    radius = CONTAINER_RADIUS * stream.uniform(0.98, 1.03)
    left, right, regions = radius + 0.03, 0.97 - radius, []
    if with_third:  # the third thing takes a strip on one side
        left_side = stream.chance(0.5)
        edge = 0.05 + 2 * radius
        regions = [(1 - 0.97, 0.2, 1 - edge, 0.8)] if left_side else [(edge, 0.2, 0.97, 0.8)]
        left = right = 1 - 0.03 - radius if left_side else 0.03 + radius
    top, bottom = (0.42, 0.58) if with_third else (radius + 0.03, 0.97 - radius)
    x, y = _snap(stream.uniform(left, right), left, right), _snap(stream.uniform(top, bottom), top, bottom)
    colours = stream.shuffled(palette)
    shape = stream.weighted(_known(CONTAINERS, words.shapes))
    outer = SceneObject(shape=shape, count=1, size="large", colour=colours[0], texture="plain")
    size = stream.weighted({"small": 0.6, "medium": 0.4})
    inner_shape = stream.choice([name for name in words.shapes if name not in (shape, *HOLLOW)])
    texture = stream.weighted(_known(TEXTURES, words.textures))
    inner = SceneObject(shape=inner_shape, count=1, size=size, colour=colours[1], texture=texture)
    inner_radius = RADIUS[size] * stream.uniform(0.97, 1.03)
    return [_single(outer, x, y, radius, _tilt(stream)), _single(inner, x, y, inner_radius, _tilt(stream))], regions


def _entity(stream: Stream, words: Words, region: Box, colours: list[str], sign: bool) -> Placed:
    """Sample an object or a group that fits into a region."""
    width, height = region[2] - region[0], region[3] - region[1]
    colour = stream.choice(colours)
    if sign and width >= SIGN_SIZE[0] - 0.02 and stream.chance(0.05):
        word = stream.choice(WORDS)
        item = SceneObject(shape="sign", count=1, size="medium", colour=colour, texture="plain", word=word)
        half_width, half_height = min(SIGN_SIZE[0], width - 0.005) / 2, SIGN_SIZE[1] / 2
        x, y = _spot(stream, region, half_width, half_height)
        box = _box(x, y, half_width, half_height)
        return Placed(item=item, centres=((x, y),), radius=half_width, angle=0.0, box=box)
    shape = stream.choice(tuple(words.shapes))
    count, size = stream.weighted(COUNTS), stream.weighted(SIZES)
    if count > 1 and size == "large":
        size = "medium"
    texture = stream.weighted(_known(TEXTURES, words.textures))
    angle, scale = _tilt(stream), stream.uniform(0.97, 1.03)
    sizes = (size, "small" if size == "medium" else "medium")
    for size in sizes:
        if grids := _grids(count, RADIUS[size] * scale, width, height):
            break
    else:
        count, size, grids = 1, "small", [(1, 1)]
    rows, columns = stream.choice(grids)
    radius = RADIUS[size] * scale
    pitch = 2 * radius + GAP
    half_width, half_height = radius + (columns - 1) * pitch / 2, radius + (rows - 1) * pitch / 2
    x, y = _spot(stream, region, half_width, half_height)
    item = SceneObject(shape=shape, count=count, size=size, colour=colour, texture=texture)
    centres = _members(count, rows, columns, pitch, x, y)
    return Placed(item=item, centres=centres, radius=radius, angle=angle, box=_box(x, y, half_width, half_height))


def _grids(count: int, radius: float, width: float, height: float) -> list[tuple[int, int]]:
    """Return the (rows, columns) in which a group fits."""
    half = math.ceil(count / 2)
    pitch = 2 * radius + GAP
    options = dict.fromkeys([(1, count), (count, 1), (2, half), (half, 2)] if count > 1 else [(1, 1)])
    return [(r, c) for r, c in options if r * pitch - GAP <= height and c * pitch - GAP <= width and r * c >= count]


def _members(count: int, rows: int, columns: int, pitch: float, x: float, y: float) -> tuple[tuple[float, float], ...]:
    """Return the centres of a group around (x, y); a last row that is not full is centred."""
    centres = []
    for row in range(rows):
        inside = min(columns, count - row * columns)
        for column in range(inside):
            centres.append((x + (column - (inside - 1) / 2) * pitch, y + (row - (rows - 1) / 2) * pitch))
    return tuple(centres)


def _spot(stream: Stream, region: Box, half_width: float, half_height: float) -> tuple[float, float]:
    """Return a centre for something of this size in a region, on the grid where the region holds a grid point."""
    left, right = region[0] + half_width, region[2] - half_width
    top, bottom = region[1] + half_height, region[3] - half_height
    return _snap(stream.uniform(left, right), left, right), _snap(stream.uniform(top, bottom), top, bottom)


def _snap(value: float, low: float, high: float) -> float:
    snapped = round(value / GRID) * GRID
    return snapped if low <= snapped <= high else value


def _single(item: SceneObject, x: float, y: float, radius: float, angle: float) -> Placed:
    return Placed(item=item, centres=((x, y),), radius=radius, angle=angle, box=_box(x, y, radius, radius))


def _box(x: float, y: float, half_width: float, half_height: float) -> Box:
    return x - half_width, y - half_height, x + half_width, y + half_height


def _tilt(stream: Stream) -> float:
    return stream.uniform(-0.08, 0.08)  # about 5 degrees


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def place_of(box: Box) -> str:
    """Return which of nine cells the centre of a box lies in."""
    x, y = _centre(box)
    row = "top" if y < 0.39 else "bottom" if y > 0.61 else ""
    column = "left" if x < 0.39 else "right" if x > 0.61 else ""
    return f"{row} {column}".strip() or "middle"


def _relations(placed: list[Placed]) -> tuple[Relation, ...]:
    """Read the relations off the boxes: containment first, else the axis that clearly dominates."""
    found = []
    for i, j in itertools.combinations(range(len(placed)), 2):
        first, second = placed[i].box, placed[j].box
        (ax, ay), (bx, by) = _centre(first), _centre(second)
        dx, dy = bx - ax, by - ay
        apart_x = max(first[0], second[0]) >= min(first[2], second[2])
        apart_y = max(first[1], second[1]) >= min(first[3], second[3])
        if _holds(first, second) or _holds(second, first):
            pair, predicate = ((j, i) if _holds(first, second) else (i, j)), "inside"
        elif apart_x and abs(dx) > DOMINANT * abs(dy):
            pair, predicate = ((i, j) if dx > 0 else (j, i)), "left of"
        elif apart_y and abs(dy) > DOMINANT * abs(dx):
            pair, predicate = ((i, j) if dy > 0 else (j, i)), "above"
        else:
            continue
        found.append(Relation(subject=pair[0], predicate=predicate, object=pair[1]))
    return tuple(found)


def _holds(outer: Box, inner: Box) -> bool:
    return outer[0] < inner[0] and outer[1] < inner[1] and outer[2] > inner[2] and outer[3] > inner[3]


def at_time(scene: Scene, time: float) -> Scene:
    """Return a moving scene at a time from 0 (first frame) to 1 (last); objects pass their place at 0.5."""
    placed = []
    for one in scene.placed:
        step = STEPS[one.item.motion or "still"]
        dx, dy = (axis * TRAVEL * (time - 0.5) for axis in step)
        centres = tuple((x + dx, y + dy) for x, y in one.centres)
        box = (one.box[0] + dx, one.box[1] + dy, one.box[2] + dx, one.box[3] + dy)
        placed.append(replace(one, centres=centres, box=box))
    return replace(scene, placed=tuple(placed))
